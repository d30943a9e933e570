"""Changed copies of a structure, and one potential evaluated on many of them."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.neighbors import attach_neighbors
from dreibein.systems import join, make_structure
from dreibein.systems.cells import strain as strained_geometry

if TYPE_CHECKING:
    from dreibein.nn import Potential

PER_ATOM = ("energies", "forces")
MAX_ATOMS = 256  # atoms evaluated at once: float64 and wide networks want memory


class Probe:
    """Evaluates a potential on lists of structures; results on the CPU in float64.

    Args:
        potential: Used in evaluation mode, on its own device.
    """

    def __init__(self, potential: "Potential") -> None:
        self.potential = potential.eval()

    def __call__(
        self, structures: Sequence[Data], compute: tuple[str, ...] = ("energy",)
    ) -> list[dict[str, Tensor]]:
        """Return energy [], energies [N], forces [N, 3], stress [3, 3] of each, as asked for."""
        results: list[dict[str, Tensor]] = []
        for chunk in _chunks(structures):
            batch = join([self._ready(structure) for structure in chunk])
            found = self.potential(batch.to(self.potential.device), compute=compute)
            found = {name: found[name].detach().cpu().double() for name in compute}
            start = 0
            for row, structure in enumerate(chunk):
                atoms = slice(start, start + len(structure.z))
                start = atoms.stop
                results.append(
                    {name: v[atoms] if name in PER_ATOM else v[row] for name, v in found.items()}
                )
        return results

    def _ready(self, structure: Data) -> Data:
        """The structure without its labels, which its changed copies lack, and with neighbors."""
        return attach_neighbors(with_geometry(structure, structure.pos), self.potential.cutoff)

    def energies(self, structures: Sequence[Data]) -> Tensor:
        """Energy of each structure [S] in eV."""
        return torch.stack([result["energy"] for result in self(structures)])


def _chunks(structures: Sequence[Data]) -> Iterator[list[Data]]:
    chunk: list[Data] = []
    atoms = 0
    for structure in structures:
        if chunk and atoms + len(structure.z) > MAX_ATOMS:
            yield chunk
            chunk, atoms = [], 0
        chunk.append(structure)
        atoms += len(structure.z)
    if chunk:
        yield chunk


def is_periodic(structure: Data) -> bool:
    """Whether any direction is periodic."""
    return bool(structure.pbc.any())


def has_stress(structure: Data) -> bool:
    """Whether all three directions are periodic, so that there is a volume."""
    return bool(structure.pbc.all())


def with_geometry(structure: Data, pos: Tensor, cell: Tensor | None = None) -> Data:
    """The same atoms, charge and periodicity at other places; labels and neighbors are dropped.

    Args:
        structure: Where everything else comes from.
        pos: [N, 3] Å.
        cell: [3, 3] Å; by default the structure's own.
    """
    return make_structure(
        structure.z,
        pos,
        cell=structure.cell[0] if cell is None else cell,
        pbc=structure.pbc[0],
        charge=float(structure.charge) if "charge" in structure else 0.0,
        spin=int(structure.spin) if "spin" in structure else 1,
    )


def turned(structure: Data, matrix: Tensor) -> Data:
    """`x -> Q x` for atoms and cell vectors, with Q [3, 3] orthogonal."""
    return with_geometry(structure, structure.pos @ matrix.T, structure.cell[0] @ matrix.T)


def shifted(structure: Data, vector: Tensor) -> Data:
    """`x -> x + t` for every atom."""
    return with_geometry(structure, structure.pos + vector)


def permuted(structure: Data, order: Tensor) -> Data:
    """Atom k of the result is atom order[k]."""
    copy = with_geometry(structure, structure.pos[order])
    copy.z = structure.z[order]
    return copy


def moved(structure: Data, atom: int, vector: Tensor) -> Data:
    """One atom displaced by `vector` [3] Å."""
    pos = structure.pos.clone()
    pos[atom] += vector
    return with_geometry(structure, pos)


def strained(structure: Data, strain: Tensor) -> Data:
    """`x -> x + x·ε` for atoms and cell vectors, with ε [3, 3] symmetric."""
    zeros = torch.zeros_like(structure.z)
    pos, cell = strained_geometry(structure.pos, structure.cell, strain[None], zeros)
    return with_geometry(structure, pos, cell[0])


def with_atom(structure: Data, z: int, pos: Tensor) -> Data:
    """One atom more, at `pos` [3] Å."""
    copy = with_geometry(structure, structure.pos)
    copy.z = torch.cat([structure.z, torch.tensor([z])])
    copy.pos = torch.cat([structure.pos, pos[None]])
    return copy


def doubled(structure: Data, gap: float) -> Data:
    """Two copies: a supercell along a periodic direction, else `gap` Å of vacuum between."""
    cell = structure.cell[0].clone()
    periodic = structure.pbc[0].nonzero().flatten()
    if len(periodic):
        along = int(periodic[0])
        offset = cell[along].clone()
        cell[along] *= 2.0
    else:
        extent = structure.pos.amax(0) - structure.pos.amin(0)
        offset = torch.tensor([float(extent[0]) + gap, 0.0, 0.0], dtype=torch.float64)
    copy = with_geometry(structure, structure.pos, cell)
    copy.z = torch.cat([structure.z, structure.z])
    copy.pos = torch.cat([structure.pos, structure.pos + offset])
    return copy
