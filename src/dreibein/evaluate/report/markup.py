"""Pieces of the page: everything that enters as text is escaped here."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dreibein.evaluate.errors import UNIT_TEXT, metric_name
from dreibein.evaluate.report.formats import whole

METRIC_WORDS = {
    metric_name(quantity, statistic): f"{quantity.replace('_', ' ')} {statistic.upper()}, {unit}"
    for quantity, unit in UNIT_TEXT.items()
    for statistic in ("mae", "rmse")
}

Spec = dict[str, Any]  # a Plotly figure: {"data": [...], "layout": {...}}


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        id: Anchor.
        title: Heading.
        body: HTML; empty when there is nothing to show.
        missing: One line, said instead of an empty body, on how to get it.
        command: The command of that line.
    """

    id: str
    title: str
    body: str = ""
    missing: str = ""
    command: str = ""

    def render(self) -> str:
        """The section as HTML."""
        if self.body:
            inner = self.body
        else:
            command = f" <code>{text(self.command)}</code>" if self.command else ""
            inner = f'<p class="missing">{text(self.missing)}{command}</p>'
        kind = "" if self.body else ' class="empty"'
        return f'<section id="{text(self.id)}"{kind}><h2>{text(self.title)}</h2>{inner}</section>\n'


@dataclass(frozen=True)
class Card:
    """One main number."""

    label: str
    value: str
    unit: str = ""
    detail: str = ""


@dataclass
class Table:
    """Rows of cells; numbers are aligned to the right.

    Attributes:
        header: Column titles.
        rows: Cells: text is escaped, `Markup` is not.
        numeric: Columns to align to the right; by default all but the first.
    """

    header: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)
    numeric: Sequence[int] | None = None

    def render(self, *, css: str = "") -> str:
        """The table as HTML."""
        right = set(range(1, len(self.header)) if self.numeric is None else self.numeric)

        def cell(tag: str, column: int, value: Any) -> str:
            kind = ' class="number"' if column in right else ""
            return f"<{tag}{kind}>{text(value)}</{tag}>"

        head = "".join(cell("th", k, title) for k, title in enumerate(self.header))
        body = "".join(
            "<tr>" + "".join(cell("td", k, value) for k, value in enumerate(row)) + "</tr>"
            for row in self.rows
        )
        return (
            f'<div class="scroll"><table class="{text(css)}"><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )


class Markup(str):
    """Text that is HTML already."""


def text(value: Any) -> str:
    """Escape anything but `Markup`.

    >>> text("<b>"), text(Markup("<b>"))
    ('&lt;b&gt;', '<b>')
    """
    return str(value) if isinstance(value, Markup) else html.escape(str(value))


def as_json(value: Any) -> str:
    r"""JSON that may stand inside a script element: `<` is written as an escape.

    >>> print(as_json({"a": "</script>"}))
    {"a":"\u003c/script>"}
    """
    found = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return found.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def figure(name: str, title: str, spec: Spec, *, height: int, caption: str = "") -> Markup:
    """A place for a Plotly figure, which the page's script draws.

    Args:
        name: Unique id.
        title: Heading; in HTML, so that it never runs into a legend.
        spec: The figure.
        height: In CSS pixels; kept before and after drawing, so nothing jumps.
        caption: A line below.
    """
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return Markup(
        f'<figure class="plot" id="fig-{text(name)}"><h4>{text(title)}</h4>'
        f'<div class="canvas" style="height:{height}px"></div>'
        f'<script type="application/json">{as_json(spec)}</script>{below}</figure>'
    )


def grid(*parts: str, min_width: int = 470) -> Markup:
    """Parts side by side while each has `min_width` pixels."""
    cells = "".join(f"<div>{part}</div>" for part in parts)
    return Markup(f'<div class="grid" style="--min:{min_width}px">{cells}</div>')


def paragraph(*parts: Any, css: str = "") -> Markup:
    """A paragraph; parts that are not `Markup` are escaped."""
    return Markup(f'<p class="{text(css)}">{"".join(text(part) for part in parts)}</p>')


def pill(status: str, label: str | None = None) -> Markup:
    """A small colored word for a status."""
    css = status.replace(" ", "-")
    return Markup(f'<span class="pill {text(css)}">{text(label or status)}</span>')


def cards(items: Sequence[Card]) -> Markup:
    """The row of main numbers."""
    inner = "".join(
        f'<div class="card"><div class="label">{text(c.label)}</div><div class="value">'
        f'{text(c.value)}<span class="unit">{text(c.unit)}</span></div>'
        f'<div class="detail">{text(c.detail)}</div></div>'
        for c in items
    )
    return Markup(f'<div class="cards">{inner}</div>')


def details(title: str, body: str, *, is_open: bool = False) -> Markup:
    """A part that opens on a click."""
    state = " open" if is_open else ""
    return Markup(f"<details{state}><summary>{text(title)}</summary>{text(body)}</details>")


def tree(value: Any) -> Markup:
    """A nested record as a list of definitions.

    >>> tree({"energy": {"unit": "eV"}})
    '<dl><dt>energy</dt><dd><dl><dt>unit</dt><dd>eV</dd></dl></dd></dl>'
    """
    if isinstance(value, Mapping):
        inner = "".join(
            f"<dt>{text(in_words(str(k)))}</dt><dd>{tree(v)}</dd>"
            for k, v in value.items()
            if v not in (None, "", [], {})
        )
        return Markup(f"<dl>{inner}</dl>")
    if isinstance(value, list | tuple):
        if all(not isinstance(v, Mapping | list | tuple) for v in value):
            return Markup(text(", ".join(plain(v) for v in value)))
        return Markup("".join(f"<div>{tree(v)}</div>" for v in value))
    return Markup(text(plain(value)))


def in_words(name: str) -> str:
    """A key in words: an error with its unit, else without underscores."""
    return METRIC_WORDS.get(name.removeprefix("val_")) or name.replace("_", " ")


def plain(value: Any) -> str:
    """A number, flag or word in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return whole(value) if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.7g}"
    return str(value)
