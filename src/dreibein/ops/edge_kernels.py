"""Sums over neighbors with tabulated filters, compiled: nothing is kept per edge and channel.

Features have nine components (1 + 3 + 5) per atom and channel; p(a) is the part of component a.
With the six taps w_e of an edge e = (i <- j) and a table c of control points,

    g_p(e) = sum_t w_et c[k_e + t, p]        the filter of part p (its slope g' with the slopes w')

    message       M_i = g(0) Y_i + sum_e g(e) Y_j
    message_back  A_i = B_i + sum_e g(e) M_j,   d_e += sum_f g'(e) · (Y_i M_j)
    embed         X_i = loop + sum_e h_e Z_e g(e)
    embed_back    t_e = sum_f Z_e (g'(e) · h_e X_i,  g(e) X_i)

`message_back` relies on g(i <- j) = g(j <- i): the gradient that atom i collects comes from the
same neighbors that it listened to, and d_e is the slope of the opposite edge's message.

Channels come in chunks of as many as one instruction handles (V), and the chunk is the slowest
index: features are [chunks, N, 9, V], tables [chunks, knots, 3, V]. What a sum over neighbors
touches for one chunk then fits the cache, and a neighbor's nine numbers lie in one piece. Blocks of
atoms, [9 · rows, F] ordered by component, are matrices instead.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from dreibein.ops.lanes import Array, Integer, Lanes, Row, Vector, lane_kernel
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
        harmonics: Nine numbers of the direction [E, 9]; on the way back dE/d(distance) and dE/dh.
        unit: Direction x_i - x_j over the distance [E, 3].
        inverse: One over the distance [E].
        gradient: dE/d(distance) [E] through messages, collected on the way back.
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


def _filters(taps: Row, control: Row) -> list[Vector]:
    """g_I, g_A, g_S of one edge."""
    weights = [taps.splat(t) for t in range(TAPS)]
    return [
        sum((weights[t] * control.load(3 * t + p) for t in range(1, TAPS)),
            start=weights[0] * control.load(p))
        for p in range(3)
    ]  # fmt: skip


def _filters_and_slopes(taps: Row, slopes: Row, control: Row) -> tuple[list[Vector], list[Vector]]:
    """The same, and the slopes with respect to the distance, from one reading of the table."""
    weights = [(taps.splat(t), slopes.splat(t)) for t in range(TAPS)]
    values, derivatives = [], []
    for p in range(3):
        points = [control.load(3 * t + p) for t in range(TAPS)]
        value, slope = weights[0][0] * points[0], weights[0][1] * points[0]
        for (weight, tilt), point in zip(weights[1:], points[1:], strict=True):
            value, slope = value + weight * point, slope + tilt * point
        values.append(value)
        derivatives.append(slope)
    return values, derivatives


def part_dots(x: Sequence[Any], y: Sequence[Any]) -> list[Any]:
    """Sums over the components of I, A and S of x y, vectors or duals of them."""
    sums: list[Any] = [None, None, None]
    for part, one, other in zip(PART, x, y, strict=True):
        before = sums[part]
        sums[part] = one * other if before is None else before + one * other
    return [total for total in sums if total is not None]


@contextmanager
def _chunks_and_rows(lanes: Lanes, x: Array, rows: Integer) -> Iterator[tuple[Integer, Integer]]:
    """Loops over the chunks of features [chunks, ...], and over rows of atoms."""
    with lanes.loop(0, x.extent(0)) as chunk, lanes.loop(0, rows) as row:
        yield chunk, row


@lane_kernel
def message(
    lanes: Lanes, out: Array, table: Array, y: Array, here: Array, edges: Any, first: Integer,
    rows: Integer,
) -> None:  # fmt: skip
    """out_i = here · y_i + sum_e g(e) y_j for rows atoms i from the first on."""
    with _chunks_and_rows(lanes, y, rows) as (k, row):
        i = first + row
        mine, loop = y.row(k, i), here.row(k)
        sums = [lanes.variable(loop.load(PART[a]) * mine.load(a)) for a in range(9)]
        with lanes.loop(edges.start.integer(i), edges.stop.integer(i)) as e:
            theirs = y.row(k, edges.sender.integer(e))
            g = _filters(edges.taps.row(e), table.row(k, edges.base.integer(e)))
            for a, total in enumerate(sums):
                total.add(g[PART[a]] * theirs.load(a))
        result = out.row(k, i)
        for a, total in enumerate(sums):
            result.store(total.value, a)


@lane_kernel
def message_back(
    lanes: Lanes, out: Array, table: Array, before: Array, m: Array, y: Array, edges: Any,
    first: Integer, rows: Integer,
) -> None:  # fmt: skip
    """out[a · rows + row] = before_i + sum_e g(e) m_j; gradient_e += sum g'(e) · (y_i m_j)."""
    with _chunks_and_rows(lanes, y, rows) as (k, row):
        i = first + row
        start, mine = before.row(k, i), y.row(k, i)
        sums = [lanes.variable(start.load(a)) for a in range(9)]
        values = [mine.load(a) for a in range(9)]
        with lanes.loop(edges.start.integer(i), edges.stop.integer(i)) as e:
            theirs = m.row(k, edges.sender.integer(e))
            control = table.row(k, edges.base.integer(e))
            g, slope = _filters_and_slopes(edges.taps.row(e), edges.slopes.row(e), control)
            others = [theirs.load(a) for a in range(9)]
            for a, total in enumerate(sums):
                total.add(g[PART[a]] * others[a])
            dots = part_dots(values, others)
            tilt = slope[0] * dots[0] + slope[1] * dots[1] + slope[2] * dots[2]
            edges.gradient.accumulate(tilt, e)
        for a, total in enumerate(sums):
            out.store(total.value, rows * a + row, k * lanes.size)


@lane_kernel
def embed(
    lanes: Lanes, out: Array, norm: Array, all_x: Array, constants: Any, kind: Array, edges: Any,
    first: Integer, rows: Integer,
) -> None:  # fmt: skip
    """out[a · rows + row] = all_x_i = loop + sum_e h_e Z_e g(e); norm[row] = sum of squares.

    `kind` is the element of each atom; `constants` have `pairs` [chunks, kinds, kinds, V], which
    holds Z, `loops` [chunks, kinds, V], what an atom adds to its own scalar part, and `table`.
    """
    with _chunks_and_rows(lanes, all_x, rows) as (k, row):
        i = first + row
        mine = kind.integer(i)
        loop = constants.loops.row(k, mine).load(0)
        sums = [lanes.variable(loop if a == 0 else 0.0) for a in range(9)]
        with lanes.loop(edges.start.integer(i), edges.stop.integer(i)) as e:
            control = constants.table.row(k, edges.base.integer(e))
            g = _filters(edges.taps.row(e), control)
            theirs = kind.integer(edges.sender.integer(e))
            z = constants.pairs.row(k, mine, theirs).load(0)
            g, direction = [z * part for part in g], edges.harmonics.row(e)
            for a, total in enumerate(sums):
                total.add(direction.splat(a) * g[PART[a]])
        values, channel, kept = [total.value for total in sums], k * lanes.size, all_x.row(k, i)
        norm.store(sum((v * v for v in values[1:]), start=values[0] * values[0]), row, channel)
        for a, value in enumerate(values):
            out.store(value, rows * a + row, channel)
            kept.store(value, a)


@lane_kernel
def embed_back(
    lanes: Lanes, x: Array, constants: Any, kind: Array, edges: Any, first: Integer, rows: Integer
) -> None:
    """Put dE/d(distance), then dE/dh_e of the other eight, in the place of h_e.

    Args:
        lanes: Of the instructions.
        x: dE/dX of the atoms [rows, chunks, 9, V].
        constants: See `embed`.
        kind: Element of each atom.
        edges: `Edges`.
        first: First atom.
        rows: Number of atoms.
    """
    with lanes.loop(0, rows) as row:
        i = first + row
        mine = kind.integer(i)
        with lanes.loop(edges.start.integer(i), edges.stop.integer(i)) as e:
            sums = [lanes.variable() for _ in range(9)]
            taps, slopes, base = edges.taps.row(e), edges.slopes.row(e), edges.base.integer(e)
            direction = [edges.harmonics.row(e).splat(a) for a in range(9)]
            theirs = kind.integer(edges.sender.integer(e))
            with lanes.loop(0, x.extent(1)) as k:
                g, slope = _filters_and_slopes(taps, slopes, constants.table.row(k, base))
                z, gradient = constants.pairs.row(k, mine, theirs).load(0), x.row(row, k)
                values = [gradient.load(a) for a in range(9)]
                g = [z * part for part in g]
                for a in range(1, 9):
                    sums[a].add(g[PART[a]] * values[a])
                tilt = part_dots(direction, values)
                sums[0].add(z * (slope[0] * tilt[0] + slope[1] * tilt[1] + slope[2] * tilt[2]))
            for a, total in enumerate(sums):
                edges.harmonics.put_total(total.value, e, a)
