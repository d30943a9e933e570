"""Compiled loops of `order_products` on vector instructions.

The components that one order has in all channels of a block are first put side by side, a "line":
x and y of an edge become two short buffers that stay in the first cache. Then, with a the rows, b
the columns of the matrix of a sector, whose K orders meet lines x_k and y_k,

    y_k[b] += f_k sum_a x_k[a] W[a, b],    x_k[a] += f_k sum_b W[a, b] y_k[b],
    W[a, b] = sum_k f_k x_k[a] y_k[b]

read or write W once, a vector at a time, while K sums stay in registers.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir

from dreibein.ops.lanes import Array, Integer, Lanes, Row, lane_count, lane_kernel

MOST_ORDERS = 9
"""Sums that the registers hold; degrees up to 4 need no more."""

Array_ = np.ndarray[Any, Any]
_compile = numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})


def fits(sectors: Array_, dtype: np.dtype[Any]) -> bool:
    """Whether columns fill vectors, and orders fit into the registers."""
    whole = (sectors[:, 2] % lane_count(dtype) == 0).all()
    return bool(whole and sectors[:, 3].max(initial=0) <= MOST_ORDERS)


class _Sector:
    """A sector in the emitted code: its matrix, its lines, its factors.

    Attributes:
        count: K, known at compilation.
    """

    def __init__(
        self, lanes: Lanes, number: Integer, count: int, arrays: tuple[Array, ...], weights: Row
    ) -> None:
        sectors, lines, factors, x, y = arrays
        first = sectors.integer(number, 0)
        self.count = count
        self.rows, self.columns = sectors.integer(number, 1), sectors.integer(number, 2)
        self.weights = weights.at(sectors.integer(number, 4))
        self.places = [lines.integer(first + k, 0) for k in range(count)]
        self.x = [x.row(place) for place in self.places]
        self.y = [y.row(lines.integer(first + k, 1)) for k in range(count)]
        self.factors = [factors.splat(first + k) for k in range(count)]


def _for_sectors(body: Callable[[Lanes, _Sector, Array], None], name: str) -> Any:
    """A kernel over the sectors of edge e: `body` for each number of orders."""

    def emit(
        lanes: Lanes, sectors: Array, lines: Array, factors: Array, x: Array, w: Array, y: Array,
        e: Integer,
    ) -> None:  # fmt: skip
        weights, builder = w.row(e), lanes.builder
        with lanes.loop(0, sectors.extent(0)) as number:
            found = sectors.integer(number, 3).value
            for count in range(1, MOST_ORDERS + 1):
                same = builder.icmp_signed("==", found, ir.Constant(found.type, count))
                with builder.if_then(same):
                    arrays = (sectors, lines, factors, x, y)
                    body(lanes, _Sector(lanes, number, count, arrays, weights), x)

    emit.__name__ = name
    return lane_kernel(emit)


def _product(lanes: Lanes, sector: _Sector, x: Array) -> None:
    with lanes.loop(0, sector.columns, lanes.size) as column:
        sums = [lanes.variable() for _ in range(sector.count)]
        here = sector.weights.at(column)
        with lanes.loop(0, sector.rows) as a:
            vector = here.at(a * sector.columns).load(0)
            for total, line in zip(sums, sector.x, strict=True):
                total.add(line.at(a).splat(0) * vector)
        for total, line, factor in zip(sums, sector.y, sector.factors, strict=True):
            place = line.at(column)
            place.store(place.load(0) + factor * total.value, 0)


def _transposed(lanes: Lanes, sector: _Sector, x: Array) -> None:
    with lanes.loop(0, sector.rows) as a:
        sums = [lanes.variable() for _ in range(sector.count)]
        row = sector.weights.at(a * sector.columns)
        with lanes.loop(0, sector.columns, lanes.size) as column:
            vector = row.at(column).load(0)
            for total, line in zip(sums, sector.y, strict=True):
                total.add(line.at(column).load(0) * vector)
        for total, place, factor in zip(sums, sector.places, sector.factors, strict=True):
            x.accumulate(factor * total.value, place + a)


def _outer(lanes: Lanes, sector: _Sector, x: Array) -> None:
    with lanes.loop(0, sector.columns, lanes.size) as column:
        right = [
            factor * line.at(column).load(0)
            for line, factor in zip(sector.y, sector.factors, strict=True)
        ]
        here = sector.weights.at(column)
        with lanes.loop(0, sector.rows) as a:
            total = sector.x[0].at(a).splat(0) * right[0]
            for line, vector in zip(sector.x[1:], right[1:], strict=True):
                total = total + line.at(a).splat(0) * vector
            here.at(a * sector.columns).store(total, 0)


_products = _for_sectors(_product, "order_products")
_transposes = _for_sectors(_transposed, "order_transposes")
_outers = _for_sectors(_outer, "order_outers")


@_compile
def _read(row, places, scales, line):  # type: ignore[no-untyped-def]
    for k in range(len(places)):
        line[k] = row[places[k]] * scales[k]


@_compile
def _add(line, places, scales, row):  # type: ignore[no-untyped-def]
    for k in range(len(places)):
        row[places[k]] += line[k] * scales[k]


@_compile
def products_kernel(sectors, lines, factors, inward, scales, outward, signs, x, w, y):  # type: ignore[no-untyped-def]
    """Y = W x in every sector."""
    left, right = np.empty(len(inward), x.dtype), np.empty(len(outward), x.dtype)
    for e in range(len(x)):
        _read(x[e], inward, scales, left)
        right[:] = 0.0
        _products(sectors, lines, factors, left, w, right, e)
        _add(right, outward, signs, y[e])


@_compile
def transposed_kernel(sectors, lines, factors, inward, scales, outward, signs, y, w, x):  # type: ignore[no-untyped-def]
    """X = W^T y in every sector."""
    left, right = np.empty(len(inward), x.dtype), np.empty(len(outward), x.dtype)
    for e in range(len(y)):
        _read(y[e], outward, signs, right)
        left[:] = 0.0
        _transposes(sectors, lines, factors, left, w, right, e)
        _add(left, inward, scales, x[e])


@_compile
def outer_kernel(sectors, lines, factors, inward, scales, outward, signs, x, y, w):  # type: ignore[no-untyped-def]
    """W = y x^T in every sector."""
    left, right = np.empty(len(inward), x.dtype), np.empty(len(outward), x.dtype)
    for e in range(len(x)):
        _read(x[e], inward, scales, left)
        _read(y[e], outward, signs, right)
        _outers(sectors, lines, factors, left, w, right, e)
