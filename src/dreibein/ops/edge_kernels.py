"""Sums over neighbors with tabulated filters, compiled: nothing is kept per edge and channel.

Features have nine components (1 + 3 + 5) per atom and channel; p(a) is the part of component a.
With the six taps w_e of an edge e = (i <- j) and a table c of control points,

    g_p(e) = sum_t w_et c[k_e + t, p]        the filter of part p (its slope g' with the slopes w')

    message       M_i = g(0) Y_i + sum_e g(e) Y_j
    message_back  A_i = B_i + sum_e g(e) M_j,   d_e += sum_f g'(e) · (Y_i M_j)
    embed         X_i = loop + sum_e h_e Z_e g(e)
    embed_back    t_e = sum_f Z_e (g'(e) · h_e X_i,  g(e) X_i)

`message_back` relies on g(i <- j) = g(j <- i): the gradient that atom i collects comes from the
same neighbors that it listened to, and d_e is the slope of the opposite edge's message. The arrays
are those of `Edges`.
"""

from typing import Any, NamedTuple

import numpy as np

from dreibein.ops.lanes import Array, Integer, Lanes, Variable, Vector, lane_kernel
from dreibein.ops.splines import TAPS

PART = (0, 1, 1, 1, 2, 2, 2, 2, 2)
"""Part (I, A or S) of each of the nine components."""


class Edges(NamedTuple):
    """Edges of receivers i, sorted by i; those of i are start[i] ... stop[i].

    Attributes:
        start: First edge of each receiver [N].
        stop: One past its last edge [N].
        sender: Sender j [E] int32.
        base: First control point [E] int32.
        taps: Weights of the control points [E, 6], the envelope included.
        slopes: Their derivatives with respect to the distance [E, 6].
        harmonics: Nine numbers of the direction [E, 9].
        unit: Direction x_i - x_j over the distance [E, 3].
        inverse: One over the distance [E].
        gradient: dE/d(distance) [E], collected on the way back.
        pull: dE/d(x_i - x_j) [E, 3].
    """

    start: np.ndarray[Any, Any]
    stop: np.ndarray[Any, Any]
    sender: np.ndarray[Any, Any]
    base: np.ndarray[Any, Any]
    taps: np.ndarray[Any, Any]
    slopes: np.ndarray[Any, Any]
    harmonics: np.ndarray[Any, Any]
    unit: np.ndarray[Any, Any]
    inverse: np.ndarray[Any, Any]
    gradient: np.ndarray[Any, Any]
    pull: np.ndarray[Any, Any]


def _filters(weights: list[Vector], table: Array, base: Integer, channel: Integer) -> list[Vector]:
    """g_I, g_A, g_S of one edge on the lanes of a channel."""
    parts = []
    for part in range(3):
        value = weights[0] * table.load(base, part, channel)
        for t in range(1, TAPS):
            value = value + weights[t] * table.load(base + t, part, channel)
        parts.append(value)
    return parts


def _filters_and_slopes(
    taps: list[Vector], slopes: list[Vector], table: Array, base: Integer, channel: Integer
) -> tuple[list[Vector], list[Vector]]:
    """The same, and the slopes with respect to the distance, from one reading of the table."""
    values, derivatives = [], []
    for part in range(3):
        control = table.load(base, part, channel)
        value, slope = taps[0] * control, slopes[0] * control
        for t in range(1, TAPS):
            control = table.load(base + t, part, channel)
            value, slope = value + taps[t] * control, slope + slopes[t] * control
        values.append(value)
        derivatives.append(slope)
    return values, derivatives


def _splats(array: Array, edge: Integer) -> list[Vector]:
    return [array.splat(edge, t) for t in range(TAPS)]


def _store(sums: list[Variable], out: Array, row: Integer, channel: Integer) -> None:
    for a, total in enumerate(sums):
        out.store(total.value, row, a, channel)


@lane_kernel
def message(
    lanes: Lanes, out: Array, table: Array, y: Array, here: Array, edges: Any, i: Integer, row: Integer, c: Integer,
) -> None:  # fmt: skip
    """out[row] = here · y_i + sum_e g(e) y_j on the lanes of channel c."""
    sums = [lanes.variable(here.load(PART[a], c) * y.load(i, a, c)) for a in range(9)]
    with lanes.loop(edges.start.integer(i), edges.stop.integer(i)) as e:
        j = edges.sender.integer(e)
        g = _filters(_splats(edges.taps, e), table, edges.base.integer(e), c)
        for a, total in enumerate(sums):
            total.add(g[PART[a]] * y.load(j, a, c))
    _store(sums, out, row, c)


@lane_kernel
def message_back(
    lanes: Lanes, out: Array, table: Array, before: Array, m: Array, y: Array, edges: Any,
    i: Integer, row: Integer, rows: Integer, c: Integer,
) -> None:  # fmt: skip
    """out[a · rows + row] = before_i + sum_e g(e) m_j; gradient_e += sum g'(e) · (y_i m_j)."""
    sums = [lanes.variable(before.load(i, a, c)) for a in range(9)]
    mine = [y.load(i, a, c) for a in range(9)]
    with lanes.loop(edges.start.integer(i), edges.stop.integer(i)) as e:
        j = edges.sender.integer(e)
        weights, tilts = _splats(edges.taps, e), _splats(edges.slopes, e)
        g, slope = _filters_and_slopes(weights, tilts, table, edges.base.integer(e), c)
        dots: list[Vector | None] = [None, None, None]
        for a, total in enumerate(sums):
            other, part = m.load(j, a, c), PART[a]
            total.add(g[part] * other)
            product, so_far = mine[a] * other, dots[part]
            dots[part] = product if so_far is None else so_far + product
        total_slope = slope[0] * dots[0] + slope[1] * dots[1] + slope[2] * dots[2]
        edges.gradient.accumulate(total_slope, e)
    for a, total in enumerate(sums):
        out.store(total.value, rows * a + row, c)


@lane_kernel
def embed(
    lanes: Lanes, out: Array, norm: Array, table: Array, pairs: Array, loops: Array,
    edges: Any, kind: Array, kinds: Integer, i: Integer, row: Integer, rows: Integer, c: Integer,
) -> None:  # fmt: skip
    """out[a · rows + row] = loop + sum_e h_e Z_e g(e); norm[row] = sum_a out^2.

    `kind` is the element of each atom, `pairs` [kinds^2, F] holds Z, `loops` [kinds, F] what an
    atom adds to its own scalar part.
    """
    mine = kind.integer(i)
    sums = [lanes.variable(loops.load(mine, c) if a == 0 else 0.0) for a in range(9)]
    with lanes.loop(edges.start.integer(i), edges.stop.integer(i)) as e:
        g = _filters(_splats(edges.taps, e), table, edges.base.integer(e), c)
        z = pairs.load(mine * kinds + kind.integer(edges.sender.integer(e)), c)
        g = [z * part for part in g]
        for a, total in enumerate(sums):
            total.add(edges.harmonics.splat(e, a) * g[PART[a]])
    square = sums[0].value * sums[0].value
    for total in sums[1:]:
        square = square + total.value * total.value
    norm.store(square, row, c)
    for a, total in enumerate(sums):
        out.store(total.value, rows * a + row, c)


@lane_kernel
def embed_back(
    lanes: Lanes, out: Array, x: Array, table: Array, pairs: Array, edges: Any, e: Integer, pair: Integer, row: Integer, rows: Integer,
    channels: Integer,
) -> None:  # fmt: skip
    """out[0] = dE/d(distance), out[1 ... 8] = dE/dh_e, from dE/dX in rows a · rows + row of x."""
    sums = [lanes.variable() for _ in range(9)]
    weights, tilts, first = _splats(edges.taps, e), _splats(edges.slopes, e), edges.base.integer(e)
    with lanes.loop(0, channels, lanes.size) as c:
        g, slope = _filters_and_slopes(weights, tilts, table, first, c)
        z = pairs.load(pair, c)
        g, slope = [z * part for part in g], [z * part for part in slope]
        tilt: list[Vector | None] = [None, None, None]
        for a in range(9):
            component, part = x.load(rows * a + row, c), PART[a]
            if a > 0:
                sums[a].add(g[part] * component)
            turned, so_far = edges.harmonics.splat(e, a) * component, tilt[part]
            tilt[part] = turned if so_far is None else so_far + turned
        sums[0].add(slope[0] * tilt[0] + slope[1] * tilt[1] + slope[2] * tilt[2])
    for a, total in enumerate(sums):
        out.put_total(total.value, a)
