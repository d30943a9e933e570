"""Solid harmonics as polynomials: Y_l(r) = s_l c_l^T (Y_{l-1}(r) x r), with Y_1 = r.

They transform as Y_l(M r) = P_l(M) Y_l(r) for orthogonal M, are homogeneous of degree l, and on the
unit sphere have the norm 1 ("norm") or sqrt(2l+1) ("component"), as in e3nn.
"""

from math import sqrt

import torch
from torch import Tensor

from .coupling import raising, raising_factors
from .precision import full_precision

NORMALIZATIONS = ("component", "norm")


def solid_harmonics(lmax: int, vectors: Tensor, *, normalization: str = "component") -> Tensor:
    """Y_0 .. Y_lmax of r, [..., (lmax+1)^2], transforming as `Irreps.harmonics(lmax)`.

    Args:
        lmax: highest degree.
        vectors: r [..., 3]; unit vectors give e3nn's spherical harmonics, others r^l times them.
        normalization: "component": |Y_l|^2 = 2l+1 on the unit sphere; "norm": 1.

    >>> solid_harmonics(1, torch.tensor([0.0, 3.0, 4.0]), normalization="norm")
    tensor([1., 0., 3., 4.])
    """
    if vectors.shape[-1:] != (3,):
        raise ValueError(f"expected vectors [..., 3], got the shape {list(vectors.shape)}")
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization is one of {NORMALIZATIONS}, got {normalization!r}")
    degrees = [torch.ones_like(vectors[..., :1])]
    with full_precision(vectors):
        for l in range(1, lmax + 1):
            _, right = raising_factors(l, vectors.dtype, vectors.device)
            product = (vectors[..., :, None] * degrees[-1][..., None, :]).flatten(-2)
            degrees.append(product @ right.mT * _scale(l))
    if normalization == "component":
        degrees = [degree * sqrt(2 * l + 1) for l, degree in enumerate(degrees)]
    return torch.cat(degrees, -1)


@torch.compiler.assume_constant_result
def _scale(l: int) -> float:
    """s_l: along the polar axis only m = 0 differs from zero, and stays 1."""
    return float(1.0 / raising(l)[l - 1, 1, l])
