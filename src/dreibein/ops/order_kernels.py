"""Compiled loops of `order_products`: edge by edge, a row of a weight matrix at a time.

They take every table; those whose rows fill vectors go to `order_lanes`.

Legend: e edge, s sector, a and b rows and columns of its matrix, k the components that share it.
`inward` [rows, k] and `outward` [columns, k] are places in a row of features, flattened one sector
after the other, with their factors beside them.
"""

import sys
from typing import Any

import numba
import numpy as np
from torch import Tensor

from dreibein.ops import order_lanes
from dreibein.ops.multilinear import Plan
from dreibein.ops.workspaces import recycled

Array = np.ndarray[Any, Any]
_compile = numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})


@_compile
def products_kernel(sectors, inward, scales, outward, signs, x, w, y):  # type: ignore[no-untyped-def]
    """Y = W x in every sector."""
    total = np.empty((sectors[:, 4].max(), sectors[:, 3].max()), x.dtype)
    for e in range(len(x)):
        row, weights, to = x[e], w[e], y[e]
        for s in range(len(sectors)):
            start, rows, end, columns, count, place = sectors[s]
            total[:count, :columns] = 0.0
            for a in range(rows):
                matrix = weights[place + a * columns : place + (a + 1) * columns]
                for k in range(count):
                    factor = row[inward[start + a * count + k]] * scales[start + a * count + k]
                    line = total[k]
                    for b in range(columns):
                        line[b] += factor * matrix[b]
            for b in range(columns):
                for k in range(count):
                    at = end + b * count + k
                    to[outward[at]] += total[k, b] * signs[at]


@_compile
def transposed_kernel(sectors, inward, scales, outward, signs, y, w, x):  # type: ignore[no-untyped-def]
    """X = W^T y in every sector."""
    given = np.empty((sectors[:, 4].max(), sectors[:, 3].max()), x.dtype)
    for e in range(len(y)):
        row, weights, to = y[e], w[e], x[e]
        for s in range(len(sectors)):
            start, rows, end, columns, count, place = sectors[s]
            for b in range(columns):
                for k in range(count):
                    at = end + b * count + k
                    given[k, b] = row[outward[at]] * signs[at]
            for a in range(rows):
                matrix = weights[place + a * columns : place + (a + 1) * columns]
                for k in range(count):
                    line = given[k]
                    dot = x.dtype.type(0.0)
                    for b in range(columns):
                        dot += line[b] * matrix[b]
                    at = start + a * count + k
                    to[inward[at]] += dot * scales[at]


@_compile
def outer_kernel(sectors, inward, scales, outward, signs, x, y, w):  # type: ignore[no-untyped-def]
    """W = y x^T in every sector."""
    given = np.empty((sectors[:, 4].max(), sectors[:, 3].max()), x.dtype)
    for e in range(len(x)):
        row, other, weights = x[e], y[e], w[e]
        for s in range(len(sectors)):
            start, rows, end, columns, count, place = sectors[s]
            for b in range(columns):
                for k in range(count):
                    at = end + b * count + k
                    given[k, b] = other[outward[at]] * signs[at]
            for a in range(rows):
                matrix = weights[place + a * columns : place + (a + 1) * columns]
                matrix[:] = 0.0
                for k in range(count):
                    factor = row[inward[start + a * count + k]] * scales[start + a * count + k]
                    line = given[k]
                    for b in range(columns):
                        matrix[b] += factor * line[b]


def run(name: str, plan: Plan, first: Tensor, second: Tensor, width: int) -> Tensor:
    """The result [E, width] of a kernel; columns of features that no sector reaches are zero.

    Args:
        name: "products", "transposed" or "outer".
        plan: Of an `OrderTable`.
        first: x, or y of "transposed".
        second: W, or y of "outer".
        width: Of the result.
    """
    numbers = _array(first)
    out, result = recycled(len(first), width, dtype=numbers.dtype)
    if name != "outer" or not len(plan[0]):  # that kernel writes every number
        out.fill(0.0)
    if not len(plan[0]) or not len(first):
        return result
    quick = order_lanes.fits(_array(plan[8]), numbers.dtype)
    kernels, tables = (order_lanes, plan[8:]) if quick else (sys.modules[__name__], plan[:5])
    given = [_array(table) for table in tables]
    given = [each.astype(out.dtype) if each.dtype.kind == "f" else each for each in given]
    getattr(kernels, f"{name}_kernel")(*given, numbers, _array(second), out)
    return result


def _array(tensor: Tensor) -> Array:
    return tensor.detach().contiguous().numpy()
