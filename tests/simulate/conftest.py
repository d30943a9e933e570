"""A tiny smooth pair potential: physics that is sensible without any training."""

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor, nn

from dreibein.nn.potential import Potential
from dreibein.systems import Graph


class MorsePairs(nn.Module):
    """E_i = 1/2 sum_j D ((1 - exp(-a (r - r0)))^2 - 1) (1 + q/10) (1 - (r/rc)^2)^4."""

    def __init__(self, cutoff: float = 5.0, elements: tuple[int, ...] = (29, 47)) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.elements = elements
        self.depth = nn.Parameter(torch.tensor(0.4))  # eV
        self.width = nn.Parameter(torch.tensor(1.4))  # 1/Å
        self.length = nn.Parameter(torch.tensor(2.6))  # Å

    def forward(self, graph: Graph) -> Tensor:
        r = graph.vectors.norm(dim=-1)
        well = (1.0 - torch.exp(-self.width * (r - self.length))) ** 2 - 1.0
        smooth = (1.0 - (r / self.cutoff).square()).clamp(min=0.0) ** 4
        charge = 1.0 + 0.1 * graph.charge[graph.batch[graph.receiver]]
        pair = 0.5 * self.depth * well * smooth * charge
        return pair.new_zeros(graph.num_atoms).index_add(0, graph.receiver, pair)


@pytest.fixture
def potential() -> Potential:
    return Potential(MorsePairs().double(), reference_energies={29: -1.5, 47: -2.5})


@pytest.fixture
def cluster() -> Atoms:
    """Thirteen atoms near an icosahedron: bound, not symmetric, not at rest."""
    directions = np.random.default_rng(0).normal(size=(13, 3))
    golden = (1 + 5**0.5) / 2
    corners = [(0, s, t * golden) for s in (-1, 1) for t in (-1, 1)]
    corners = [np.roll(c, k) for c in corners for k in range(3)]
    atoms = Atoms("Cu9Ag4", [np.zeros(3), *(1.35 * np.array(c) for c in corners)])
    atoms.positions += 0.05 * directions
    return atoms


@pytest.fixture
def crystal() -> Atoms:
    """A copper crystal of 32 atoms, a little displaced."""
    atoms = ase.build.bulk("Cu", "fcc", a=3.55, cubic=True).repeat(2)
    atoms.positions += np.random.default_rng(1).normal(scale=0.02, size=(32, 3))
    return atoms
