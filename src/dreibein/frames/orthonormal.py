"""Hard frames: orthonormal axes from two or three equivariant vectors a node.

What they cannot do: at a site whose symmetry leaves no frame (both vectors on one axis) no choice
is equivariant, and near it the axes turn arbitrarily fast; with group="O(3)" the handedness is a
sign, which jumps wherever the three vectors pass through a plane. Such sites are counted, and
treated without chance:

    degenerate="zero"   axes that the vectors do not determine are zero: features along them vanish,
                        and the result stays equivariant (the default)
    degenerate="axis"   Cartesian axes are put in their place: orthonormal, but not equivariant

Vectors are taken as dimensionless numbers of order one (sums of weighted directions): shorter than
`tolerance` counts as zero. Everything is computed in float64 and returned in the type of the
vectors (float32 at least).
"""

import torch
from torch import Tensor

from dreibein.o3 import cofactor, determinant, full_precision

from .frames import NEAR_SINGULAR, Frames

GROUPS = ("SO(3)", "O(3)")
DEGENERATE = ("zero", "axis")
_NEWTON_STEPS = 40
_ROUNDING = 1e-6
"""Quality of `polar` that is only rounding: the root is double at degenerate V."""

_BEST_ZETA = (2 / 3**0.5) ** 3
_BEST_DETERMINANT = 3**-1.5


def gram_schmidt(
    vectors: Tensor,
    *,
    group: str = "SO(3)",
    degenerate: str = "zero",
    tolerance: float | None = None,
) -> Frames:
    """e1 = v1/|v1|, e2 = w/|w| with w = v2 - (v2.e1) e1, e3 = e1 x e2.

    The quality of a site is the smaller of |v1| and |w| / sqrt(1 + |v2|^2), at most 1.

    Args:
        vectors: [N, 2, 3], or [N, 3, 3] for O(3), where e3 takes the sign of v3.e3.
        group: "SO(3)" or "O(3)".
        degenerate: "zero" or "axis", see above.
        tolerance: length, and sine of an angle, that counts as zero; default sqrt(eps) of the type.

    >>> gram_schmidt(torch.tensor([[[0.0, 2.0, 0.0], [1.0, 1.0, 0.0]]])).matrices
    tensor([[[ 0.,  1.,  0.], [ 1.,  0.,  0.], [ 0.,  0., -1.]]])
    """
    v, tolerance = _checked(vectors, group, degenerate, tolerance)
    axes = torch.eye(3, dtype=v.dtype, device=v.device).expand(len(v), 3, 3)
    zero = degenerate == "zero"
    length, bad = _length(v[:, 0], tolerance)
    first = torch.where(bad[:, None], axes[:, 0], v[:, 0] / length[:, None])
    rest = v[:, 1] - (v[:, 1] * first).sum(-1, keepdim=True) * first
    scale = (1 + v[:, 1].square().sum(-1)).sqrt()
    rest_length, rest_bad = _length(rest / scale[:, None], tolerance)
    second = rest / (scale * rest_length)[:, None]
    rest_bad = rest_bad | (bad if zero else False)
    if not zero:
        spare = axes.gather(1, first.abs().argmin(-1)[:, None, None].expand(-1, 1, 3))[:, 0]
        spare = spare - (spare * first).sum(-1, keepdim=True) * first
        spare = spare / spare.norm(dim=-1, keepdim=True)
        second = torch.where(rest_bad[:, None], spare, second)
    third = torch.linalg.cross(first, second)
    quality = torch.minimum(
        torch.where(bad, 0, length), torch.where(rest_bad, 0, rest_length)
    ).clamp(max=1)
    keep = torch.stack([~bad, ~rest_bad, ~rest_bad], -1)
    if group == "O(3)":
        along = (v[:, 2] * third).sum(-1) / (1 + v[:, 2].square().sum(-1)).sqrt()
        third = third * torch.where(along < 0, -1.0, 1.0)[:, None]
        quality = torch.minimum(quality, along.abs())
        keep[:, 2] &= along.abs() > tolerance
    matrices = torch.stack([first, second, third], 1)
    if zero:
        matrices = torch.where(keep[..., None], matrices, 0.0)
    return _finished(matrices, quality, vectors)


def polar(
    vectors: Tensor,
    *,
    group: str = "SO(3)",
    degenerate: str = "zero",
    tolerance: float | None = None,
) -> Frames:
    """The orthogonal matrix nearest to V: R = argmax tr(R^T V), treating all vectors alike.

    With A = V V^T, singular values s_k >= 0 and i1 = s1 + s2 + s3 sign(det V), i2 and i3 likewise,

        R = ((i2 + tr A) V + i1 cof V - A V) / (i1 i2 - i3)                                    (1)

    (Markley 1993), where i1 is the largest root of (x^2 - tr A)^2 = 4 |cof V|^2 + 8 x det V. It is
    smooth also where V has rank two, and singular only where s2 + s3 sign(det V) = 0. The quality
    is the denominator for |V| = 1 over its largest value.

    Args:
        vectors: V [N, 2, 3] (e3 is then the normal) or [N, 3, 3]; three for O(3).
        group: for "O(3)" det R = sign(det V), and quality is also |det V|.
        degenerate: "zero" (R = 0) or "axis" (R = 1).
        tolerance: length of V, and quality, that count as zero; default sqrt(eps) of the type.

    >>> polar(torch.tensor([[[1.0, 0.1, 0.0], [0.1, 1.0, 0.0]]])).matrices.round(decimals=3)
    tensor([[[1., 0., 0.], [0., 1., 0.], [0., 0., 1.]]])
    """
    v, tolerance = _checked(vectors, group, degenerate, tolerance)
    if v.shape[1] == 2:
        v = torch.cat([v, torch.zeros_like(v[:, :1])], 1)
    size, bad = _length(v.flatten(1), tolerance)
    unit = torch.eye(3, dtype=v.dtype, device=v.device) * 3**-0.5
    v = torch.where(bad[:, None, None], unit, v / size[:, None, None])
    sign = torch.ones_like(size)
    if group == "O(3)":
        sign = torch.where(determinant(v) < 0, -sign, sign)
    with torch.no_grad():
        _, zeta = _nearest_rotation(v * sign[:, None, None])
        quality = zeta / _BEST_ZETA
        bad = bad | (quality <= max(tolerance, _ROUNDING))
        if group == "O(3)":
            quality = torch.minimum(quality, determinant(v).abs() / _BEST_DETERMINANT)
    bad = bad | (quality <= tolerance)
    v = torch.where(bad[:, None, None], unit, v)
    sign = torch.where(bad, 1.0, sign)[:, None, None]
    matrices = _nearest_rotation(v * sign)[0] * sign
    if degenerate == "zero":
        matrices = torch.where(bad[:, None, None], 0.0, matrices)
    return _finished(matrices, torch.where(bad, 0, quality), vectors)


def _nearest_rotation(v: Tensor) -> tuple[Tensor, Tensor]:
    """Equation (1) and its denominator, for |V| = 1."""
    with full_precision(v):
        dual, gram = cofactor(v), v @ v.mT
        first, second = gram.diagonal(dim1=-2, dim2=-1).sum(-1), dual.square().sum((-2, -1))
        third = determinant(v)
        with torch.no_grad():
            x = (first + 2 * (3 * second).sqrt()).sqrt()
            for _ in range(_NEWTON_STEPS):
                x = _newton(x, first, second, third)
        # two more steps with gradient make derivatives up to the third exact
        x = _newton(_newton(x.detach(), first, second, third), first, second, third)
        half = (x * x - first) / 2
        zeta = x * half - third
        numerator = (half + first)[:, None, None] * v + x[:, None, None] * dual - gram @ v
        return numerator / zeta[:, None, None], zeta


def _newton(x: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    square = x * x - first
    slope = 4 * x * square - 8 * third
    tiny = slope <= _ROUNDING / 10
    step = (square * square - 4 * second - 8 * third * x) / torch.where(tiny, 1.0, slope)
    return x - torch.where(tiny, 0.0, step)


def _checked(
    vectors: Tensor, group: str, degenerate: str, tolerance: float | None
) -> tuple[Tensor, float]:
    if group not in GROUPS:
        raise ValueError(f"group is 'SO(3)' or 'O(3)', got {group!r}")
    if degenerate not in DEGENERATE:
        raise ValueError(f"degenerate is 'zero' or 'axis', got {degenerate!r}")
    needed = (3,) if group == "O(3)" else (2, 3)
    if vectors.ndim != 3 or vectors.shape[1] not in needed or vectors.shape[2] != 3:
        counts = " or ".join(map(str, needed))
        raise ValueError(
            f"{group} frames need vectors [N, {counts}, 3], got the shape {list(vectors.shape)}"
        )
    if tolerance is None:
        tolerance = torch.finfo(vectors.dtype).eps ** 0.5
    return vectors.double(), tolerance


def _length(v: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """|v| with finite derivatives of every order (1 where it counts as zero), and where it does."""
    square = v.square().sum(-1)
    bad = square <= tolerance**2
    return torch.where(bad, 1.0, square).sqrt(), bad


def _finished(matrices: Tensor, quality: Tensor, vectors: Tensor) -> Frames:
    dtype = torch.promote_types(vectors.dtype, torch.float32)
    return Frames(matrices.to(dtype), quality.detach().to(dtype), NEAR_SINGULAR)
