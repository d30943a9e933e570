"""Compiled loops of `channel_products`; the innermost runs over channels, which lie side by side.

They take any number of channels; those that fill vectors go to `channel_lanes`.

Legend: e edge from j to i, p path, a and b components of x and y, u channel. A row of `paths` is
(start in x, components, start in y, components, start in the matrices, start in the weights,
channels).
"""

import sys
from typing import Any

import numba
import numpy as np
from torch import Tensor

from dreibein.ops import channel_lanes
from dreibein.ops.workspaces import recycled

Array = np.ndarray[Any, Any]
_compile = numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})


@_compile
def y_kernel(paths, sender, receiver, x, m, w, y):  # type: ignore[no-untyped-def]
    """y_i[b] += M[a, b] w x_j[a]."""
    scaled = np.empty(paths[:, 6].max(), x.dtype)
    for e in range(len(m)):
        row, to, matrices, weights = x[sender[e]], y[receiver[e]], m[e], w[e]
        for p in range(len(paths)):
            start, rows, end, columns, place, first, count = paths[p]
            for a in range(rows):
                here = start + a * count
                for u in range(count):
                    scaled[u] = row[here + u] * weights[first + u]
                for b in range(columns):
                    factor, there = matrices[place + a * columns + b], end + b * count
                    for u in range(count):
                        to[there + u] += factor * scaled[u]


@_compile
def x_kernel(paths, sender, receiver, y, m, w, x):  # type: ignore[no-untyped-def]
    """x_j[a] += M[a, b] w y_i[b]."""
    total = np.empty(paths[:, 6].max(), x.dtype)
    for e in range(len(m)):
        row, to, matrices, weights = y[receiver[e]], x[sender[e]], m[e], w[e]
        for p in range(len(paths)):
            start, rows, end, columns, place, first, count = paths[p]
            for a in range(rows):
                for u in range(count):
                    total[u] = 0.0
                for b in range(columns):
                    factor, there = matrices[place + a * columns + b], end + b * count
                    for u in range(count):
                        total[u] += factor * row[there + u]
                here = start + a * count
                for u in range(count):
                    to[here + u] += total[u] * weights[first + u]


@_compile
def w_kernel(paths, sender, receiver, x, m, y, w):  # type: ignore[no-untyped-def]
    """W = sum_ab x_j[a] M[a, b] y_i[b]."""
    total = np.empty(paths[:, 6].max(), x.dtype)
    for e in range(len(m)):
        left, right, matrices, weights = x[sender[e]], y[receiver[e]], m[e], w[e]
        for p in range(len(paths)):
            start, rows, end, columns, place, first, count = paths[p]
            for a in range(rows):
                for u in range(count):
                    total[u] = 0.0
                for b in range(columns):
                    factor, there = matrices[place + a * columns + b], end + b * count
                    for u in range(count):
                        total[u] += factor * right[there + u]
                here = start + a * count
                for u in range(count):
                    weights[first + u] += total[u] * left[here + u]


@_compile
def m_kernel(paths, sender, receiver, x, w, y, m):  # type: ignore[no-untyped-def]
    """M[a, b] = sum_u w x_j[a] y_i[b]."""
    scaled = np.empty(paths[:, 6].max(), x.dtype)
    for e in range(len(m)):
        row, other, matrices, weights = x[sender[e]], y[receiver[e]], m[e], w[e]
        for p in range(len(paths)):
            start, rows, end, columns, place, first, count = paths[p]
            for a in range(rows):
                here = start + a * count
                for u in range(count):
                    scaled[u] = row[here + u] * weights[first + u]
                for b in range(columns):
                    there = end + b * count
                    dot = x.dtype.type(0.0)
                    for u in range(count):
                        dot += scaled[u] * other[there + u]
                    matrices[place + a * columns + b] += dot


def run(name: str, tables: list[Tensor], given: list[Tensor], shape: tuple[int, int]) -> Tensor:
    """The result of kernel "x", "m", "w" or "y", of this shape."""
    arrays = [_array(tensor) for tensor in given]
    out, result = recycled(*shape, dtype=arrays[0].dtype)
    out.fill(0.0)
    if len(tables[0]) and len(tables[1]):
        paths, sender, receiver = map(_array, tables)
        if channel_lanes.fits(paths, out.dtype):
            kernels: Any = channel_lanes
        else:  # unsigned: numba then knows that no index counts from the end
            kernels, paths = sys.modules[__name__], paths.astype(np.uint64)
        getattr(kernels, f"{name}_kernel")(paths, sender, receiver, *arrays, out)
    return result


def _array(tensor: Tensor) -> Array:
    return tensor.detach().contiguous().numpy()
