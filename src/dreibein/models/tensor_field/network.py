"""Tensor field networks in tensor-product form, and their description.

One description (`TensorFieldConfig`) covers convolutions with gates (NequIP, arXiv 2101.03164; with
lmax = 1 the vectors of PaiNN, 2102.03150), products of messages at an atom (`correlation`; MACE,
2206.07697) and attention over tensor products (Equiformer, 2206.11990):

    convolution  x_i <- S x_i + gate(W sum_j (w(r_ij) . x_j x Y(r_ij)))                          (1)
    attention    m_ij = W (w(r_ij) . (W_i x_i + W_j x_j) x Y(r_ij)),  v_ij = gate(m_ij) x Y(r_ij),
                 x_i <- x_i + W_o sum_j a_ij v_ij,   x_i <- x_i + W gate(W norm x_i)             (2)

with a_ij from the scalars of m_ij, normalized as in LoCaFormer. `TensorFieldConfig.local` gives the
same description between local frames: there irreps become representations that are carried, the
products with their paths become a map of [carried sender, receiver, edge] without constraint, gates
become silu, equivariant norms LayerNorm (arXiv 2509.26499). That network is `LoCaFormer`.
"""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from dreibein.models.locaformer import LARGEST_LOGIT, LoCaFormerConfig
from dreibein.nn.elements import element_rows
from dreibein.nn.environment import EnvironmentConfig
from dreibein.nn.radial import Envelope, lengths_and_units, radial_basis
from dreibein.nn.transfer import (
    ChannelProduct,
    EquivariantLinear,
    EquivariantNorm,
    Gate,
    NodeProduct,
    channel_paths,
)
from dreibein.o3 import Irreps
from dreibein.systems.graphs import Graph

TYPICAL_NEIGHBORS = 16.0
"""Sums over neighbors are divided by the root of this."""


class TensorFieldConfig(EnvironmentConfig):
    """A tensor field network: irreps of every layer, paths, gates, norms.

    `channels` is the width of radial networks; frames and angular functions concern `local` alone.
    """

    architecture: Literal["tensor_field"] = "tensor_field"
    irreps: str = Field(
        "32x0e+32x1o+32x2e", description="features of an atom in all layers; 0e first"
    )
    interaction: Literal["convolution", "attention"] = Field(
        "convolution", description="convolution: equation (1); attention: (2)"
    )
    correlation: int = Field(
        1, ge=1, le=4, description="factors of messages multiplied at an atom (convolution)"
    )
    layers: int = Field(2, ge=1, description="interactions")
    heads: int = Field(4, ge=1, description="attention heads; divides the channels of every block")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        irreps = Irreps(self.irreps)
        if not len(irreps) or not irreps[0].kind.is_trivial:
            raise ValueError(f"irreps begin with scalars, such as 32x0e+32x1o: got {self.irreps}")
        if self.interaction == "attention" and any(mul % self.heads for mul, _ in irreps):
            raise ValueError(f"{self.heads} heads do not divide the channels of {self.irreps}")
        if self.targets:
            raise ValueError("a tensor_field predicts energies only: use locaformer for targets")
        return self

    def local(self) -> LoCaFormerConfig:
        """The same description between local frames: equal features, layers, edges and heads.

        >>> TensorFieldConfig(irreps="8x0e+8x1o", interaction="attention").local().reps
        '8x0e+8x1o'
        """
        shared = set(EnvironmentConfig.model_fields) - {"channels"}
        return LoCaFormerConfig(
            reps=self.irreps,
            channels=-(-Irreps(self.irreps).num_channels // self.heads) * self.heads,
            heads=self.heads,
            layers=self.layers,
            attention="softmax" if self.interaction == "attention" else "sum",
            **{name: getattr(self, name) for name in shared},
        )


class TensorField(nn.Module):
    """Atomic energies from equations (1) or (2).

    Args:
        config: The description.
        elements: Atomic numbers that occur; each gets a row of the element table.

    Raises:
        ValueError: No elements, one twice, or one outside 0 ... 118.
    """

    row_of: Tensor

    def __init__(self, config: TensorFieldConfig, elements: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("row_of", element_rows(elements), persistent=False)
        self.config, self.elements = config, tuple(elements)
        self.irreps = Irreps(config.irreps)
        scalars = self.irreps[0].mul
        self.element = nn.Embedding(len(elements), scalars)
        self.charge = nn.Parameter(0.1 * torch.randn(scalars))
        self.radial = radial_basis(config.radial, config.cutoff, config.num_radial, config.envelope)
        self.envelope = Envelope(config.cutoff, config.envelope)
        layer = Convolution if config.interaction == "convolution" else Attention
        only_scalars = Irreps([self.irreps[0]])
        first = only_scalars if layer is Convolution else self.irreps
        self.layers = nn.ModuleList(
            layer(config, first if k == 0 else self.irreps) for k in range(config.layers)
        )
        self.expand = None if first == only_scalars else EquivariantLinear(only_scalars, first)
        self.head = nn.Sequential(
            nn.Linear(scalars, scalars), nn.SiLU(), nn.Linear(scalars, 1, bias=False)
        )
        self.to(torch.get_default_dtype())  # constants are made in float64

    @property
    def cutoff(self) -> float:
        """Range of edges in Å."""
        return self.config.cutoff

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom [N], in units of the potential's scale."""
        lengths, units = lengths_and_units(graph.vectors)
        edges = Edges(graph, units, self.radial(lengths), self.envelope(lengths))
        x = self.element(self.row_of[graph.z])
        x = x + graph.charge.index_select(0, graph.batch)[:, None] * self.charge
        if self.expand is not None:
            x = self.expand(x)
        for layer in self.layers:
            x = layer(x, edges)
        return self.head(x[:, : self.irreps[0].mul]).squeeze(-1)


class Edges:
    """What all layers share of the edges: who meets, directions, radial functions, phi."""

    def __init__(self, graph: Graph, units: Tensor, radial: Tensor, envelope: Tensor) -> None:
        self.edge_index, self.units = graph.edge_index, units
        self.radial, self.envelope = radial, envelope
        count = graph.edge_index.shape[1]
        # edges as nodes: a product of messages, which belong to edges, with nothing summed
        self.own = torch.arange(count, device=units.device).expand(2, count)

    def sum(self, messages: Tensor, num_nodes: int) -> Tensor:
        """Sums [N, ...] over the neighbors."""
        total = messages.new_zeros(num_nodes, *messages.shape[1:])
        return total.index_add(0, self.edge_index[1], messages)


class EdgeWeights(nn.Module):
    """w(r): weights of all paths from radial functions, times the envelope.

    Args:
        config: The description.
        count: Weights of an edge.
    """

    def __init__(self, config: TensorFieldConfig, count: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(config.num_radial, config.channels),
            nn.SiLU(),
            nn.Linear(config.channels, count),
        )

    def forward(self, edges: Edges) -> Tensor:
        """Weights [E, count]."""
        return self.layers(edges.radial) * edges.envelope[:, None]


class Convolution(nn.Module):
    """Equation (1).

    Args:
        config: The description.
        irreps_in: of x, those of the configuration but in the first layer.
    """

    def __init__(self, config: TensorFieldConfig, irreps_in: Irreps) -> None:
        super().__init__()
        irreps = Irreps(config.irreps)
        self.gate = Gate(irreps)
        self.send = EquivariantLinear(irreps_in, irreps_in, bias=False)
        self.product = ChannelProduct(channel_paths(irreps_in, config.lmax, irreps))
        self.weights = EdgeWeights(config, self.product.num_weights)
        self.mix = EquivariantLinear(self.product.irreps_out, irreps, bias=False)
        self.powers = nn.ModuleList(NodeProduct(irreps) for _ in range(config.correlation - 1))
        self.out = EquivariantLinear(irreps, self.gate.irreps_in)
        self.keep = EquivariantLinear(irreps_in, irreps, bias=False)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """Features [N, dim] of the next layer."""
        sums = self.product(self.send(x), edges.units, edges.edge_index, self.weights(edges))
        messages = self.mix(sums / TYPICAL_NEIGHBORS**0.5)
        total, power = messages, messages
        for product in self.powers:
            power = product(power, messages)
            total = total + power
        return self.keep(x) + self.gate(self.out(total))


class Attention(nn.Module):
    """Equation (2).

    Args:
        config: The description.
        irreps: of x.
    """

    def __init__(self, config: TensorFieldConfig, irreps: Irreps) -> None:
        super().__init__()
        self.irreps, self.heads = irreps, config.heads
        self.norm = EquivariantNorm(irreps)
        self.receive = EquivariantLinear(irreps, irreps)
        self.send = EquivariantLinear(irreps, irreps, bias=False)
        self.first = ChannelProduct(channel_paths(irreps, config.lmax, irreps))
        self.first_weights = EdgeWeights(config, self.first.num_weights)
        self.gate = Gate(irreps)
        scalars = irreps[0].mul
        logits = Irreps(f"{scalars}x0e")
        self.mix = EquivariantLinear(self.first.irreps_out, Irreps([*logits, *self.gate.irreps_in]))
        self.logits = nn.Linear(scalars, config.heads)
        self.second = ChannelProduct(channel_paths(irreps, config.lmax, irreps))
        self.second_weights = EdgeWeights(config, self.second.num_weights)
        self.value = EquivariantLinear(self.second.irreps_out, irreps)
        self.out = EquivariantLinear(irreps, irreps)
        wide = Gate(irreps)
        self.update = nn.Sequential(
            EquivariantNorm(irreps),
            EquivariantLinear(irreps, wide.irreps_in),
            wide,
            EquivariantLinear(irreps, irreps),
        )

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """Features [N, dim] of the next layer."""
        normed, (sender, receiver) = self.norm(x), edges.edge_index
        pairs = self.receive(normed).index_select(0, receiver)
        pairs = pairs + self.send(normed).index_select(0, sender)
        mixed = self.first(pairs, edges.units, edges.own, self.first_weights(edges))
        mixed = self.mix(mixed)
        scalars = self.irreps[0].mul
        logits = self.logits(nn.functional.silu(mixed[:, :scalars]))
        values = self.gate(mixed[:, scalars:])
        values = self.second(values, edges.units, edges.own, self.second_weights(edges))
        values = self.value(values)
        weights = torch.exp(LARGEST_LOGIT * torch.tanh(logits / LARGEST_LOGIT))
        weights = weights * edges.envelope[:, None]
        total = edges.sum(torch.cat((self._weighted(values, weights), weights), 1), len(x))
        sums, norms = total.split((self.irreps.dim, self.heads), 1)
        x = x + self.out(self._weighted(sums, 1.0 / (1.0 + norms)))
        return x + self.update(x)

    def _weighted(self, values: Tensor, weights: Tensor) -> Tensor:
        """Values times a number for each head, channels of every block divided among the heads."""
        parts = [
            (values[:, piece].unflatten(1, (self.heads, -1)) * weights[..., None]).flatten(1)
            for piece in self.irreps.slices()
        ]
        return torch.cat(parts, 1)
