"""Hard frames from the geometry alone: nearest neighbors, principal axes."""

import torch
from torch import Tensor

from dreibein.o3 import determinant, full_precision

from .frames import NEAR_SINGULAR, Frames
from .orthonormal import GROUPS, gram_schmidt


def neighbor_frames(
    vectors: Tensor,
    edge_index: Tensor,
    num_nodes: int,
    *,
    group: str = "SO(3)",
    tolerance: float | None = None,
) -> Frames:
    """Gram-Schmidt frames of the directions to the two (O(3): three) nearest neighbors.

    They jump where two neighbors exchange their rank. A site with a tie (distances equal within
    `tolerance`, relatively) or with too few neighbors has no frame: zero, of quality 0.

    Args:
        vectors: r_ij [E, 3] from receiver i to sender j.
        edge_index: [2, E], row 1 the receiver.
        num_nodes: N.
        group: "SO(3)" or "O(3)".
        tolerance: default sqrt(eps) of the type of the vectors.
    """
    count = 2 if group == "SO(3)" else 3
    tolerance = torch.finfo(vectors.dtype).eps ** 0.5 if tolerance is None else tolerance
    receiver = edge_index[1]
    distances = vectors.detach().double().norm(dim=-1)
    order = distances.argsort(stable=True)
    order = order[receiver[order].argsort(stable=True)]
    degree = torch.bincount(receiver, minlength=num_nodes)
    start = degree.cumsum(0) - degree
    rank = torch.arange(len(order), device=order.device) - start[receiver[order]]
    near = torch.full((num_nodes, count + 1), torch.inf, device=vectors.device).double()
    axes = vectors.new_zeros(num_nodes, count, 3)
    for k in range(count + 1):
        edges = order[rank == k]
        near[receiver[edges], k] = distances[edges]
        if k < count:
            unit = vectors[edges] / vectors[edges].norm(dim=-1, keepdim=True)
            axes = axes.index_put((receiver[edges], torch.full_like(edges, k)), unit)
    gaps = near[:, 1:] - near[:, :-1]
    tied = (gaps <= tolerance * near[:, :-1]).any(1) | (degree < count)
    axes = torch.where(tied[:, None, None], 0.0, axes)
    return gram_schmidt(axes, group=group, tolerance=tolerance)


def inertia_frames(
    vectors: Tensor,
    edge_index: Tensor,
    num_nodes: int,
    *,
    weights: Tensor | None = None,
    group: str = "SO(3)",
    tolerance: float | None = None,
) -> Frames:
    """Principal axes of sum_j w_j r_ij r_ij^T, largest first, with sum_j w_j (r_ij . e)^3 > 0.

    Undetermined where two principal moments are equal or a third moment vanishes: there the frame
    is zero. The quality is the smallest relative gap or skewness.

    Args:
        vectors: r_ij [E, 3].
        edge_index: [2, E], row 1 the receiver.
        num_nodes: N.
        weights: w [E]; default 1.
        group: for "SO(3)" e3 = e1 x e2; for "O(3)" the third moment points e3 as well.
        tolerance: quality that counts as zero; default sqrt(eps) of the type of the vectors.
    """
    if group not in GROUPS:
        raise ValueError(f"group is 'SO(3)' or 'O(3)', got {group!r}")
    tolerance = torch.finfo(vectors.dtype).eps ** 0.5 if tolerance is None else tolerance
    r, receiver = vectors.double(), edge_index[1]
    w = torch.ones_like(r[:, 0]) if weights is None else weights.double()
    with full_precision(r):
        moment = _sum(w[:, None, None] * r[:, :, None] * r[:, None, :], receiver, num_nodes)
        gaps = _gaps(moment)
        bad = gaps <= tolerance
        safe = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=r.dtype, device=r.device))
        _, columns = torch.linalg.eigh(torch.where(bad[:, None, None], safe, moment))
        axes = columns.flip(-1).mT
        along = (axes[receiver] @ r[:, :, None])[..., 0]
        skew = _sum(w[:, None] * along**3, receiver, num_nodes).detach()
        size = _sum(w * r.detach().square().sum(-1) ** 1.5, receiver, num_nodes)[:, None].detach()
        skew = skew / torch.where(size > 0, size, 1.0)
    axes = axes * torch.where(skew < 0, -1.0, 1.0)[..., None]
    used = 3 if group == "O(3)" else 2
    if group == "SO(3)":
        axes = (
            axes
            * torch.stack([torch.ones_like(gaps)] * 2 + [determinant(axes.detach())], -1)[..., None]
        )
    quality = torch.minimum(gaps, skew[:, :used].abs().amin(-1))
    quality = torch.where(quality > tolerance, quality, 0.0)
    axes = torch.where((quality > 0)[:, None, None], axes, 0.0)
    dtype = torch.promote_types(vectors.dtype, torch.float32)
    return Frames(axes.to(dtype), quality.to(dtype), NEAR_SINGULAR)


def _sum(values: Tensor, index: Tensor, count: int) -> Tensor:
    return values.new_zeros(count, *values.shape[1:]).index_add(0, index, values)


def _gaps(moment: Tensor) -> Tensor:
    """Smallest difference of two principal moments over the largest moment, [N]."""
    values = torch.linalg.eigvalsh(moment.detach())
    largest = values[:, -1].clamp(min=torch.finfo(values.dtype).tiny)
    return values.diff(dim=-1).amin(-1) / largest
