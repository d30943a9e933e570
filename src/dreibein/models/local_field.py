"""Message passing in local frames: what tensor field networks become without their constraint.

Every atom has a frame R_i and features x_i written in it; a neighbor's arrive as x_{j->i}, turned
into the receiver's frame. All W are any matrices, over channels and components alike. With

    e_ij = W_r radial(r_ij) * W_a Y(R_i r_ij / |r_ij|),   A_i(y) = sum_j phi e_ij * (W y_{j->i}) / 4

(phi the envelope, * number by number, 4 the root of typical neighbors) the interactions are

    convolution  x_i <- S x_i + silu(W sum_n prod_{m <= n} W_nm A_i(x)),  n <= correlation       (1)
    painn        x_i <- x_i + W A_i(MLP(x)),               x_i <- x_i + MLP(x_i)                 (2)
    egnn         m_ij = phi MLP(x_i, x_{j->i}, e_ij),      x_i <- x_i + MLP(x_i, sum_j m_ij / 4) (3)
    tensornet    y = LayerNorm x,   c = (W y_i) * (W y_i + A_i(y)),   d = W c / (1 + mean c^2),
                 x_i <- x_i + d + W ((W d) * (W d))                                              (4)

They are what `TensorFieldConfig.local` and `TensorNetConfig.local` make of NequIP (MACE with
correlation: its symmetric contraction, arXiv 2206.07697, becomes products of numbers), PaiNN
(2102.03150), EGNN (2102.09844) and TensorNet (2306.06482: `reps` 32x2n, matrices that arrive as
R_ij X R_ij^T; Y M + M Y becomes any bilinear map of both, at the rank `channels`). Attention is
`LoCaFormer`.
"""

from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from dreibein.frames import Frames, Transport
from dreibein.nn.convolutions import EdgeConv
from dreibein.nn.environment import (
    EdgeFeatures,
    EdgeFilter,
    EnvironmentConfig,
    FrameNetwork,
    GlobalFeatures,
    LocalEnvironment,
)
from dreibein.nn.frame_message_passing import FrameMessagePassing
from dreibein.o3 import Reps, parse_reps
from dreibein.systems.graphs import Graph

TYPICAL_NEIGHBORS = 16.0
"""Sums over neighbors are divided by the root of this."""


class LocalFieldConfig(EnvironmentConfig):
    """Hyperparameters of message passing in local frames."""

    architecture: Literal["local_field"] = "local_field"
    interaction: Literal["convolution", "painn", "egnn", "tensornet"] = Field(
        "convolution", description="the local form of which network: equations (1) to (4)"
    )
    reps: str = Field(
        "32x0n+16x1n+8x2n",
        description="features of an atom: Cartesian (8x1n), irreps (8x1o), learned (m64), or mixed",
    )
    correlation: int = Field(
        1, ge=1, le=4, description="factors of messages multiplied at an atom (convolution)"
    )
    layers: int = Field(2, ge=0, description="interactions")

    @field_validator("reps")
    @classmethod
    def _readable(cls, value: str) -> str:
        parse_reps(value)
        return value

    @model_validator(mode="after")
    def _has_an_effect(self) -> "LocalFieldConfig":
        if self.correlation > 1 and self.interaction != "convolution":
            raise ValueError(
                f"correlation is of the interaction convolution, not of {self.interaction}: "
                "leave it at 1"
            )
        return self


class LocalField(FrameNetwork):
    """Atomic energies from one of the equations (1) to (4), by an MLP of the last features.

    Args:
        config: Hyperparameters.
        elements: Atomic numbers that occur; each gets a row of the element table.

    Raises:
        ValueError: No elements, one twice, or one outside 0 ... 118.
    """

    def __init__(self, config: LocalFieldConfig, elements: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.elements = config, tuple(elements)
        reps, channels = parse_reps(config.reps), config.channels
        self.environment = LocalEnvironment(config, self.elements)
        self.start = nn.Linear(channels, reps.dim)
        num_angular = self.environment.num_angular
        layer = LAYERS[config.interaction]
        self.layers = nn.ModuleList(layer(reps, config, num_angular) for _ in range(config.layers))
        self.head = _mlp(reps.dim, channels, 1)
        self.global_features = GlobalFeatures(reps.dim, channels) if config.targets else None
        if not config.energy:  # drawn before it goes: the other weights do not depend on it
            del self.head
        self.to(torch.get_default_dtype())  # constants are made in float64

    def features(self, graph: Graph) -> tuple[Tensor, Frames]:
        """Local features after the last layer [N, reps.dim], and the frames they are written in."""
        scalars, transport, edges = self.environment(graph)
        x = self.start(scalars)
        for layer in self.layers:
            x = layer(x, transport, edges)
        return x, transport.frames


class FilteredSum(FrameMessagePassing):
    """A_i(y) [N, channels] from local features y.

    Args:
        reps: What y transforms as.
        config: Hyperparameters.
        num_angular: Width of the angular features.
    """

    def __init__(self, reps: Reps, config: LocalFieldConfig, num_angular: int) -> None:
        super().__init__({"y": reps})
        self.filter = EdgeFilter(config.num_radial, num_angular, config.channels)
        self.send = nn.Linear(reps.dim, config.channels, bias=False)

    def forward(self, y: Tensor, transport: Transport, edges: EdgeFeatures) -> Tensor:
        """Sums over neighbors of local features [N, reps.dim]."""
        edge = self.filter(edges) * (edges.envelope / TYPICAL_NEIGHBORS**0.5)[:, None]
        return self.propagate(transport.edge_index, transport=transport, y=y, edge=edge)

    def message(self, y_j: Tensor, edge: Tensor) -> Tensor:
        """The term of an edge [E, channels]."""
        return edge * self.send(y_j)

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        """The sum over neighbors."""
        return inputs.new_zeros(dim_size, inputs.shape[1]).index_add(0, index, inputs)


class Convolution(nn.Module):
    """Equation (1)."""

    def __init__(self, reps: Reps, config: LocalFieldConfig, num_angular: int) -> None:
        super().__init__()
        channels = config.channels
        self.sum = FilteredSum(reps, config, num_angular)
        self.factors = nn.ModuleList(
            nn.Linear(channels, (n + 1) * channels) for n in range(1, config.correlation)
        )
        self.out = nn.Linear(channels, reps.dim)
        self.keep = nn.Linear(reps.dim, reps.dim, bias=False)

    def forward(self, x: Tensor, transport: Transport, edges: EdgeFeatures) -> Tensor:
        """Local features [N, reps.dim] of the next layer."""
        total = self.products(self.sum(x, transport, edges))
        return self.keep(x) + nn.functional.silu(self.out(total))

    def products(self, sums: Tensor) -> Tensor:
        """Sum of the products of n factors linear in A [N, channels], n <= correlation."""
        total = sums
        for factors in self.factors:
            total = total + factors(sums).unflatten(1, (-1, sums.shape[1])).prod(1)
        return total


class FilteredNetwork(nn.Module):
    """Equation (2)."""

    def __init__(self, reps: Reps, config: LocalFieldConfig, num_angular: int) -> None:
        super().__init__()
        dim, channels = reps.dim, config.channels
        self.send = _mlp(dim, channels, dim)
        self.sum = FilteredSum(reps, config, num_angular)
        self.out = nn.Linear(channels, dim, bias=False)
        self.update = _mlp(dim, 2 * channels, dim)

    def forward(self, x: Tensor, transport: Transport, edges: EdgeFeatures) -> Tensor:
        """Local features [N, reps.dim] of the next layer."""
        x = x + self.out(self.sum(self.send(x), transport, edges))
        return x + self.update(x)


class EdgeNetwork(nn.Module):
    """Equation (3)."""

    def __init__(self, reps: Reps, config: LocalFieldConfig, num_angular: int) -> None:
        super().__init__()
        dim, channels = reps.dim, config.channels
        self.filter = EdgeFilter(config.num_radial, num_angular, channels)
        network = nn.Sequential(_mlp(2 * dim + channels, channels, channels), nn.SiLU())
        self.messages = EdgeConv(reps, f"{channels}x0e", network)
        self.update = _mlp(dim + channels, 2 * channels, dim)

    def forward(self, x: Tensor, transport: Transport, edges: EdgeFeatures) -> Tensor:
        """Local features [N, reps.dim] of the next layer."""
        envelope = edges.envelope / TYPICAL_NEIGHBORS**0.5
        sums = self.messages(x, transport, self.filter(edges), envelope)
        return x + self.update(torch.cat((x, sums), 1))


class BilinearUpdate(nn.Module):
    """Equation (4)."""

    def __init__(self, reps: Reps, config: LocalFieldConfig, num_angular: int) -> None:
        super().__init__()
        dim, channels = reps.dim, config.channels
        self.norm = nn.LayerNorm(dim)
        self.sum = FilteredSum(reps, config, num_angular)
        self.own = nn.Linear(dim, 2 * channels, bias=False)
        self.out = nn.Linear(channels, dim, bias=False)
        self.square = nn.Linear(dim, 2 * channels, bias=False)
        self.squared = nn.Linear(channels, dim, bias=False)

    def forward(self, x: Tensor, transport: Transport, edges: EdgeFeatures) -> Tensor:
        """Local features [N, reps.dim] of the next layer."""
        y = self.norm(x)
        first, second = self.own(y).chunk(2, 1)
        c = first * (second + self.sum(y, transport, edges))
        d = self.out(c / (1.0 + c.square().mean(1, keepdim=True)))
        left, right = self.square(d).chunk(2, 1)
        return x + d + self.squared(left * right)


LAYERS: dict[str, type[nn.Module]] = {
    "convolution": Convolution,
    "painn": FilteredNetwork,
    "egnn": EdgeNetwork,
    "tensornet": BilinearUpdate,
}


def _mlp(inward: int, hidden: int, outward: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inward, hidden), nn.SiLU(), nn.Linear(hidden, outward))
