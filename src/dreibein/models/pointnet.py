"""PointNet++ between local frames: tensors of points, such as the normals of a surface.

One network for frames of any kind. With frames that turn with the cloud it is equivariant under
O(3); with `frames.identity()` it is an ordinary PointNet++ of the same weights, which sees the axes
of the laboratory and must learn from turned copies what the other one knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dreibein.frames import Frames
from dreibein.nn import FeaturePropagation, PointCloud, SetAbstraction, centered
from dreibein.o3 import TensorReps, check_features, direct_sum, parse_reps


@dataclass(frozen=True)
class PointLevel:
    """One coarser level of a cloud.

    Args:
        count: points that are left of each cloud.
        radius: of the neighborhoods, in the unit of the positions; None for the whole cloud.
        neighbors: most points that one hears.
        reps: its features.
    """

    count: int
    radius: float | None
    neighbors: int
    reps: str


LEVELS = (
    PointLevel(64, 0.4, 16, "32x0n+16x1n"),
    PointLevel(16, 0.8, 16, "32x0n+16x1n+4x2n"),
    PointLevel(1, None, 16, "64x0n+16x1n"),
)
"""For clouds of some hundred points within a sphere of radius one."""


class PointNet(nn.Module):
    """y_i = act(R_iᵀ) head(x_i): set abstraction down the levels, propagation up again.

    The first features are MLP([R_i (p_i − c), act(R_i) x_i]) with the centroid c, so the network
    does not see where the cloud lies; it does see its size (scale clouds to radius one or so).
    The architecture is that of arXiv 1706.02413, carried between frames as in arXiv 2405.15389;
    LayerNorm takes the place of BatchNorm, so that a cloud's result does not depend on its batch.

    Args:
        out_reps: what is returned for each point, such as "1x1n".
        in_reps: given global features of points, such as "1x0n"; None for positions alone.
        reps: features of the points themselves.
        levels: from fine to coarse; the last may have one point, which hears the whole cloud.

    Raises:
        ValueError: representations without a global form (`MLPReps`) on the way in or out.

    >>> from dreibein.nn import PointFrames
    >>> pos = torch.randn(100, 3)
    >>> PointNet("1x1n")(pos, PointFrames()(pos)).shape
    torch.Size([100, 3])
    """

    def __init__(
        self,
        out_reps: str,
        *,
        in_reps: str | None = None,
        reps: str = "32x0n+8x1n",
        levels: Sequence[PointLevel] = LEVELS,
    ) -> None:
        super().__init__()
        self.out_reps = parse_reps(out_reps)
        self.in_reps = parse_reps(in_reps) if in_reps else None
        given = () if self.in_reps is None else (self.in_reps,)
        for one in (*given, self.out_reps):
            if one.needs_learned:
                raise ValueError(f"{one!r} has a learned part, which has no global form")
        self.first_reps = direct_sum((TensorReps("1x1n"), *given))
        ladder = [parse_reps(text) for text in (reps, *(level.reps for level in levels))]
        self.embed = _mlp(self.first_reps.dim, ladder[0].dim)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for fine, coarse, level in zip(ladder, ladder[1:], levels):
            self.down.append(
                SetAbstraction(
                    fine,
                    coarse,
                    _mlp(fine.dim + 3, coarse.dim),
                    count=level.count,
                    radius=level.radius,
                    neighbors=level.neighbors,
                )
            )
            self.up.append(
                FeaturePropagation(coarse, fine, fine, _mlp(coarse.dim + fine.dim, fine.dim))
            )
        self.head = _mlp(ladder[0].dim, self.out_reps.dim)

    def forward(
        self,
        pos: Tensor,
        frames: Frames,
        batch: Tensor | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        """Global features [N, out_reps.dim], equivariant if the frames are.

        Args:
            pos: [N, 3].
            frames: one for each point, or one for all.
            batch: cloud of each point [N], rising.
            x: global features [N, in_reps.dim], if the network takes any.
        """
        if (x is None) != (self.in_reps is None):
            wanted = "no features" if self.in_reps is None else f"features of {self.in_reps!r}"
            raise ValueError(f"this PointNet takes positions and {wanted}: see in_reps")
        dtype = next(self.parameters()).dtype
        first = centered(pos, batch).to(dtype)
        if x is not None:
            first = torch.cat((first, x.to(dtype)), -1)
        check_features(self.first_reps, first)
        cloud = PointCloud(pos, frames, first, batch)
        fine = [cloud.with_features(self.embed(cloud.frames.to_local(self.first_reps, first)))]
        for layer in self.down:
            fine.append(layer(fine[-1]))
        coarse = fine.pop()
        for layer in reversed(self.up):
            coarse = layer(coarse, fine.pop())
        return coarse.frames.to_global(self.out_reps, self.head(coarse.x))


def _mlp(width: int, out: int) -> nn.Sequential:
    hidden = max(width, out, 32)
    return nn.Sequential(
        nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, out)
    )
