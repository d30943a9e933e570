"""Frames of the points of a cloud, learned from their surroundings and the centroid."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from dreibein.frames import Frames, gram_schmidt
from dreibein.neighbors import nearest_points
from dreibein.nn.frame_predictor import FramePredictor
from dreibein.nn.radial import lengths_and_units


class PointFrames(nn.Module):
    """R_i = construct(v_i), v_ik = Σ_j w_k(e_ij) φ(d_ij/ρ_i) r_ij/d_ij + u_k(|a_i|²) a_i.

    a_i = p_i − c points away from the centroid c of the cloud, ρ_i is the distance to the last of
    the nearest neighbors j, where φ ends, so that v does not jump when they change; e_ij are the
    invariants |a_i|², |a_j|², (d_ij/ρ_i)², r_ij·a_i/ρ_i, r_ij·a_j/ρ_i. The second term tells
    outside from inside: on a flat patch the sum alone spans a plane, and which side a third axis
    takes would be up to rounding.

    With three vectors the frames are of O(3), so mirror images give mirrored outputs. Hard frames
    jump where vectors become parallel: for rigid clouds, not for potentials.

    Args:
        neighbors: of each point.
        hidden: width of the networks w and u.
        construct: vectors [N, 3, 3] to `Frames`: default `gram_schmidt` for O(3).

    >>> PointFrames()(torch.randn(20, 3)).matrices.shape
    torch.Size([20, 3, 3])
    """

    def __init__(
        self,
        *,
        neighbors: int = 16,
        hidden: int = 32,
        construct: Callable[[Tensor], Frames] | None = None,
    ) -> None:
        super().__init__()
        self.neighbors = neighbors
        weights = nn.Sequential(nn.Linear(5, hidden), nn.SiLU(), nn.Linear(hidden, 3))
        self.outward = nn.Sequential(nn.Linear(1, hidden), nn.SiLU(), nn.Linear(hidden, 3))
        self.predictor = FramePredictor(
            weights, 1.0, construct=construct or partial(gram_schmidt, group="O(3)")
        )

    def forward(self, pos: Tensor, batch: Tensor | None = None) -> Frames:
        """Frames of the points.

        Args:
            pos: [N, 3], of about unit size: a is measured in the unit of the positions.
            batch: cloud of each point [N], rising.
        """
        sender, receiver = edges = nearest_points(pos, self.neighbors, batch=batch)
        away = centered(pos, batch)
        r = away[sender] - away[receiver]
        lengths, _ = lengths_and_units(r)
        reach = lengths.new_zeros(len(pos)).scatter_reduce(0, receiver, lengths, "amax")[receiver]
        r = r / torch.where(reach > 0, reach, 1.0)[:, None]
        dtype = next(self.parameters()).dtype
        r, away = r.to(dtype), away.to(dtype)
        square = away.square().sum(-1, keepdim=True)
        dots = [(r * other).sum(-1) for other in (r, away[receiver], away[sender])]
        vectors = self.predictor.vectors(square, torch.stack(dots, -1), r, edges)
        vectors = vectors + self.outward(square)[:, :, None] * away[:, None, :]
        return self.predictor.construct(vectors)


def centered(pos: Tensor, batch: Tensor | None = None) -> Tensor:
    """p_i − c, c the mean of the points of the same cloud [N, 3], in float64."""
    x = pos.double()
    if not len(x):
        return x
    batch = torch.zeros(len(x), dtype=torch.int64, device=x.device) if batch is None else batch
    clouds = int(batch.max()) + 1
    size = torch.bincount(batch, minlength=clouds).clamp(min=1)
    mean = x.new_zeros(clouds, 3).index_add(0, batch, x) / size[:, None]
    return x - mean[batch]
