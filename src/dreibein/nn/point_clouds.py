"""PointNet++ and DGCNN between local frames: coarser clouds, finer clouds, graphs that follow x.

Every point has a frame, and its features are written there. Frames are data: with frames that
turn with the cloud these layers are equivariant; with `frames.identity()` they are the published
ones (arXiv 1706.02413, 1801.07829), for the same weights.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dreibein.frames import Frames, Transport
from dreibein.neighbors import farthest_points, nearest_points
from dreibein.nn.convolutions import EdgeConv
from dreibein.nn.frame_message_passing import FrameMessagePassing
from dreibein.nn.learned_transition import LearnedTransition
from dreibein.o3 import Reps, check_features, parse_reps


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points of one or more clouds, a frame and local features of each.

    Args:
        pos: [N, 3], best in float64: relative positions are formed before they are cast.
        frames: one of each point, or one for all (`identity`).
        x: local features [N, dim].
        batch: cloud of each point [N], rising; default one cloud.

    Raises:
        ValueError: shapes that do not fit.
    """

    pos: Tensor
    frames: Frames
    x: Tensor
    batch: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.pos)
        if self.pos.ndim != 2 or self.pos.shape[1] != 3:
            raise ValueError(f"positions are [N, 3], got the shape {list(self.pos.shape)}")
        if len(self.frames) == 1 != count:
            matrices = self.frames.matrices.expand(count, 3, 3)
            object.__setattr__(self, "frames", replace(self.frames, matrices=matrices))
        for name, found in (("frames", self.frames), ("features", self.x), ("batch", self.batch)):
            if found is not None and len(found) != count:
                raise ValueError(f"a cloud of {count} points has {name} of {len(found)}")

    def __len__(self) -> int:
        return len(self.pos)

    def select(self, index: Tensor) -> "PointCloud":
        """Some of its points."""
        batch = None if self.batch is None else self.batch[index]
        return PointCloud(self.pos[index], self.frames.select(index), self.x[index], batch)

    def with_features(self, x: Tensor) -> "PointCloud":
        """The same points with other features."""
        return replace(self, x=x)


class SetAbstraction(nn.Module):
    """y_i = max_j network([x_{j→i}, R_i (p_j − p_i) / radius]) at a few points of the cloud.

    The points i are chosen by `farthest_points`; j runs over the nearest points within the radius,
    i among them. Sampling and grouping of arXiv 1706.02413, without chance; the maximum is taken in
    the frame of i.

    Args:
        in_reps: what x transforms as.
        out_reps: what y transforms as.
        network: from [E, in_reps.dim + 3] to [E, out_reps.dim]; any network.
        count: points that are left of each cloud; all where it has fewer.
        radius: in the unit of the positions; None for no bound, and no division.
        neighbors: most points that i hears, the nearest first.

    >>> layer = SetAbstraction("4x0n+2x1n", "8x0n", nn.Linear(13, 8), count=5, radius=1.0)
    >>> frames = Frames(torch.eye(3).expand(20, 3, 3))
    >>> cloud = PointCloud(torch.randn(20, 3), frames, torch.zeros(20, 10))
    >>> layer(cloud).x.shape
    torch.Size([5, 8])
    """

    def __init__(
        self,
        in_reps: Reps | str,
        out_reps: Reps | str,
        network: nn.Module,
        *,
        count: int,
        radius: float | None = None,
        neighbors: int = 16,
    ) -> None:
        super().__init__()
        if count < 1 or neighbors < 1:
            raise ValueError(f"count and neighbors are at least 1, got {count} and {neighbors}")
        if radius is not None and not radius > 0:
            raise ValueError(f"radius is a positive length, got {radius}")
        self.in_reps, self.out_reps = parse_reps(in_reps), parse_reps(out_reps)
        self.count, self.radius, self.neighbors = count, radius, neighbors
        self.grouping = Grouping(self.in_reps, self.out_reps, network)

    def forward(self, cloud: PointCloud) -> PointCloud:
        """The coarser cloud, with features of `out_reps`."""
        check_features(self.in_reps, cloud.x)
        coarse = cloud.select(farthest_points(cloud.pos, self.count, cloud.batch))
        edges = nearest_points(
            cloud.pos,
            self.neighbors,
            queries=coarse.pos,
            radius=self.radius,
            batch=cloud.batch,
            query_batch=coarse.batch,
        )
        vectors = cloud.pos[edges[0]] - coarse.pos[edges[1]]
        if self.radius is not None:
            vectors = vectors / self.radius
        transport = Transport(cloud.frames, edges, targets=coarse.frames)
        x = self.grouping(cloud.x, coarse.x, vectors.to(cloud.x.dtype), transport)
        return coarse.with_features(x)


class Grouping(FrameMessagePassing):
    """y_i = max_j network([x_{j→i}, R_i r_ij]), zero where nothing arrives.

    Args:
        in_reps: what x transforms as.
        out_reps: what y transforms as.
        network: from [E, in_reps.dim + 3] to [E, out_reps.dim].
    """

    def __init__(self, in_reps: Reps, out_reps: Reps, network: nn.Module) -> None:
        super().__init__({"x": in_reps}, to_local={"vectors": "1x1n"}, aggr="max")
        self.out_reps, self.network = out_reps, network

    def forward(self, x: Tensor, coarse: Tensor, vectors: Tensor, transport: Transport) -> Tensor:
        """Local features of the receivers [M, out_reps.dim].

        Args:
            x: local features of the senders [N, in_reps.dim].
            coarse: those of the receivers [M, in_reps.dim]; only their number counts.
            vectors: r_ij [E, 3], global.
            transport: from senders to receivers.
        """
        return self.propagate(
            transport.edge_index, transport=transport, x=(x, coarse), vectors=vectors
        )

    def message(self, x_j: Tensor, vectors: Tensor) -> Tensor:
        """What j says at i."""
        y = self.network(torch.cat((x_j, vectors), -1))
        check_width(self.out_reps, y, "SetAbstraction")
        return y


class FeaturePropagation(nn.Module):
    """y_i = network([Σ_j w_ij x_{j→i}, x_i]), w_ij = d_ij^-2 / Σ_k d_ik^-2 over the nearest j.

    j runs over the k nearest points of a coarser cloud (arXiv 1706.02413, equation 2, p = 2), x_i
    is what the finer cloud knew before. The sum is linear, so it is turned once a point. Where a
    fine point is a coarse one, as after `SetAbstraction`, it hears that one alone.

    Args:
        coarse_reps: what features of the coarse cloud transform as.
        fine_reps: what features of the fine cloud transform as.
        out_reps: what y transforms as.
        network: from [N, coarse_reps.dim + fine_reps.dim] to [N, out_reps.dim]; any network.
        k: coarse points that a fine one hears; all where there are fewer.

    >>> layer = FeaturePropagation("8x0n", "2x1n", "3x1n", nn.Linear(14, 9))
    >>> frames = Frames(torch.eye(3).expand(20, 3, 3))
    >>> fine = PointCloud(torch.randn(20, 3), frames, torch.zeros(20, 6))
    >>> coarse = fine.select(torch.arange(5)).with_features(torch.zeros(5, 8))
    >>> layer(coarse, fine).x.shape
    torch.Size([20, 9])
    """

    def __init__(
        self,
        coarse_reps: Reps | str,
        fine_reps: Reps | str,
        out_reps: Reps | str,
        network: nn.Module,
        *,
        k: int = 3,
    ) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"k is the number of coarse points, at least 1, got {k}")
        self.coarse_reps, self.fine_reps = parse_reps(coarse_reps), parse_reps(fine_reps)
        self.out_reps = parse_reps(out_reps)
        self.network, self.k = network, k
        learned = self.coarse_reps.needs_learned
        self.learned = LearnedTransition(self.coarse_reps) if learned else None

    def forward(self, coarse: PointCloud, fine: PointCloud) -> PointCloud:
        """The fine cloud with features of `out_reps`."""
        check_features(self.coarse_reps, coarse.x)
        check_features(self.fine_reps, fine.x)
        edges = nearest_points(
            coarse.pos, self.k, queries=fine.pos, batch=coarse.batch, query_batch=fine.batch
        )
        vectors = coarse.pos[edges[0]].double() - fine.pos[edges[1]].double()
        weights = inverse_square_weights(vectors, edges[1], len(fine)).to(coarse.x.dtype)
        transport = Transport(coarse.frames, edges, targets=fine.frames)
        if self.learned is None:
            total = transport.sum(self.coarse_reps, coarse.x, weights)
        else:
            arrived = transport.between(self.coarse_reps, coarse.x, learned=self.learned)
            total = arrived.new_zeros(len(fine), arrived.shape[1])
            total = total.index_add(0, edges[1], arrived * weights[:, None])
        y = self.network(torch.cat((total, fine.x), -1))
        check_width(self.out_reps, y, "FeaturePropagation")
        return fine.with_features(y)


class DynamicEdgeConv(nn.Module):
    """y_i = max_j network([x_i, x_{j→i}]) over the k points j nearest to i in feature space.

    A block of DGCNN (arXiv 1801.07829). Two points are compared in one frame, by the distance
    |act(R_iᵀ) x_i − act(R_jᵀ) x_j|, which no turn changes because act is orthogonal; learned parts
    (`MLPReps`), which have no global form, are compared as they are, which is invariant too.
    The features must tell points apart, so the first block is given positions (`1x1n`): where
    distances are equal, which neighbor is taken depends on the order of the points.

    Args:
        in_reps: what x transforms as.
        out_reps: what y transforms as.
        network: from [E, 2 in_reps.dim] to [E, out_reps.dim]; any network.
        k: neighbors; fewer in small clouds, zero features where there are none.
        aggr: as in PyG.

    >>> layer = DynamicEdgeConv("4x0n+2x1n", "8x0n", nn.Linear(20, 8), k=6)
    >>> frames = Frames(torch.eye(3).expand(20, 3, 3))
    >>> layer(PointCloud(torch.randn(20, 3), frames, torch.randn(20, 10))).x.shape
    torch.Size([20, 8])
    """

    def __init__(
        self,
        in_reps: Reps | str,
        out_reps: Reps | str,
        network: nn.Module,
        *,
        k: int = 20,
        aggr: str = "max",
    ) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"k is the number of neighbors, at least 1, got {k}")
        self.k = k
        self.conv = EdgeConv(in_reps, out_reps, network, aggr=aggr)
        self.in_reps, self.out_reps = self.conv.in_reps, self.conv.out_reps

    def neighbors(self, cloud: PointCloud) -> Tensor:
        """The graph, edge_index [2, E]."""
        check_features(self.in_reps, cloud.x)
        pieces, start = [], 0
        for part in self.in_reps.parts:
            piece = cloud.x.detach()[:, start : start + part.dim].double()
            start += part.dim
            pieces.append(piece if part.needs_learned else cloud.frames.to_global(part, piece))
        return nearest_points(torch.cat(pieces, -1), self.k, batch=cloud.batch)

    def forward(self, cloud: PointCloud) -> PointCloud:
        """The same points with features of `out_reps`."""
        transport = Transport(cloud.frames, self.neighbors(cloud))
        return cloud.with_features(self.conv(cloud.x, transport))


def inverse_square_weights(vectors: Tensor, receiver: Tensor, count: int) -> Tensor:
    """w_e = d_e^-2 / Σ d^-2 over the edges of each receiver, [E]; one where d = 0.

    Written d_min²/d² so that nothing overflows; at d = 0 the derivative is zero.

    Args:
        vectors: [E, 3].
        receiver: [E].
        count: number of receivers.
    """
    square = vectors.square().sum(-1)
    least = torch.full_like(square[:1], torch.inf).expand(count).clone()
    least = least.scatter_reduce(0, receiver, square.detach(), "amin")
    scale = least[receiver]
    on_point = scale == 0
    ratio = scale / torch.where(on_point, 1.0, square)
    ratio = torch.where(on_point, (square == 0).to(square.dtype), ratio)
    total = ratio.new_zeros(count).index_add(0, receiver, ratio)
    return ratio / total[receiver]


def check_width(reps: Reps, y: Tensor, owner: str) -> None:
    """Nothing if y has the width of the representation.

    Raises:
        ValueError: naming both.
    """
    if y.shape[-1] != reps.dim:
        raise ValueError(
            f"the network of {owner} returns {y.shape[-1]} numbers, but {reps!r} has {reps.dim}"
        )
