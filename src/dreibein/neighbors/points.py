"""Points without a box: which are nearest, and which few of them cover a cloud.

Several clouds are told apart by `batch` [N], the cloud of each point, in rising order as in PyG.
Distances are formed in float64, by subtraction, so that they are the same for a turned cloud to
rounding and exactly zero for coincident points. Nothing here is differentiated or left to chance:
the result depends on the points, not on their order, unless two distances are equal; then the
point that stands first is preferred where one is picked, and any of them where k are.
"""

import torch
from torch import Tensor
from torch_geometric.utils import to_dense_batch

__all__ = ["farthest_points", "nearest_points"]

# Distances held at a time.
_BLOCK = 1 << 22


@torch.no_grad()
def farthest_points(points: Tensor, count: int, batch: Tensor | None = None) -> Tensor:
    """Choose p_0 farthest from the centroid, then p_n = argmax_i min_{m<n} |x_i − p_m|.

    Args:
        points: [N, D] of any width.
        count: of each cloud; all of a cloud that has fewer.
        batch: cloud of each point [N], rising; None for one cloud.

    Returns:
        Rows of `points` [sum of min(count, size)], cloud after cloud, in the order of choice; no
        row twice, also where points coincide.

    Raises:
        ValueError: points that are not [N, D] or a batch that does not rise; count below 1.

    >>> farthest_points(torch.tensor([[0.0], [1.0], [2.0], [4.0]]), 3)
    tensor([3, 0, 2])
    """
    batch = _checked(points, batch, "points")
    if count < 1:
        raise ValueError(f"count is the number of points to choose, at least 1, got {count}")
    if not len(points):
        return batch
    x, real = to_dense_batch(points.double(), batch)
    sizes = real.sum(1)
    rows = torch.arange(len(x), device=x.device)
    mean = x.sum(1) / sizes.clamp(min=1)[:, None]
    away = (x - mean[:, None]).square().sum(-1).masked_fill(~real, -1.0)
    nearest = torch.full_like(away, torch.inf).masked_fill(~real, -1.0)
    chosen = []
    for _ in range(min(count, int(sizes.max()))):
        last = away.argmax(1)
        chosen.append(last)
        nearest = torch.minimum(nearest, (x - x[rows, last][:, None]).square().sum(-1))
        nearest[rows, last] = -1.0
        away = nearest
    order = torch.stack(chosen, 1)  # [B, count]
    first = sizes.cumsum(0) - sizes
    return (order + first[:, None])[torch.arange(order.shape[1], device=x.device) < sizes[:, None]]


@torch.no_grad()
def nearest_points(
    points: Tensor,
    k: int,
    *,
    queries: Tensor | None = None,
    radius: float | None = None,
    batch: Tensor | None = None,
    query_batch: Tensor | None = None,
) -> Tensor:
    """Edges from the k points nearest to each query, those with |x_j − q_i| <= radius.

    Args:
        points: senders x [N, D]; of a space of any width, features too.
        k: most neighbors of a query; fewer where the cloud has fewer or the radius ends.
        queries: receivers q [M, D]; None for the points themselves, none its own neighbor.
        radius: in the unit of the points; None for no bound.
        batch: cloud of each point [N], rising.
        query_batch: cloud of each query [M], rising.

    Returns:
        edge_index [2, E], row 0 the point, row 1 the query; sorted by query, then distance.

    Raises:
        ValueError: shapes that do not fit, a batch that does not rise, k below 1, radius below 0.

    >>> x = torch.tensor([[0.0], [1.0], [3.0]])
    >>> nearest_points(x, 1)
    tensor([[1, 0, 1],
            [0, 1, 2]])
    >>> nearest_points(x, 2, queries=torch.tensor([[2.9]]), radius=0.5)
    tensor([[2],
            [0]])
    """
    batch = _checked(points, batch, "points")
    if queries is None:
        same, queries, query_batch = True, points, batch
    else:
        same, query_batch = False, _checked(queries, query_batch, "queries")
    if points.shape[1] != queries.shape[1]:
        raise ValueError(f"points of width {points.shape[1]} meet queries of {queries.shape[1]}")
    if k < 1:
        raise ValueError(f"k is the number of neighbors, at least 1, got {k}")
    if radius is not None and not radius >= 0:
        raise ValueError(f"radius is a length, at least 0, got {radius}")
    if not len(points) or not len(queries):
        return torch.zeros(2, 0, dtype=torch.int64, device=points.device)
    clouds = int(torch.maximum(batch.max(), query_batch.max())) + 1
    x, real = to_dense_batch(points.double(), batch, batch_size=clouds)
    first = real.sum(1).cumsum(0) - real.sum(1)
    found = []
    for rows in torch.arange(len(queries), device=points.device).split(
        max(1, _BLOCK // (x.shape[1] * x.shape[2]))
    ):
        cloud = query_batch[rows]
        distance = torch.cdist(
            queries[rows, None].double(),
            x[cloud],
            compute_mode="donot_use_mm_for_euclid_dist",  # keeps zero exactly zero
        )[:, 0].masked_fill(~real[cloud], torch.inf)
        if same:
            distance[torch.arange(len(rows), device=x.device), rows - first[cloud]] = torch.inf
        near, column = distance.topk(min(k, x.shape[1]), largest=False)
        keep = near < torch.inf
        if radius is not None:
            keep &= near <= radius
        sender = (column + first[cloud][:, None])[keep]
        found.append(torch.stack((sender, rows[:, None].expand_as(keep)[keep])))
    return torch.cat(found, 1)


def _checked(points: Tensor, batch: Tensor | None, name: str) -> Tensor:
    if points.ndim != 2:
        raise ValueError(f"{name} are [N, D], got the shape {list(points.shape)}")
    if batch is None:
        return torch.zeros(len(points), dtype=torch.int64, device=points.device)
    if batch.shape != (len(points),) or batch.dtype != torch.int64:
        raise ValueError(
            f"the batch of {len(points)} {name} is [{len(points)}] int64, "
            f"got {list(batch.shape)} {batch.dtype}"
        )
    if (batch.diff() < 0).any():
        raise ValueError(f"the batch of the {name} must rise: sort the {name} by cloud")
    return batch
