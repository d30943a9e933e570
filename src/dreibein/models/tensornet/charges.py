"""Partial charges inside TensorNet: neutral charge equilibration, and filters that hear charges.

As in TensorNet2 of torchmd-net (AceFF-2), after AIMNet2 (Anstine, Zubatyuk, Isayev, Chem. Sci. 16,
10228 (2025)).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from dreibein.models.tensornet.config import ChargeRule
from dreibein.models.tensornet.edges import RadialFeatures
from dreibein.models.tensornet.packing import BLOCKS
from dreibein.systems.graphs import Graph

SOFTENING = 1e-6


class ChargeEquilibration(nn.Module):
    """Charges of atoms, several sets of them, each with the total charge of its structure.

    [p_i, f_i] = MLP(LayerNorm[tr X / 3, ||A||^2, ||S||^2]),
    q_i = p_i + w_i / sum_j w_j · (Q - sum_j p_j), sums over the structure. "exact": w = f^2 + 1e-6,
    and the total is Q to rounding; "published": w = f^2 and 1e-6 added to their sum instead, which
    leaves a small part of Q out.

    Args:
        channels: F.
        sets: Charges of each atom, K.
        rule: "exact" or "published".
    """

    def __init__(self, channels: int, sets: int, rule: ChargeRule) -> None:
        super().__init__()
        self.sets, self.rule = sets, rule
        self.norm = nn.LayerNorm(3 * channels)
        self.mlp = nn.Sequential(
            nn.Linear(3 * channels, channels),
            nn.SiLU(),
            nn.Linear(channels, channels),
            nn.SiLU(),
            nn.Linear(channels, 2 * sets),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Charges [N, K] in e of packed features [N, 9, F]."""
        trace, vector, matrix = x.split(BLOCKS, dim=1)
        parts = (trace[:, 0] / math.sqrt(3.0), vector.square().sum(1), matrix.square().sum(1))
        raw, softness = self.mlp(self.norm(torch.cat(parts, dim=-1))).split(self.sets, dim=-1)
        weights = softness.square()
        if self.rule == "exact":
            weights = weights + SOFTENING
        total = raw.new_zeros(graph.num_structures, 2 * self.sets)
        total = total.index_add(0, graph.batch, torch.cat((raw, weights), dim=-1))
        charged, weight = total.split(self.sets, dim=-1)
        if self.rule == "published":
            weight = weight + SOFTENING
        lacking = (graph.charge.unsqueeze(-1) - charged) / weight
        return raw + weights * lacking.index_select(0, graph.batch)


def charged_filters(
    network: nn.Sequential, charges: Tensor, graph: Graph, radial: RadialFeatures
) -> tuple[Tensor, Tensor]:
    """phi(r) network([e(r), q_i, q_j]) of edges [E, 3, F] and of self-loops [N, 3, F].

    Args:
        network: Its first layer reads radial features, then charges of receiver and sender.
        charges: q [N, K].
        graph: The structures.
        radial: Radial features of edges and of a self-loop, not from a table.
    """
    first: Any = network[0]
    rest, weight, sets = network[1:], first.weight, charges.shape[1]
    size = weight.shape[1] - 2 * sets
    from_radial = nn.functional.linear(radial.features, weight[:, :size], first.bias)
    receiver = charges @ weight[:, size : size + sets].T
    sender = charges @ weight[:, size + sets :].T
    pairs = receiver.index_select(0, graph.receiver) + sender.index_select(0, graph.sender)
    edges = rest(from_radial[:-1] + pairs) * radial.envelope[:-1].unsqueeze(-1)
    own = rest(from_radial[-1] + receiver + sender) * radial.envelope[-1]
    shape = (3, edges.shape[-1] // 3)
    return edges.unflatten(-1, shape), own.unflatten(-1, shape)
