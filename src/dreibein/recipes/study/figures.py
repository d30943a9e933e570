"""Figures of a study as small SVG files: dots with ranges, curves, and errors against costs."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dreibein.evaluate.report.figures import log_ticks
from dreibein.evaluate.report.formats import digits

COLORS = ("#2f6fde", "#e07b22", "#1a9c86", "#8257d6", "#d6453d", "#8d9a1f", "#d0508f", "#96693f")
INK, FAINT = "#1c2430", "#d5dae2"
ROW, LETTER = 20, 6.6  # px: height of a row of dots, width of a letter at 12 px
PANEL, GAP, TOP, BOTTOM = 210, 34, 30, 34
Point = tuple[float, float, float]
"""Mean, smallest, largest."""


@dataclass(frozen=True)
class Panel:
    """One column of a dot plot: a value, or None, for each row."""

    title: str
    points: Sequence[Point | None]


class Axis:
    """Numbers to pixels, linear from zero or logarithmic."""

    def __init__(self, values: Sequence[float], start: float, stop: float, log: bool) -> None:
        self.start, self.stop, self.log = start, stop, log
        if log:
            low, high = math.log10(min(values)), math.log10(max(values))
            margin = max(0.05, 0.08 * (high - low))
            self.low, self.high = low - margin, high + margin
            self.ticks = log_ticks(self.low, self.high)
        else:
            self.low, self.high = 0.0, 1.08 * max([*values, 1e-12])
            step = _nice(self.high / 4)
            self.ticks = [k * step for k in range(int(self.high / step) + 1)]

    def __call__(self, value: float) -> float:
        """Pixels of a value."""
        number = math.log10(value) if self.log else value
        share = (number - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 1)


def dots(labels: Sequence[str], panels: Sequence[Panel]) -> str:
    """A row for each label, a column for each panel: the mean, and a bar over the seeds."""
    left = 16 + LETTER * max(len(label) for label in labels)
    bottom = TOP + ROW * len(labels)
    body = [_text(left - 10, _row(k), label, "end") for k, label in enumerate(labels)]
    for column, panel in enumerate(panels):
        start = left + column * (PANEL + GAP)
        values = [number for point in panel.points if point for number in point]
        axis = Axis(values or [1.0], start, start + PANEL, log=False)
        body.append(_text(start, 16, panel.title, weight="600"))
        body += [_line(axis(tick), TOP, axis(tick), bottom, FAINT) for tick in axis.ticks]
        body += [_text(axis(t), bottom + 16, _tick(t), "middle") for t in axis.ticks]
        for k, point in enumerate(panel.points):
            if point is not None:
                mean, low, high = (axis(number) for number in point)
                color = COLORS[column % len(COLORS)]
                body.append(_line(low, _row(k) - 4, high, _row(k) - 4, color, 2))
                body.append(_dot(mean, _row(k) - 4, color))
    return _svg(left + len(panels) * (PANEL + GAP), bottom + BOTTOM - 8, body)


def curves(lines: Mapping[str, Mapping[str, Sequence[tuple[float, Point]]]], across: str) -> str:
    """Panels by title, each of lines by label: (x, mean and range), both axes logarithmic."""
    width, height, left = 300, 240, 56
    body, labels = [], list(dict.fromkeys(label for panel in lines.values() for label in panel))
    for column, (title, panel) in enumerate(lines.items()):
        start = left + column * (width + left)
        xs = [x for line in panel.values() for x, _ in line]
        ys = [number for line in panel.values() for _, point in line for number in point]
        x, y = Axis(xs, start, start + width, log=True), Axis(ys, TOP + height, TOP, log=True)
        body.append(_text(start, 16, title, weight="600"))
        body += _grid(x, y, sorted(set(xs)))
        body.append(_text(start + width / 2, TOP + height + 34, across, "middle"))
        for label, line in panel.items():
            color = COLORS[labels.index(label) % len(COLORS)]
            path = " ".join(f"{x(a)},{y(p[0])}" for a, p in sorted(line))
            body.append(f'<polyline points="{path}" fill="none" stroke="{color}"/>')
            for a, point in line:
                body.append(_line(x(a), y(point[1]), x(a), y(point[2]), color, 2))
                body.append(_dot(x(a), y(point[0]), color))
    right = left + len(lines) * (width + left) - 30
    for k, label in enumerate(labels):
        body.append(_dot(right, TOP + 10 + ROW * k, COLORS[k % len(COLORS)]))
        body.append(_text(right + 10, TOP + 14 + ROW * k, label))
    letters = max((len(label) for label in labels), default=0)
    return _svg(right + 26 + LETTER * letters, TOP + height + 44, body)


def scatter(
    groups: Mapping[str, Sequence[tuple[str, float, Point]]], across: str, title: str
) -> str:
    """Labeled points (label, x, mean and range) in colors of their groups; x logarithmic."""
    width, height, left = 620, 380, 56
    points = [point for group in groups.values() for point in group]
    x = Axis([p[1] for p in points], left, left + width, log=True)
    y = Axis([number for p in points for number in p[2]], TOP + height, TOP, log=True)
    body = [_text(left, 16, title, weight="600"), *_grid(x, y, x.ticks)]
    body.append(_text(left + width / 2, TOP + height + 34, across, "middle"))
    taken: list[tuple[float, float, float]] = []
    for k, (name, group) in enumerate(groups.items()):
        color = COLORS[k % len(COLORS)]
        body.append(_dot(left + width + 20, TOP + 10 + ROW * k, color))
        body.append(_text(left + width + 30, TOP + 14 + ROW * k, name))
        for label, cost, point in sorted(group, key=lambda p: p[2][0]):
            a, b = x(cost), y(point[0])
            body.append(_line(a, y(point[1]), a, y(point[2]), color, 2))
            body.append(_dot(a, b, color))
            body.append(_text(a + 7, _free(taken, a + 7, b + 4, label), label, color=color))
    letters = max(len(name) for name in groups)
    return _svg(left + width + 46 + LETTER * letters, TOP + height + 44, body)


def _free(taken: list[tuple[float, float, float]], a: float, b: float, label: str) -> float:
    """The height nearest to b at which a label meets none of those taken; it is taken then."""
    end = a + LETTER * len(label)
    for shift in (0, -11, 11, -22, 22, -33, 33, -44, 44):
        if all(abs(b + shift - y) >= 11 or end < x or a > stop for x, stop, y in taken):
            break
    taken.append((a, end, b + shift))
    return b + shift


def _grid(x: Axis, y: Axis, ticks: Sequence[float]) -> list[str]:
    body = [_line(x(t), y.start, x(t), y.stop, FAINT) for t in ticks]
    body += [_text(x(t), y.start + 16, _tick(t), "middle") for t in ticks]
    body += [_line(x.start, y(t), x.stop, y(t), FAINT) for t in y.ticks]
    return body + [_text(x.start - 6, y(t) + 4, _tick(t), "end") for t in y.ticks]


def _row(k: int) -> float:
    return TOP + ROW * k + 14


def _nice(step: float) -> float:
    """The next larger of 1, 2, 5 times a power of ten.

    >>> _nice(0.3), _nice(7.0)
    (0.5, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(step))
    return float(f"{next(m * power for m in (1, 2, 5, 10) if m * power >= step * 0.999):.12g}")


def _tick(value: float) -> str:
    return f"{value:,g}" if value == 0 or 1e-4 <= value < 1e6 else digits(value, 1)


def _line(a: float, b: float, c: float, d: float, color: str, width: float = 1) -> str:
    ends = f'x1="{a:g}" y1="{b:g}" x2="{c:g}" y2="{d:g}"'
    return f'<line {ends} stroke="{color}" stroke-width="{width:g}"/>'


def _dot(a: float, b: float, color: str) -> str:
    return f'<circle cx="{a:g}" cy="{b:g}" r="4" fill="{color}"/>'


def _text(
    a: float, b: float, words: str, anchor: str = "start", *, weight: str = "", color: str = INK
) -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    place = f'x="{a:g}" y="{b:g}" text-anchor="{anchor}" fill="{color}"{bold}'
    return f"<text {place}>{html.escape(words)}</text>"


def _svg(width: float, height: float, body: Sequence[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return "\n".join((
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>', *body, "</svg>", "",
    ))  # fmt: skip
