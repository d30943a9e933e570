"""LoCaFormer: attention in local frames (arXiv 2509.26499; frames and messages of 2405.15389).

Every atom has a frame R_i from its neighbors and features x_i written in it, which are therefore
invariant: any network may act on them. A neighbor's features arrive as x_{j->i}, turned from its
frame into the receiver's. One layer:

    e_ij = W_r radial(r_ij) * W_a Y(R_i r_ij / |r_ij|)                                      (1)
    h_ij = e_ij * (W_i x_i + W_j x_{j->i}),    [s_ij, u_ij] = W_h h_ij,   v_ij = silu(u_ij)  (2)
    a_ij = phi(r_ij) exp(s_ij) / (1 + sum_k phi(r_ik) exp(s_ik)),         s bounded          (3)
    x_i <- x_i + W_o sum_j a_ij v_ij,          x_i <- x_i + MLP(x_i)                         (4)

with x normalized atom by atom before (2) and in (4). What differs from the published network, and
why: the envelope phi stands inside the sum of (3) and a constant 1 beside it (a normalization
before the envelope jumps when a neighbor enters the cutoff; without the constant the last neighbor
to leave would keep the weight one); LayerNorm sees one atom (over the graph it is not
size-extensive); frames are soft, so that energies are smooth and the same twice at symmetric sites.
"""

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from dreibein.frames import Frames, Transport
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

LARGEST_LOGIT = 8.0
"""Bound L of s = L tanh(s / L): exp(s) cannot overflow, and no maximum, which has kinks, is needed.
"""


class LoCaFormerConfig(EnvironmentConfig):
    """Hyperparameters of LoCaFormer."""

    architecture: Literal["locaformer"] = "locaformer"
    reps: str = Field(
        "64x0n+16x1n+4x2n",
        description="features of an atom: Cartesian (8x1n), irreps (8x1o), learned (m64), or mixed",
    )
    heads: int = Field(8, ge=1, description="attention heads; divides channels")
    layers: int = Field(3, ge=0, description="attention layers")
    attention: Literal["softmax", "sum"] = Field(
        "softmax", description="'softmax': equation (3); 'sum': a = phi silu(s), not normalized"
    )
    outputs: str | None = Field(
        None, description="what `tensors` returns for each atom beside the energy, such as 1x1o"
    )

    @field_validator("reps", "outputs")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            parse_reps(value)
        return value


class LoCaFormer(FrameNetwork):
    """Atomic energies, and tensors of atoms, from attention in local frames.

    Args:
        config: Hyperparameters.
        elements: Atomic numbers that occur; each gets a row of the element table.

    Raises:
        ValueError: No elements, or one outside 0 ... 118; heads that do not divide the channels;
            outputs without a global form (`MLPReps`).
    """

    def __init__(self, config: LoCaFormerConfig, elements: tuple[int, ...]) -> None:
        super().__init__()
        if config.channels % config.heads:
            raise ValueError(f"{config.heads} heads do not divide {config.channels} channels")
        self.config = config
        self.elements = tuple(elements)
        self.reps = parse_reps(config.reps)
        self.output_reps = parse_reps(config.outputs) if config.outputs else None
        if self.output_reps is not None and self.output_reps.needs_learned:
            raise ValueError(f"outputs {config.outputs} have a learned part, which has no axes")
        channels, dim = config.channels, self.reps.dim
        self.environment = LocalEnvironment(config, self.elements)
        num_angular = self.environment.num_angular
        self.start = nn.Linear(channels, dim)
        self.embedding = FirstMessage(config, num_angular, dim)
        self.attention = nn.ModuleList(
            FrameAttention(self.reps, config, num_angular) for _ in range(config.layers)
        )
        self.updates = nn.ModuleList(_update(dim, channels) for _ in range(config.layers))
        self.norm = nn.LayerNorm(dim)
        self.head = _head(dim, channels, 1)
        self.tensor_head = (
            None if self.output_reps is None else _head(dim, channels, self.output_reps.dim)
        )
        self.global_features = GlobalFeatures(dim, channels) if config.targets else None
        if not config.energy:  # drawn before it goes: the other weights do not depend on it
            del self.head
        self.to(torch.get_default_dtype())  # constants are made in float64

    def features(self, graph: Graph) -> tuple[Tensor, Frames]:
        """Local features after the last layer [N, reps.dim], and the frames they are written in."""
        scalars, transport, edges = self.environment(graph)
        x = self.start(scalars) + self.embedding(scalars, transport, edges)
        for attention, update in zip(self.attention, self.updates, strict=True):
            x = x + attention(x, transport, edges)
            x = x + update(x)
        return self.norm(x), transport.frames

    def tensors(self, graph: Graph) -> Tensor:
        """Tensors of each atom in the global frame [N, output_reps.dim], equivariant.

        At a site whose symmetry leaves no frame, soft frames return zero for everything but the
        scalars; write the isotropic part of a tensor as a scalar of its own (`1x0n+1x2n`).

        Raises:
            ValueError: The configuration names no `outputs`.
        """
        if self.tensor_head is None or self.output_reps is None:
            raise ValueError("the model has no tensor outputs: set outputs='1x1o' in its config")
        x, frames = self.features(graph)
        return frames.to_global(self.output_reps, self.tensor_head(x))


class FirstMessage(nn.Module):
    """x_i = W sum_j phi e_ij * (W_s s_j): directions of the neighbors, before any feature has some.

    Args:
        config: Hyperparameters.
        num_angular: Width of the angular features.
        dim: Width of x.
    """

    def __init__(self, config: LoCaFormerConfig, num_angular: int, dim: int) -> None:
        super().__init__()
        self.filter = EdgeFilter(config.num_radial, num_angular, config.channels)
        self.send = nn.Linear(config.channels, config.channels)
        self.out = nn.Linear(config.channels, dim, bias=False)

    def forward(self, scalars: Tensor, transport: Transport, edges: EdgeFeatures) -> Tensor:
        """Local features [N, dim] from invariants of atoms [N, channels]."""
        sent = self.send(scalars).index_select(0, transport.sender)
        messages = self.filter(edges) * sent * edges.envelope[:, None]
        return self.out(torch.zeros_like(scalars).index_add(0, transport.receiver, messages))


class FrameAttention(FrameMessagePassing):
    """Equations (2), (3) and the first of (4).

    Args:
        reps: What x transforms as.
        config: Hyperparameters.
        num_angular: Width of the angular features.
    """

    def __init__(self, reps: Reps, config: LoCaFormerConfig, num_angular: int) -> None:
        super().__init__({"x": reps})
        channels, self.heads = config.channels, config.heads
        self.normalized = config.attention == "softmax"
        self.norm = nn.LayerNorm(reps.dim)
        self.filter = EdgeFilter(config.num_radial, num_angular, channels)
        self.receive = nn.Linear(reps.dim, channels)
        self.send = nn.Linear(reps.dim, channels, bias=False)
        self.mix = nn.Linear(channels, channels + config.heads)
        self.out = nn.Linear(channels, reps.dim)

    def forward(self, x: Tensor, transport: Transport, edges: EdgeFeatures) -> Tensor:
        """Change of the local features [N, reps.dim]."""
        x = self.norm(x)
        total = self.propagate(
            transport.edge_index,
            transport=transport,
            x=x,
            own=self.receive(x),
            edge=self.filter(edges),
            envelope=edges.envelope,
        )
        values, weights = total.split((self.out.in_features, self.heads), -1)
        if self.normalized:
            values = self.per_head(values) / (1.0 + weights)[..., None]
        return self.out(values.flatten(1) if values.ndim == 3 else values)

    def message(self, x_j: Tensor, own_i: Tensor, edge: Tensor, envelope: Tensor) -> Tensor:
        """Weighted values and the weights themselves [E, channels + heads]."""
        mixed = self.mix(edge * (own_i + self.send(x_j)))
        values, logits = mixed.split((self.out.in_features, self.heads), -1)
        weights = self.weights(logits) * envelope[:, None]
        values = self.per_head(nn.functional.silu(values)) * weights[..., None]
        return torch.cat((values.flatten(1), weights), -1)

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        """The sum over neighbors."""
        return inputs.new_zeros(dim_size, inputs.shape[1]).index_add(0, index, inputs)

    def weights(self, logits: Tensor) -> Tensor:
        """What stands beside phi in (3), [E, heads]."""
        if not self.normalized:
            return nn.functional.silu(logits)
        return torch.exp(LARGEST_LOGIT * torch.tanh(logits / LARGEST_LOGIT))

    def per_head(self, values: Tensor) -> Tensor:
        """[.., channels] as [.., heads, channels / heads]."""
        return values.unflatten(-1, (self.heads, -1))


def _update(dim: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(dim), nn.Linear(dim, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, dim)
    )


def _head(dim: int, channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, channels), nn.SiLU(), nn.Linear(channels, out))
