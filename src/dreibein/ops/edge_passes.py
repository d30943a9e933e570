"""Sums over neighbors for training, compiled, in both directions and with derivatives.

With the six taps w_e of an edge e = (i <- j), a table c of control points and p(a) the part of
component a, the filter of an edge is g_p(e) = sum_t w_et c[k_e + t, p], and

    message       M_i = o Y_i + sum_e g(e) Y_j
    embed         X_i = L_z(i) + sum_e h_e Z_e g(e)

Both are multilinear. A "back" takes gradients of the results to those of the edges' distances and
directions and of Y, added to what `out` holds; run on duals, the forward sums give derivatives in
a direction, and a "second" gives the derivative of the way back together with the gradients of the
tables. Features are arrays [9, N, F]. Nothing is kept per edge and channel.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numba
import numpy as np

from dreibein.ops.atom_kernels import dot
from dreibein.ops.atom_passes import PARTS, over_arrays
from dreibein.ops.duals import Dual
from dreibein.ops.edge_kernels import PART, part_dots
from dreibein.ops.lanes import Array, Integer, Lanes, Variable, Vector
from dreibein.ops.splines import TAPS

Numbers = list[Any]
Emit = Callable[..., None]


class _Reader:
    """Loads numbers from arrays; on duals every array is followed by its derivative."""

    def __init__(self, dual: bool) -> None:
        self.dual = dual

    def take(self, arrays: Sequence[Array], count: int) -> tuple[list[tuple[Array, ...]], int]:
        """The first `count` differentiated arrays, and how many arrays they take."""
        width = 2 if self.dual else 1
        return [tuple(arrays[k * width : (k + 1) * width]) for k in range(count)], count * width

    def channels(self, pair: tuple[Array, ...], i: Integer, c: Integer) -> Numbers:
        """Nine components of an atom."""
        return [self._join([x.load(a, i, c) for x in pair]) for a in range(9)]

    def splats(self, pair: tuple[Array, ...], e: Integer, count: int) -> Numbers:
        """Numbers of an edge."""
        return [self._join([x.splat(e, t) for x in pair]) for t in range(count)]

    def _join(self, values: list[Vector]) -> Any:
        return Dual(*values) if self.dual else values[0]

    def result(self, number: Any) -> Vector:
        """What is stored: the value, or the derivative."""
        return number.slope if self.dual else number


def _filters(taps: Numbers, table: Array, base: Integer, c: Integer) -> Numbers:
    """g_I, g_A, g_S of one edge."""
    return [dot(taps, [table.load(base + t, part, c) for t in range(TAPS)]) for part in range(3)]


def _message(dual: bool) -> Emit:
    read = _Reader(dual)

    def emit(lanes: Lanes, arrays: list[Array], atoms: Integer, channels: Integer) -> None:
        (y, taps), count = read.take(arrays, 2)
        table, here, ptr, order, other, base, out = arrays[count:]
        with lanes.loop(0, atoms) as i, lanes.loop(0, channels, lanes.size) as c:
            mine = read.channels(y, i, c)
            start = [read.result(v * here.load(PART[a], c)) for a, v in enumerate(mine)]
            sums = [lanes.variable(v) for v in start]
            with lanes.loop(ptr.integer(i), ptr.integer(i + 1)) as place:
                e = order.integer(place)
                g = _filters(read.splats(taps, e, TAPS), table, base.integer(e), c)
                for a, v in enumerate(read.channels(y, other.integer(e), c)):
                    sums[a].add(read.result(v * g[PART[a]]))
            _store(sums, out, i, c)

    return emit


def _message_back(lanes: Lanes, arrays: list[Array], atoms: Integer, channels: Integer) -> None:
    y, m, taps, slopes, table, here, ptr, order, other, base, out, gradient = arrays
    read = _Reader(False)
    with lanes.loop(0, atoms) as j, lanes.loop(0, channels, lanes.size) as c:
        mine, own = read.channels((y,), j, c), read.channels((m,), j, c)
        so_far = read.channels((out,), j, c)
        sums = [lanes.variable(so_far[a] + v * here.load(PART[a], c)) for a, v in enumerate(own)]
        with lanes.loop(ptr.integer(j), ptr.integer(j + 1)) as place:
            e = order.integer(place)
            # taps as values and their slopes as derivatives: the filter and its slope at once
            weights = [
                Dual(v, s)
                for v, s in zip(
                    read.splats((taps,), e, TAPS), read.splats((slopes,), e, TAPS), strict=True
                )
            ]
            g = _filters(weights, table, base.integer(e), c)
            theirs = read.channels((m,), other.integer(e), c)
            for a, v in enumerate(theirs):
                sums[a].add(v * g[PART[a]].value)
            total = dot(part_dots(mine, theirs), [part.slope for part in g])
            gradient.accumulate(total, e)
        _store(sums, out, j, c)


def _message_second(lanes: Lanes, arrays: list[Array], atoms: Integer, channels: Integer) -> None:
    read = _Reader(True)
    (y, m, taps), count = read.take(arrays, 3)
    table, here, ptr, order, other, base, out, to_table, to_here = arrays[count:]
    with lanes.loop(0, atoms) as j, lanes.loop(0, channels, lanes.size) as c:
        mine, own = read.channels(y, j, c), read.channels(m, j, c)
        for part, number in enumerate(part_dots(mine, own)):
            to_here.store(to_here.load(part, c) + number.slope, part, c)
        sums = [
            lanes.variable(out.load(a, j, c) + v.slope * here.load(PART[a], c))
            for a, v in enumerate(own)
        ]
        with lanes.loop(ptr.integer(j), ptr.integer(j + 1)) as place:
            e = order.integer(place)
            weights, first = read.splats(taps, e, TAPS), base.integer(e)
            g = _filters(weights, table, first, c)
            theirs = read.channels(m, other.integer(e), c)
            for a, v in enumerate(theirs):
                sums[a].add((v * g[PART[a]]).slope)
            _to_table(to_table, weights, part_dots(mine, theirs), first, c)
        _store(sums, out, j, c)


def _embed(dual: bool) -> Emit:
    read = _Reader(dual)

    def emit(lanes: Lanes, arrays: list[Array], atoms: Integer, channels: Integer) -> None:
        (harmonics, taps), count = read.take(arrays, 2)
        table, pairs, loops, kind, pair, ptr, base, out = arrays[count:]
        with lanes.loop(0, atoms) as i, lanes.loop(0, channels, lanes.size) as c:
            start = 0.0 if dual else loops.load(kind.integer(i), c)
            sums = [lanes.variable(start if a == 0 else 0.0) for a in range(9)]
            with lanes.loop(ptr.integer(i), ptr.integer(i + 1)) as e:
                g = _filters(read.splats(taps, e, TAPS), table, base.integer(e), c)
                z = pairs.load(pair.integer(e), c)
                g = [v * z for v in g]
                for a, h in enumerate(read.splats(harmonics, e, 9)):
                    sums[a].add(read.result(h * g[PART[a]]))
            _store(sums, out, i, c)

    return emit


def _embed_back(lanes: Lanes, arrays: list[Array], atoms: Integer, channels: Integer) -> None:
    x, harmonics, taps, slopes, table, pairs, pair, ptr, base, gradient, to_harmonics = arrays
    read = _Reader(False)
    with lanes.loop(0, atoms) as i, lanes.loop(ptr.integer(i), ptr.integer(i + 1)) as e:
        weights = [
            Dual(v, s)
            for v, s in zip(
                read.splats((taps,), e, TAPS), read.splats((slopes,), e, TAPS), strict=True
            )
        ]
        h = read.splats((harmonics,), e, 9)
        sums = [lanes.variable() for _ in range(9)]
        with lanes.loop(0, channels, lanes.size) as c:
            g = _filters(weights, table, base.integer(e), c)
            z = pairs.load(pair.integer(e), c)
            values = read.channels((x,), i, c)
            tilt = part_dots(h, values)
            sums[0].add(dot(tilt, [part.slope * z for part in g]))
            for a in range(1, 9):
                sums[a].add(values[a] * (g[PART[a]].value * z))
        gradient.accumulate(sums[0].value, e)
        for a in range(1, 9):
            to_harmonics.accumulate(sums[a].value, e, a)


def _embed_second(lanes: Lanes, arrays: list[Array], atoms: Integer, channels: Integer) -> None:
    read = _Reader(True)
    (x, harmonics, taps), count = read.take(arrays, 3)
    table, pairs, kind, pair, ptr, base, to_table, to_pairs, to_loops = arrays[count:]
    with lanes.loop(0, atoms) as i, lanes.loop(0, channels, lanes.size) as c:
        mine, row = read.channels(x, i, c), kind.integer(i)
        to_loops.store(to_loops.load(row, c) + mine[0].slope, row, c)
        with lanes.loop(ptr.integer(i), ptr.integer(i + 1)) as e:
            weights, first = read.splats(taps, e, TAPS), base.integer(e)
            g = _filters(weights, table, first, c)
            tilt = part_dots(read.splats(harmonics, e, 9), mine)
            which = pair.integer(e)
            z = pairs.load(which, c)
            total: Any = dot(tilt, g)
            to_pairs.store(to_pairs.load(which, c) + total.slope, which, c)
            _to_table(to_table, weights, [v * z for v in tilt], first, c)


def _to_table(out: Array, taps: Numbers, parts: Numbers, base: Integer, c: Integer) -> None:
    for part, number in enumerate(parts):
        for t, weight in enumerate(taps):
            row = base + t
            out.store(out.load(row, part, c) + (weight * number).slope, row, part, c)


def _store(sums: list[Variable], out: Array, i: Integer, c: Integer) -> None:
    for a, total in enumerate(sums):
        out.store(total.value, a, i, c)


_EMIT: dict[str, Emit] = {
    "message": _message(False),
    "message_slope": _message(True),
    "message_back": _message_back,
    "message_second": _message_second,
    "embed": _embed(False),
    "embed_slope": _embed(True),
    "embed_back": _embed_back,
    "embed_second": _embed_second,
}


@lru_cache(maxsize=32)
def edge_pass(name: str) -> Callable[..., None]:
    """One of the sums above, called as f(atoms, channels, *arrays) with the arrays in its order."""
    kernel = over_arrays(_EMIT[name])

    @numba.njit(nogil=True, error_model="numpy")
    def run(arrays, atoms, channels):  # type: ignore[no-untyped-def]
        kernel(arrays, atoms, channels)

    def call(atoms: int, channels: int, *arrays: np.ndarray[Any, Any]) -> None:
        run(arrays, atoms, channels)

    return call


__all__ = ["PARTS", "edge_pass"]
