"""Parts that the figures share; colors written `var(--…)` are resolved by the page's theme."""

import colorsys
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.data.colors import jmol_colors

from dreibein.evaluate.report.formats import digits
from dreibein.evaluate.report.markup import Spec

Array = np.ndarray[Any, Any]

BLUE, ORANGE, TEAL, RED, PURPLE = (
    "var(--blue)",
    "var(--orange)",
    "var(--teal)",
    "var(--red)",
    "var(--purple)",
)
MUTED, INK = "var(--muted)", "var(--ink)"
SERIES = (BLUE, ORANGE, TEAL, PURPLE, RED, "var(--olive)", "var(--pink)", "var(--brown)")
# Elements whose usual color vanishes on white or black, or that must not look alike.
PLOT_COLORS = {1: "#5fb3c8", 6: "#6b7686", 14: "#c08a2d"}


def element_color(z: int) -> str:
    """Color of an element in plots: its usual hue at a lightness seen on white and on black.

    >>> element_color(8)
    '#db3131'
    """
    if z in PLOT_COLORS:
        return PLOT_COLORS[z]
    hue, light, saturation = colorsys.rgb_to_hls(*(float(c) for c in jmol_colors[z]))
    rgb = colorsys.hls_to_rgb(hue, min(max(light, 0.42), 0.56), min(saturation, 0.7))
    return "#" + "".join(f"{round(255 * c):02x}" for c in rgb)


def ball_color(z: int) -> str:
    """Color of an element in 3D, as chemists paint it.

    >>> ball_color(8)
    '#ff0d0d'
    """
    if z == 1:
        return "#e6e9ed"  # white would vanish on white
    return "#" + "".join(f"{round(255 * c):02x}" for c in jmol_colors[z])


def symbol(z: int) -> str:
    """Chemical symbol."""
    return chemical_symbols[z]


def rounded(values: Any, count: int = 5) -> list[float | None]:
    """Numbers with `count` significant digits for the page; None (a gap) where not finite.

    >>> rounded([1.23456789, float("nan")])
    [1.2346, None]
    """
    array = np.asarray(values, dtype=float).ravel()
    finite = np.isfinite(array)
    return [float(f"{x:.{count}g}") if ok else None for x, ok in zip(array, finite, strict=True)]


def axis(title: str, **more: Any) -> Spec:
    """An axis with a title."""
    return {"title": {"text": title}, **more}


def log_axis(title: str, values: Sequence[Any], **more: Any) -> Spec:
    """A logarithmic axis over the values, with ticks that read as plain numbers."""
    finite = np.concatenate([np.asarray(v, dtype=float).ravel() for v in values])
    finite = finite[np.isfinite(finite) & (finite > 0)]
    if not len(finite):
        return axis(title, **more)
    low, high = float(np.log10(finite.min())), float(np.log10(finite.max()))
    margin = max(0.04, 0.05 * (high - low))
    low, high = low - margin, high + margin
    ticks = log_ticks(low, high)
    return axis(
        title,
        type="log",
        range=[low, high],
        tickvals=ticks,
        ticktext=[_tick(t) for t in ticks],
        **more,
    )


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks between 10^low and 10^high: few digits over few decades, powers of ten over many.

    >>> log_ticks(-0.1, 1.1)
    [1.0, 2.0, 5.0, 10.0]
    """
    span = high - low
    mantissas: tuple[float, ...] = (1,)
    if span < 2.2:
        mantissas = (1, 2, 5) if span > 0.7 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    step = max(1, round(span / 6))
    powers = range(math.floor(low), math.ceil(high) + 1)
    found = [float(f"{m}e{p}") for p in powers if p % step == 0 for m in mantissas]
    return [t for t in found if low <= math.log10(t) <= high]


def _tick(value: float) -> str:
    if 1e-3 <= value < 1e5:
        return f"{value:,g}"
    return digits(value, 1).removeprefix("1×")


def thin(x: Array, limit: int) -> Array:
    """Indices of at most `limit` evenly spread points, first and last included."""
    if len(x) <= limit:
        return np.arange(len(x))
    return np.unique(np.linspace(0, len(x) - 1, limit).round().astype(int))


def sample(error: Array, limit: int, *, keep: int, seed: int = 0) -> Array:
    """Indices of at most `limit` points: the `keep` largest errors and a random choice of the rest.

    Args:
        error: Absolute errors [n].
        limit: Most points.
        keep: Of them, how many of the largest errors.
        seed: Of the choice.
    """
    if len(error) <= limit:
        return np.arange(len(error))
    order = np.argsort(-error, kind="stable")
    rest = np.random.default_rng(seed).choice(order[keep:], limit - keep, replace=False)
    return np.sort(np.concatenate([order[:keep], rest]))


def diagonal(low: float, high: float, **more: Any) -> Spec:
    """The line prediction = reference."""
    return {
        "type": "scatter",
        "x": [low, high],
        "y": [low, high],
        "mode": "lines",
        "line": {"color": MUTED, "width": 1, "dash": "dot"},
        "hoverinfo": "skip",
        "showlegend": False,
        **more,
    }
