"""Compiled loops of `channel_products` on vector instructions, for channels that fill vectors.

The names are those of `channel_kernels`. Up to four vectors of channels stay in registers while
the matrix of a path passes.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from dreibein.ops.lanes import Array, Integer, Lanes, Row, Vector, lane_count, lane_kernel

WIDTHS = (4, 2, 1)
"""Vectors of channels taken at once; what the larger leave over goes to the smaller."""

_compile = numba.njit(nogil=True, error_model="numpy")


def fits(paths: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> bool:
    """Whether the channels of every path fill vectors."""
    return bool((paths[:, 6] % lane_count(dtype) == 0).all())


class _Path:
    """A path in the emitted code, and the channels from `here` on, `width` vectors of them."""

    def __init__(
        self, lanes: Lanes, sizes: list[Integer], rows: tuple[Row, ...], here: Integer, width: int
    ) -> None:
        x, y, m, w = rows
        start, self.rows, end, self.columns, place, first, self.channels = sizes
        self.lanes, self.width = lanes, width
        self._x, self._y = x.at(start).at(here), y.at(end).at(here)
        self._m, self.w = m.at(place), w.at(first).at(here)

    def x(self, a: Integer) -> Row:
        return self._x.at(a * self.channels)

    def y(self, b: Integer) -> Row:
        return self._y.at(b * self.channels)

    def m(self, a: Integer, b: Integer) -> Row:
        return self._m.at(a * self.columns + b)

    def load(self, row: Row) -> list[Vector]:
        return [row.load(v) for v in range(self.width)]

    def contracted(self, a: Integer) -> list[Vector]:
        """Sum over b of M[a, b] y[b]."""
        sums = [self.lanes.variable() for _ in range(self.width)]
        with self.lanes.loop(0, self.columns) as b:
            factor = self.m(a, b).splat(0)
            for total, vector in zip(sums, self.load(self.y(b)), strict=True):
                total.add(factor * vector)
        return [total.value for total in sums]


def _add(path: _Path, row: Row, values: list[Vector]) -> None:
    for k, (old, new) in enumerate(zip(path.load(row), values, strict=True)):
        row.store(old + new, k)


def _scaled(path: _Path, a: Integer) -> list[Vector]:
    return [x * w for x, w in zip(path.load(path.x(a)), path.load(path.w), strict=True)]


def _y(path: _Path) -> None:
    with path.lanes.loop(0, path.rows) as a:
        scaled = _scaled(path, a)
        with path.lanes.loop(0, path.columns) as b:
            factor = path.m(a, b).splat(0)
            _add(path, path.y(b), [factor * vector for vector in scaled])


def _x(path: _Path) -> None:
    with path.lanes.loop(0, path.rows) as a:
        pairs = zip(path.contracted(a), path.load(path.w), strict=True)
        _add(path, path.x(a), [total * w for total, w in pairs])


def _w(path: _Path) -> None:
    sums = [path.lanes.variable() for _ in range(path.width)]
    with path.lanes.loop(0, path.rows) as a:
        found = path.contracted(a)
        for total, value, x in zip(sums, found, path.load(path.x(a)), strict=True):
            total.add(value * x)
    _add(path, path.w, [total.value for total in sums])


def _m(path: _Path) -> None:
    with path.lanes.loop(0, path.rows) as a:
        scaled = _scaled(path, a)
        with path.lanes.loop(0, path.columns) as b:
            first, *others = (s * y for s, y in zip(scaled, path.load(path.y(b)), strict=True))
            for other in others:
                first = first + other
            path.m(a, b).add_total(first)


def _for_paths(body: Callable[[_Path], None], name: str) -> Any:
    """A kernel over the paths of edge e: `body` for pieces of their channels."""

    def emit(
        lanes: Lanes, paths: Array, sender: Array, receiver: Array, x: Array, y: Array, m: Array,
        w: Array, e: Integer,
    ) -> None:  # fmt: skip
        rows = (x.row(sender.integer(e)), y.row(receiver.integer(e)), m.row(e), w.row(e))
        with lanes.loop(0, paths.extent(0)) as number:
            sizes = [paths.integer(number, k) for k in range(7)]
            begin: Integer | int = 0
            for width in WIDTHS:
                end = lanes.whole(sizes[6], width * lanes.size)
                with lanes.loop(begin, end, width * lanes.size) as here:
                    body(_Path(lanes, sizes, rows, here, width))
                begin = end

    emit.__name__ = name
    return lane_kernel(emit)


_ys, _xs = _for_paths(_y, "channel_y"), _for_paths(_x, "channel_x")
_ws, _ms = _for_paths(_w, "channel_w"), _for_paths(_m, "channel_m")


@_compile
def y_kernel(paths, sender, receiver, x, m, w, y):  # type: ignore[no-untyped-def]
    """y_i[b] += M[a, b] w x_j[a]."""
    for e in range(len(m)):
        _ys(paths, sender, receiver, x, y, m, w, e)


@_compile
def x_kernel(paths, sender, receiver, y, m, w, x):  # type: ignore[no-untyped-def]
    """x_j[a] += M[a, b] w y_i[b]."""
    for e in range(len(m)):
        _xs(paths, sender, receiver, x, y, m, w, e)


@_compile
def w_kernel(paths, sender, receiver, x, m, y, w):  # type: ignore[no-untyped-def]
    """W = sum_ab x_j[a] M[a, b] y_i[b]."""
    for e in range(len(m)):
        _ws(paths, sender, receiver, x, y, m, w, e)


@_compile
def m_kernel(paths, sender, receiver, x, w, y, m):  # type: ignore[no-untyped-def]
    """M[a, b] = sum_u w x_j[a] y_i[b]."""
    for e in range(len(m)):
        _ms(paths, sender, receiver, x, y, m, w, e)
