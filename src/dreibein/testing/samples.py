"""Random structures to try laws on: no symmetry, no overlap, the same for the same seed."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.systems import make_structure
from dreibein.systems.cells import heights

NEAREST = 0.9  # Å; no two atoms of a sample are closer
TRIES = 10_000


def sample_molecule(
    elements: Sequence[int], num_atoms: int = 6, *, charge: float = 0.0, seed: int = 0
) -> Data:
    """Atoms at random in a ball of about 10 Å³ each, at least 0.9 Å apart.

    Args:
        elements: Atomic numbers to draw from; each occurs when there are atoms enough.
        num_atoms: Number of atoms.
        charge: Total charge in e.
        seed: Same seed, same structure.

    >>> len(sample_molecule([1, 6, 8], 5).z)
    5
    """
    generator = torch.Generator().manual_seed(seed)
    radius = 1.4 * num_atoms ** (1.0 / 3.0)
    pos: list[Tensor] = []
    for _ in range(TRIES):
        if len(pos) == num_atoms:
            break
        x = radius * (2.0 * torch.rand(3, dtype=torch.float64, generator=generator) - 1.0)
        if float(x.norm()) <= radius and all(float((x - y).norm()) > NEAREST for y in pos):
            pos.append(x)
    return make_structure(
        _numbers(elements, num_atoms, generator),
        torch.stack(pos) if pos else torch.zeros(0, 3),
        charge=charge,
    )


def sample_crystal(
    elements: Sequence[int],
    num_atoms: int = 3,
    *,
    pbc: bool | Sequence[bool] = True,
    size: float = 1.0,
    seed: int = 0,
) -> Data:
    """A random triclinic cell of about 12 Å³ an atom: as a rule smaller than any cutoff.

    Args:
        elements: Atomic numbers to draw from.
        num_atoms: Number of atoms in the cell.
        pbc: Periodicity; all three directions by default.
        size: Factor on the cell's lengths.
        seed: Same seed, same structure.
    """
    generator = torch.Generator().manual_seed(seed)
    length = size * (12.0 * num_atoms) ** (1.0 / 3.0)
    for _ in range(TRIES):
        skew = 0.5 * (2.0 * torch.rand(3, 3, dtype=torch.float64, generator=generator) - 1.0)
        cell = length * (torch.eye(3, dtype=torch.float64) + skew)
        pos = torch.rand(num_atoms, 3, dtype=torch.float64, generator=generator) @ cell
        if float(heights(cell).min()) > NEAREST and _nearest(pos, cell) > NEAREST:
            break
    return make_structure(_numbers(elements, num_atoms, generator), pos, cell=cell, pbc=pbc)


def _numbers(elements: Sequence[int], num_atoms: int, generator: torch.Generator) -> Tensor:
    """Each element in turn, in random order."""
    z = torch.tensor([elements[k % len(elements)] for k in range(num_atoms)], dtype=torch.int64)
    return z[torch.randperm(num_atoms, generator=generator)]


def _nearest(pos: Tensor, cell: Tensor) -> float:
    """Smallest distance between different atoms, images next door included."""
    steps = torch.arange(-1, 2, dtype=torch.float64)
    images = torch.cartesian_prod(steps, steps, steps) @ cell
    vectors = pos[:, None, None] - pos[None, :, None] + images
    distances = vectors.norm(dim=-1)
    distances[range(len(pos)), range(len(pos)), 13] = torch.inf  # image 13 is the cell itself
    return float(distances.min())
