"""Soft frames: U = (V V^T + eps)^(-1/2) V, smooth everywhere and equivariant under O(3).

Under g the vectors turn, V -> V g^T, so V V^T is invariant and U -> U g^T. With singular values s
of V those of U are

    s / sqrt(s^2 + eps)                                                                        (1)

close to 1 where a direction is well determined, and zero, linearly, where the symmetry of the site
forbids one: U is then a projection, and act(rep, U, x) drops what is forbidden. Nothing is chosen
and nothing jumps; no frame that is orthogonal everywhere can do this.

The inverse square root of B = V V^T + eps is written with the invariants I1 = tr B, I2, I3 = det B
and those of its root, i3 = sqrt(I3), i2 the positive root of y^2 = I2 + 2 i3 sqrt(I1 + 2 y), i1 =
sqrt(I1 + 2 i2) (Hoger and Carlson 1984):

    B^(-1/2) = (B + i2) (i1 B + i3)^(-1)                                                       (2)

The root i2 depends smoothly on the invariants, with derivative 1/(i1 i2 - i3) > 0, so nothing is
singular at V = 0, at rank one or two, or at equal singular values, where derivatives of
eigenvectors are infinite. All sums below have positive terms, hence no cancellation.
"""

import torch
from torch import Tensor

from dreibein.o3 import cofactor, determinant, full_precision

from .frames import NEAR_SINGULAR, Frames

_NEWTON_STEPS = 8


def soft_frames(vectors: Tensor, *, eps: float = 0.01, group: str = "O(3)") -> Frames:
    """Frames U = (V V^T + eps)^(-1/2) V; the quality of a site is |det U|.

    Args:
        vectors: V [N, 3, 3], dimensionless, of order one; or [N, k, 3] with k = 1, 2, whose missing
            rows are zero, or for SO(3) the cross product of the two.
        eps: squared length below which a vector fades out.
        group: "O(3)"; "SO(3)" to complete two vectors with their cross product.

    >>> soft_frames(torch.eye(3)[None] * 3.0, eps=1.0).matrices[0, 0]
    tensor([0.9487, 0.0000, 0.0000])
    >>> soft_frames(torch.zeros(1, 3, 3)).matrices.abs().max()
    tensor(0.)
    """
    if vectors.ndim != 3 or vectors.shape[1] not in (1, 2, 3) or vectors.shape[2] != 3:
        raise ValueError(f"soft frames need vectors [N, 3, 3], got the shape {list(vectors.shape)}")
    if eps <= 0:
        raise ValueError(f"eps must be positive, got {eps}")
    if group not in ("O(3)", "SO(3)"):
        raise ValueError(f"group is 'SO(3)' or 'O(3)', got {group!r}")
    v = vectors.double()
    if group == "SO(3)" and v.shape[1] == 2:
        v = torch.cat([v, torch.linalg.cross(v[:, 0], v[:, 1])[:, None]], 1)
    missing = 3 - v.shape[1]
    if missing:
        v = torch.cat([v, v.new_zeros(len(v), missing, 3)], 1)
    with full_precision(v):
        matrices = damped_orthogonal(v, eps)
    dtype = torch.promote_types(vectors.dtype, torch.float32)
    quality = determinant(matrices.detach()).abs().to(dtype)
    return Frames(matrices.to(dtype), quality, NEAR_SINGULAR)


def damped_orthogonal(v: Tensor, eps: float) -> Tensor:
    """(V V^T + eps)^(-1/2) V by equation (2); derivatives up to the third are exact.

    With mu = i1 eps + i3 and A = V V^T the inverse is written through its adjugate,
    adj(i1 A + mu) V = mu (mu + i1 tr A) V - mu i1 A V + i1^2 det(V) cof(V).
    """
    gram, dual, det = v @ v.mT, cofactor(v), determinant(v)
    a1, a2, a3 = v.square().sum((-2, -1)), dual.square().sum((-2, -1)), det.square()
    b1 = a1 + 3 * eps
    b2 = a2 + 2 * eps * a1 + 3 * eps**2
    i3 = (a3 + eps * a2 + eps**2 * a1 + eps**3).sqrt()
    i2 = _second_invariant(b1, b2, i3)
    i1 = (b1 + 2 * i2).sqrt()
    mu = i1 * eps + i3
    denominator = mu**3 + mu**2 * i1 * a1 + mu * i1**2 * a2 + i1**3 * a3
    inverse_v = (
        _column(mu * (mu + i1 * a1)) * v
        - _column(mu * i1) * (gram @ v)
        + _column(i1**2 * det) * dual
    )
    return (gram @ inverse_v + _column(eps + i2) * inverse_v) / _column(denominator)


def _column(scalar: Tensor) -> Tensor:
    return scalar[:, None, None]


def _second_invariant(b1: Tensor, b2: Tensor, i3: Tensor) -> Tensor:
    """The positive y with y^2 = b2 + 2 i3 sqrt(b1 + 2 y); sqrt(3 b2) bounds it from above."""
    with torch.no_grad():
        y = (3 * b2).sqrt()
        for _ in range(_NEWTON_STEPS):
            y = _newton(y, b1, b2, i3)
    # two more steps with gradient make derivatives up to the third exact
    return _newton(_newton(y.detach(), b1, b2, i3), b1, b2, i3)


def _newton(y: Tensor, b1: Tensor, b2: Tensor, i3: Tensor) -> Tensor:
    root = (b1 + 2 * y).sqrt()
    return y - (y * y - b2 - 2 * i3 * root) / (2 * y - 2 * i3 / root)
