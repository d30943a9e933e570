"""Constants: how degree l-1 times a vector contains degree l, in e3nn's real basis.

With orthonormal real harmonics S_{l,m} (m = -l..l; cos for m > 0, sin for m < 0, all signs
positive) the polynomial r_i S_{l-1,a} has the part sum_m T[a, i, m] S_{l,m} of degree l, and c = T
/ |T| has orthonormal columns. T is a square root of rationals in closed form (the recurrences of
the associated Legendre functions), so nothing is fitted, integrated or read from a file. e3nn's
polar axis is y: (x, y, z) here is (y, z, x) of the usual formulas, which makes (x, y, z) the basis
of l = 1.
"""

from functools import lru_cache
from math import sqrt

import numpy as np
import torch
from torch import Tensor

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_X, _Y, _Z = 2, 0, 1
"""Place in e3nn's (x, y, z) of the usual axes x, y and z."""


@lru_cache(maxsize=64)
def raising(l: int) -> FloatArray:
    """Tensor c [2l-1, 3, 2l+1] with sum_{ai} c[a,i,m] c[a,i,n] = delta_mn: l embeds in (l-1) x 1.

    >>> raising(1).reshape(3, 3)
    array([[1., 0., 0.], [0., 1., 0.], [0., 0., 1.]])
    """
    table = np.zeros((2 * l - 1, 3, 2 * l + 1))
    for m in range(-(l - 1), l):
        k = abs(m)
        even = m >= 0
        row = table[m + l - 1]
        row[_Z, m + l] = sqrt((l * l - k * k) / (4 * l * l - 1))
        up = _step(l, k + 1) / 2 * (sqrt(2) if k == 0 else 1)
        down = _step(l, 1 - k) / 2 * (sqrt(2) if k == 1 else 1) if k else 0.0
        row[_X, (k + 1 if even else -k - 1) + l] += up
        row[_Y, (-k - 1 if even else k + 1) + l] += up if even else -up
        if k > 1 or (k == 1 and even):
            row[_X, (k - 1 if even else 1 - k) + l] -= down
        if k > 1 or (k == 1 and not even):
            row[_Y, (1 - k if even else k - 1) + l] -= -down if even else down
    table /= np.sqrt((table[..., l] ** 2).sum())
    table.flags.writeable = False
    return table


def _step(l: int, m: int) -> float:
    """Weight of degree l, order m in sin(theta) times degree l-1, order m-1."""
    return sqrt((l + m) * (l + m - 1) / ((2 * l + 1) * (2 * l - 1)))


@lru_cache(maxsize=64)
def generators(l: int) -> FloatArray:
    """J [3, 2l+1, 2l+1], antisymmetric: D(exp of the rotation vector w) = exp(sum_i w_i J_i)."""
    if l == 0:
        return np.zeros((3, 1, 1))
    if l == 1:
        epsilon = np.zeros((3, 3, 3))
        for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            epsilon[i, j, k], epsilon[i, k, j] = -1.0, 1.0
        return epsilon
    c, lower, vector = raising(l), generators(l - 1), generators(1)
    return np.einsum("aim,gab,bin->gmn", c, lower, c) + np.einsum("aim,gij,ajn->gmn", c, vector, c)


@lru_cache(maxsize=256)
def couple_vector(l: int, degree: int) -> FloatArray:
    """Tensor q [2l+1, 3, 2*degree+1] with orthonormal columns: it embeds `degree` in l x 1.

    `degree` is l-1, l or l+1; for l = degree = 1 the coupling is the cross product over sqrt(2).
    """
    if degree == l + 1:
        return raising(degree)
    if degree == l - 1:
        scale = sqrt((2 * l - 1) / (2 * l + 1))
        return scale * np.ascontiguousarray(raising(l).transpose(2, 1, 0))
    if degree != l or l == 0:
        raise ValueError(f"degree {l} times a vector does not contain degree {degree}")
    coupling = generators(l).transpose(1, 0, 2)
    return coupling / np.sqrt((coupling[..., 0] ** 2).sum())


def raising_factors(l: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """`raising(l)` as matrices [(i m), a] and [n, (j b)] for the two products of a raising step."""
    c, size = raising_tensor(l, dtype, device), 2 * l + 1
    return c.permute(1, 2, 0).reshape(3 * size, -1), c.permute(2, 1, 0).reshape(size, -1)


@torch.compiler.assume_constant_result
def raising_tensor(l: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`raising(l)` on a device; kept."""
    return _raising_tensor(l, dtype, device)


@lru_cache(maxsize=256)
def _raising_tensor(l: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(raising(l), dtype=dtype, device=device)
