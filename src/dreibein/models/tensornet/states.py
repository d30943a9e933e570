"""Total charge and spin as inputs of TensorNet."""

import torch
from torch import Tensor, nn

from dreibein.systems.graphs import Graph


class StateEmbedding(nn.Module):
    """Vectors of atoms that tell states of the same atoms apart: charge Q, multiplicity S.

    v_i = a_{z_i} * (MLP(Q) - MLP(0)) + b_{z_i} * (MLP'(S - 1) - MLP'(0)), smooth in Q and S, with
    a learned vector of each element. For neutral singlets v = 0 whatever the weights: a model
    that was trained on these keeps its energies.

    Args:
        elements: Rows of the element table.
        width: Of the vectors.
        charge: Whether Q is heard.
        spin: Whether S is heard.
    """

    def __init__(self, elements: int, width: int, *, charge: bool, spin: bool) -> None:
        super().__init__()
        self.inputs = tuple(n for n, heard in (("charge", charge), ("spin", spin)) if heard)
        self.tables = nn.ModuleDict({name: nn.Embedding(elements, width) for name in self.inputs})
        self.responses = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
                for name in self.inputs
            }
        )

    def forward(self, rows: Tensor, graph: Graph) -> Tensor:
        """V [N, width].

        Args:
            rows: Row of each atom in the element table [N].
            graph: The structures.
        """
        found = []
        for name in self.inputs:
            if name == "charge":
                value = graph.charge
            else:
                value = torch.zeros_like(graph.charge) if graph.spin is None else graph.spin - 1.0
            response = self.responses[name]
            change = response(value.unsqueeze(-1)) - response(torch.zeros_like(value[:1, None]))
            found.append(self.tables[name](rows) * change.index_select(0, graph.batch))
        return torch.stack(found).sum(0)
