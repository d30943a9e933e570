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

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from dreibein.frames import Frames, Transport, gram_schmidt, polar, soft_frames
from dreibein.nn.embeddings import HarmonicEmbedding, SphereEmbedding, UnitEmbedding
from dreibein.nn.frame_message_passing import FrameMessagePassing
from dreibein.nn.frame_predictor import FramePredictor
from dreibein.nn.radial import (
    Envelope,
    EnvelopeName,
    RadialName,
    lengths_and_units,
    radial_basis,
)
from dreibein.o3 import Irreps, Reps, parse_reps
from dreibein.systems.graphs import Graph

NUM_ELEMENTS = 118
FRAME_SCALARS = 16
"""Invariants of an atom that its frame depends on."""
LARGEST_LOGIT = 8.0
"""Bound L of s = L tanh(s / L): exp(s) cannot overflow, and no maximum, which has kinks, is needed.
"""
VECTOR = Irreps("1x1o")


class LoCaFormerConfig(BaseModel):
    """Hyperparameters of LoCaFormer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Literal["locaformer"] = "locaformer"
    reps: str = Field(
        "64x0n+16x1n+4x2n",
        description="features of an atom: Cartesian (8x1n), irreps (8x1o), learned (m64), or mixed",
    )
    channels: int = Field(64, ge=2, description="width of messages and of attention values")
    heads: int = Field(8, ge=1, description="attention heads; divides channels")
    layers: int = Field(3, ge=0, description="attention layers")
    cutoff: float = Field(5.0, gt=0, description="range of edges in Å")
    radial: RadialName = Field("expnorm", description="radial basis")
    num_radial: int = Field(32, ge=2, description="radial functions")
    angular: Literal["harmonics", "sphere", "vector"] = Field(
        "harmonics", description="functions of the direction in the receiver's frame"
    )
    lmax: int = Field(2, ge=0, le=8, description="highest degree of 'harmonics'")
    envelope: EnvelopeName = Field("smooth", description="decay to the cutoff")
    attention: Literal["softmax", "sum"] = Field(
        "softmax", description="'softmax': equation (3); 'sum': a = phi silu(s), not normalized"
    )
    frames: Literal["soft", "gram_schmidt", "polar"] = Field(
        "soft", description="'soft': smooth everywhere; the others jump where no frame exists"
    )
    frame_eps: float = Field(0.01, gt=0, description="squared length below which soft axes fade")
    symmetry: Literal["O(3)", "SO(3)"] = Field(
        "O(3)", description="O(3): mirror images alike; SO(3): chiral"
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


class LoCaFormer(nn.Module):
    """Atomic energies, and tensors of atoms, from attention in local frames.

    Args:
        config: Hyperparameters.
        elements: Atomic numbers that occur; each gets a row of the element table.

    Raises:
        ValueError: No elements, or one outside 0 ... 118; heads that do not divide the channels;
            outputs without a global form (`MLPReps`).
    """

    row_of: Tensor

    def __init__(self, config: LoCaFormerConfig, elements: tuple[int, ...]) -> None:
        super().__init__()
        if not elements or not all(0 <= z <= NUM_ELEMENTS for z in elements):
            raise ValueError(f"elements must be atomic numbers in 0 ... 118, got {elements}")
        if len(set(elements)) < len(elements):
            raise ValueError(f"an element is named twice in {elements}")
        if config.channels % config.heads:
            raise ValueError(f"{config.heads} heads do not divide {config.channels} channels")
        self.config = config
        self.elements = tuple(elements)
        self.reps = parse_reps(config.reps)
        self.output_reps = parse_reps(config.outputs) if config.outputs else None
        if self.output_reps is not None and self.output_reps.needs_learned:
            raise ValueError(f"outputs {config.outputs} have a learned part, which has no axes")
        channels, dim = config.channels, self.reps.dim
        self.angular, num_angular = _angular(config)
        self.element = nn.Embedding(len(elements), channels)
        self.charge = nn.Parameter(0.1 * torch.randn(channels))
        self.radial = radial_basis(config.radial, config.cutoff, config.num_radial, config.envelope)
        self.envelope = Envelope(config.cutoff, config.envelope)
        self.frame_scalars = nn.Linear(channels, FRAME_SCALARS)
        self.predictor = _predictor(config)
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
        row_of = torch.zeros(NUM_ELEMENTS + 1, dtype=torch.int64)
        row_of[list(elements)] = torch.arange(len(elements))
        self.register_buffer("row_of", row_of, persistent=False)
        self.to(torch.get_default_dtype())  # constants are made in float64

    @property
    def cutoff(self) -> float:
        """Range of edges in Å."""
        return self.config.cutoff

    def features(self, graph: Graph) -> tuple[Tensor, Frames]:
        """Local features after the last layer [N, reps.dim], and the frames they are written in."""
        scalars = self.element(self.row_of[graph.z])
        scalars = scalars + graph.charge.index_select(0, graph.batch)[:, None] * self.charge
        lengths, units = lengths_and_units(graph.vectors)
        envelope, radial = self.envelope(lengths), self.radial(lengths)
        frames = self.predictor(
            self.frame_scalars(scalars), radial, graph.vectors, graph.edge_index
        )
        transport = Transport(frames, graph.edge_index)
        angular = self.angular(transport.edges_to_local(VECTOR, units))
        edges = EdgeFeatures(radial, angular, envelope)
        x = self.start(scalars) + self.embedding(scalars, transport, edges)
        for attention, update in zip(self.attention, self.updates, strict=True):
            x = x + attention(x, transport, edges)
            x = x + update(x)
        return self.norm(x), frames

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom [N], in units of the potential's scale."""
        return self.head(self.features(graph)[0]).squeeze(-1)

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


class EdgeFeatures:
    """What all layers share of an edge: radial [E, R] and angular [E, A] features, phi [E]."""

    def __init__(self, radial: Tensor, angular: Tensor, envelope: Tensor) -> None:
        self.radial, self.angular, self.envelope = radial, angular, envelope


class EdgeFilter(nn.Module):
    """Equation (1): e = (W_r radial + b) * (W_a angular + b), any function of the edge vector.

    Args:
        num_radial: R.
        num_angular: A.
        channels: width of e.
    """

    def __init__(self, num_radial: int, num_angular: int, channels: int) -> None:
        super().__init__()
        self.from_radial = nn.Linear(num_radial, channels)
        self.from_angular = nn.Linear(num_angular, channels)

    def forward(self, edges: EdgeFeatures) -> Tensor:
        """Features [E, channels]."""
        return self.from_radial(edges.radial) * self.from_angular(edges.angular)


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


def _angular(config: LoCaFormerConfig) -> tuple[nn.Module, int]:
    """The functions of the direction, and their number."""
    if config.angular == "harmonics":
        harmonics = HarmonicEmbedding(config.lmax)
        return harmonics, harmonics.dim
    if config.angular == "sphere":
        sphere = SphereEmbedding()
        return sphere, sphere.dim
    return UnitEmbedding(), UnitEmbedding.dim


def _predictor(config: LoCaFormerConfig) -> FramePredictor:
    """Three learned vectors for O(3), two for SO(3)."""
    constructions: dict[str, Callable[..., Frames]] = {
        "soft": partial(soft_frames, eps=config.frame_eps),
        "gram_schmidt": gram_schmidt,
        "polar": polar,
    }
    weights = nn.Sequential(
        nn.Linear(2 * FRAME_SCALARS + config.num_radial, config.channels),
        nn.SiLU(),
        nn.Linear(config.channels, 3 if config.symmetry == "O(3)" else 2),
    )
    construct = partial(constructions[config.frames], group=config.symmetry)
    return FramePredictor(weights, config.cutoff, construct=construct, envelope=config.envelope)


def _update(dim: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(dim), nn.Linear(dim, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, dim)
    )


def _head(dim: int, channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, channels), nn.SiLU(), nn.Linear(channels, out))
