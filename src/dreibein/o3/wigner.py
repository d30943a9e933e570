"""Wigner matrices as polynomials in the entries of M, for every 3x3 matrix M.

    P_1(M) = M,    P_l(M) = c_l^T (P_{l-1}(M) x M) c_l                                   (1)

c_l embeds degree l in (l-1) x 1 (`coupling.raising`), so P_l(M) = pi_l M^{x l} pi_l^T with pi_l the
projection on symmetric traceless tensors: project, act on the symmetric power, project. P_l is
homogeneous of degree l, P_l(M^T) = P_l(M)^T, and for orthogonal g and h

    P_l(g M h) = P_l(g) P_l(M) P_l(h),                                                  (2)

because an orthogonal matrix keeps the traceless tensors among themselves; for a rotation P_l is the
Wigner matrix D^l. (Two non- orthogonal matrices do not multiply so.) A pseudotensor contains one
cross product, and (Ma) x (Mb) = cof(M) (a x b), hence

    P_0^p(M) = det M,    P_l^p(M) = c_l^T (P_{l-1}(M) x cof M) c_l,                      (3)

which is det(R) P_l(R) for orthogonal R, obeys (2), and needs no sign. A matrix of rank two keeps
the pseudovector along its kernel, as a mirror plane does; with det M as the factor that would be
lost.
"""

import torch
from torch import Tensor

from .coupling import raising_factors


def cofactor(matrix: Tensor) -> Tensor:
    """Cofactor matrix [..., 3, 3]: (Ma) x (Mb) = cof(M) (a x b), and cof(M) = det(M) M^-T.

    >>> cofactor(torch.diag(torch.tensor([1.0, 2.0, 0.0]))).diagonal()
    tensor([0., 0., 2.])
    """
    first, second, third = matrix.unbind(-2)
    return torch.stack(
        [
            torch.linalg.cross(second, third),
            torch.linalg.cross(third, first),
            torch.linalg.cross(first, second),
        ],
        dim=-2,
    )


def determinant(matrix: Tensor) -> Tensor:
    """Determinant [...] as the polynomial it is, with derivatives at singular matrices."""
    first, second, third = matrix.unbind(-2)
    return (first * torch.linalg.cross(second, third)).sum(-1)


def raise_degree(lower: Tensor, matrix: Tensor, l: int) -> Tensor:
    """Equation (1), batch last: P_l [2l+1, 2l+1, N] from P_{l-1} [2l-1, 2l-1, N], M [3, 3, N]."""
    left, right = raising_factors(l, matrix.dtype, matrix.device)
    size, small, count = 2 * l + 1, 2 * l - 1, matrix.shape[-1]
    half = (left @ lower.reshape(small, small * count)).reshape(3, 1, size, small, count)
    half = half.transpose(2, 3)
    rows = matrix.reshape(3, 3, 1, 1, count)
    joined = torch.addcmul(half[0] * rows[0], half[1], rows[1])
    joined = torch.addcmul(joined, half[2], rows[2])
    # two plain products of matrices: a batched one would be taken apart in the backward pass
    columns = right @ joined.reshape(3 * small, size * count)
    return columns.reshape(size, size, count).transpose(0, 1)


def wigner_matrix(l: int, matrix: Tensor, *, pseudo: bool = False) -> Tensor:
    """P_l(M), or P_l^p(M) if `pseudo`: the Wigner matrix [..., 2l+1, 2l+1] of M [..., 3, 3].

    Args:
        l: degree, 0 or more.
        matrix: any 3x3 matrices; float32 or float64.
        pseudo: equation (3) instead of (1).

    >>> wigner_matrix(2, torch.eye(3)).diagonal()
    tensor([1.0000, 1.0000, 1.0000, 1.0000, 1.0000])
    """
    batch = matrix.shape[:-2]
    last = matrix.reshape(-1, 3, 3).permute(1, 2, 0).contiguous()
    lower = torch.ones_like(last[:1, :1])
    for degree in range(1, l if pseudo else l + 1):
        lower = last if degree == 1 else raise_degree(lower, last, degree)
    if pseudo and l == 0:
        lower = determinant(matrix).reshape(1, 1, -1)
    elif pseudo:
        dual = cofactor(matrix).reshape(-1, 3, 3).permute(1, 2, 0).contiguous()
        lower = dual if l == 1 else raise_degree(lower, dual, l)
    return lower.permute(2, 0, 1).reshape(*batch, 2 * l + 1, 2 * l + 1)
