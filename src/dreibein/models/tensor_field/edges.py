"""What the layers of a tensor field network share of the edges."""

import torch
from torch import Tensor, nn

from dreibein.nn.environment import EnvironmentConfig
from dreibein.systems.graphs import Graph

TYPICAL_NEIGHBORS = 16.0
"""Sums over neighbors are divided by the root of this."""


class Edges:
    """What all layers share of the edges: who meets, vectors, directions, radial functions, phi."""

    def __init__(self, graph: Graph, units: Tensor, radial: Tensor, envelope: Tensor) -> None:
        self.edge_index, self.vectors, self.units = graph.edge_index, graph.vectors, units
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

    def __init__(self, config: EnvironmentConfig, count: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(config.num_radial, config.channels),
            nn.SiLU(),
            nn.Linear(config.channels, count),
        )

    def forward(self, edges: Edges) -> Tensor:
        """Weights [E, count]."""
        return self.layers(edges.radial) * edges.envelope[:, None]
