"""Matrix products with fixed weights, for few rows.

A library packs the weights anew in every call, which for twenty rows costs more than the product.
Here they are packed once, [N / V, K, V] (V channels of one instruction side by side), and a tile of
6 rows stays in registers while K passes: by 4 V columns where there are 32 registers (24 sums fed
by 10 loads a step), by 2 V where there are 16.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from dreibein.ops.lanes import Array, Integer, Lanes, Vector, lane_count, lane_kernel, vector_bytes
from dreibein.ops.workspaces import realigned

WIDE = 4 if vector_bytes() == 64 else 2
"""Vectors of columns of a tall tile. AVX-512 has 32 registers; of AVX2's 16 a tile of 6 x 4 needs
29, and a product whose sums go through memory takes more than twice as long."""

TILES = {6: tuple(dict.fromkeys((WIDE, 2, 1))), 3: (4, 1), 1: (4, 1)}
"""Widths by height; what larger tiles leave over goes to smaller ones."""


_ROWS = 48
"""Rows of both factors of a sum of outer products that fit the first-level cache: every tile reads
them again."""


def pack(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Weights [..., K, N] as [..., N / V, K, V]; N is a multiple of V."""
    lanes = lane_count(weights.dtype)
    split = weights.reshape(*weights.shape[:-1], weights.shape[-1] // lanes, lanes)
    return realigned(np.moveaxis(split, -2, -3))


@numba.njit(nogil=True, error_model="numpy")
def pack_again(weights, forward, back):  # type: ignore[no-untyped-def]
    """Matrices W [M, N, K] of out = W x, packed for W x and for the way back, W^T g.

    What training does once a step, into memory that it keeps: `forward` [M, N / V, K, V] and
    `back` [M, K / V, N, V].
    """
    lanes = forward.shape[3]
    for m in range(weights.shape[0]):
        for n in range(forward.shape[1]):
            for k in range(forward.shape[2]):
                for v in range(lanes):
                    forward[m, n, k, v] = weights[m, n * lanes + v, k]
        for k in range(back.shape[1]):
            for n in range(back.shape[2]):
                for v in range(lanes):
                    back[m, k, n, v] = weights[m, n, k * lanes + v]


Term = Callable[[Integer, Integer, Integer, int, int], tuple[list[Vector], list[Vector]]]


def _over_tiles(
    lanes: Lanes, out: Array, first: Integer, rows: Integer, terms: Integer, term: Term, onto: bool
) -> None:
    """Emit out = sum over k of left times right, by tiles that stay in registers.

    Args:
        lanes: Emits.
        out: Rows first ... first + rows of it are set; its columns are whole vectors.
        first: See `out`.
        rows: See `out`.
        terms: How many k there are.
        term: Of k, a row, a column, a height and a width: `width` vectors of columns, and `height`
            factors of rows.
        onto: Add to what `out` holds.
    """
    row = first
    for height, widths in TILES.items():
        last, column = first + lanes.whole(rows, height), lanes.zero()
        for width in widths:
            step = width * lanes.size
            end = lanes.whole(out.extent(1), step)
            with lanes.loop(column, end, step) as c, lanes.loop(row, last, height) as r:
                places = [(r + h, c + w * lanes.size) for h in range(height) for w in range(width)]
                sums = [lanes.variable(out.load(*at) if onto else 0.0) for at in places]
                with lanes.loop(0, terms) as k:
                    right, left = term(k, r, c, height, width)
                    for n, total in enumerate(sums):
                        total.add(left[n // width] * right[n % width])
                for at, total in zip(places, sums, strict=True):
                    out.store(total.value, *at)
            column = end
        row = last


def _product(x: Array, packed: Array) -> Term:
    def term(
        k: Integer, row: Integer, column: Integer, height: int, width: int
    ) -> tuple[list[Vector], list[Vector]]:
        chunk = x.lanes.chunk(column)
        right = [packed.load(chunk + w, k) for w in range(width)]
        return right, [x.splat(row + h, k) for h in range(height)]

    return term


@lane_kernel
def _matmul(
    lanes: Lanes, x: Array, packed: Array, out: Array, first: Integer, rows: Integer
) -> None:
    _over_tiles(lanes, out, first, rows, packed.extent(1), _product(x, packed), onto=False)


@lane_kernel
def _add_product(lanes: Lanes, x: Array, packed: Array, out: Array) -> None:
    rows = out.extent(0)
    _over_tiles(lanes, out, lanes.zero(), rows, packed.extent(1), _product(x, packed), onto=True)


@lane_kernel
def _add_outer(
    lanes: Lanes, left: Array, right: Array, out: Array, first: Integer, terms: Integer
) -> None:
    def term(
        k: Integer, row: Integer, column: Integer, height: int, width: int
    ) -> tuple[list[Vector], list[Vector]]:
        vectors = [right.load(first + k, column + w * lanes.size) for w in range(width)]
        return vectors, [left.splat(first + k, row + h) for h in range(height)]

    _over_tiles(lanes, out, lanes.zero(), out.extent(0), terms, term, onto=True)


@numba.njit(nogil=True, error_model="numpy")
def matmul(x, packed, out, first, rows):  # type: ignore[no-untyped-def]
    """Out = x W for rows first ... first + rows of x and out, W packed."""
    _matmul(x, packed, out, first, rows)


@numba.njit(nogil=True, error_model="numpy")
def add_product(x, packed, out):  # type: ignore[no-untyped-def]
    """Out += x W, W packed."""
    _add_product(x, packed, out)


@numba.njit(nogil=True, error_model="numpy")
def add_outer(left, right, out):  # type: ignore[no-untyped-def]
    """Out += left^T right, a sum over their rows; rows of `out` are whole vectors."""
    for first in range(0, len(left), _ROWS):
        _add_outer(left, right, out, first, min(_ROWS, len(left) - first))
