"""Matrix products with fixed weights, for few rows.

A library packs the weights anew in every call, which for twenty rows costs more than the product.
Here they are packed once, [N / V, K, V] (V channels of one instruction side by side), and a tile of
6 rows stays in registers while K passes: by 4 V columns where there are 32 registers (24 sums fed
by 10 loads a step), by 2 V where there are 16.
"""

from typing import Any

import numba
import numpy as np

from dreibein.ops.lanes import Array, Integer, Lanes, lane_count, lane_kernel, vector_bytes
from dreibein.ops.workspaces import realigned

ROWS = (6, 3, 1)
"""Rows of a tile; what the larger leave over goes to the smaller."""

WIDE = 4 if vector_bytes() == 64 else 2
"""Vectors of columns of a tall tile. AVX-512 has 32 registers; of AVX2's 16 a tile of 6 x 4 needs
29, and a product whose sums go through memory takes more than twice as long."""


def pack(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Weights [..., K, N] as [..., N / V, K, V]; N is a multiple of V."""
    lanes = lane_count(weights.dtype)
    split = weights.reshape(*weights.shape[:-1], weights.shape[-1] // lanes, lanes)
    return realigned(np.moveaxis(split, -2, -3))


@numba.njit(nogil=True, error_model="numpy")
def matmul(x, packed, out, first, rows):  # type: ignore[no-untyped-def]
    """Out = x W for rows first ... first + rows of x and out, W packed."""
    column, columns = 0, packed.shape[0]
    wide = columns - columns % WIDE
    row, last = first, first + rows
    tall = first + rows - rows % 6
    if wide > 0:
        _tiles_6_wide(x, packed, out, row, tall, column, wide)
    if columns - wide >= 2:
        _tiles_6x2(x, packed, out, row, tall, wide, wide + 2)
        wide += 2
    if columns > wide:
        _tiles_6x1(x, packed, out, row, tall, wide, columns)
    wide = columns - columns % 4
    if last - tall >= 3:
        if wide > 0:
            _tiles_3x4(x, packed, out, tall, tall + 3, 0, wide)
        if columns > wide:
            _tiles_3x1(x, packed, out, tall, tall + 3, wide, columns)
        tall += 3
    if last > tall:
        if wide > 0:
            _tiles_1x4(x, packed, out, tall, last, 0, wide)
        if columns > wide:
            _tiles_1x1(x, packed, out, tall, last, wide, columns)


def _tiles(height: int, width: int) -> Any:
    """A kernel over tiles of `height` rows and `width` vectors of columns."""

    def tiles(
        lanes: Lanes, x: Array, packed: Array, out: Array, first: Integer, last: Integer,
        begin: Integer, end: Integer,
    ) -> None:  # fmt: skip
        with lanes.loop(begin, end, width) as column, lanes.loop(first, last, height) as row:
            sums = [[lanes.variable() for _ in range(width)] for _ in range(height)]
            sides = [packed.row(column + w) for w in range(width)]
            rows = [x.row(row + h) for h in range(height)]
            with lanes.loop(0, packed.extent(1)) as k:
                right = [side.at(k * lanes.size).load(0) for side in sides]
                for line, left in zip(sums, rows, strict=True):
                    factor = left.at(k).splat(0)
                    for total, vector in zip(line, right, strict=True):
                        total.add(factor * vector)
            for h, line in enumerate(sums):
                for w, total in enumerate(line):
                    out.store(total.value, row + h, (column + w) * lanes.size)

    tiles.__name__ = f"tiles_{height}x{width}"
    return lane_kernel(tiles)


_tiles_6_wide, _tiles_6x2, _tiles_6x1 = _tiles(6, WIDE), _tiles(6, 2), _tiles(6, 1)
_tiles_3x4, _tiles_3x1 = _tiles(3, 4), _tiles(3, 1)
_tiles_1x4, _tiles_1x1 = _tiles(1, 4), _tiles(1, 1)
