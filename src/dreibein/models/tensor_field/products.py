"""Layers made of tensor products: the convolution (1) and the attention (2) of `network`."""

import torch
from torch import Tensor, nn

from dreibein.models.locaformer import LARGEST_LOGIT
from dreibein.models.tensor_field.config import TensorFieldConfig
from dreibein.models.tensor_field.edges import TYPICAL_NEIGHBORS, Edges, EdgeWeights
from dreibein.nn.transfer import (
    ChannelProduct,
    EquivariantLinear,
    EquivariantNorm,
    Gate,
    NodeProduct,
    channel_paths,
)
from dreibein.nn.transfer.equivariant import split_blocks
from dreibein.o3 import Irreps


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
        logits, values = mixed.split((scalars, mixed.shape[1] - scalars), 1)
        logits, values = self.logits(nn.functional.silu(logits)), self.gate(values)
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
            (block.unflatten(1, (self.heads, -1)) * weights[..., None]).flatten(1)
            for block in split_blocks(self.irreps, values)
        ]
        return torch.cat(parts, 1)
