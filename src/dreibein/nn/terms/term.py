"""What every physical term of an energy is: energies of atoms from positions, in float64."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from ase import units
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn
from torch_geometric.data import Data

from dreibein.nn.elements import element_rows
from dreibein.systems.graphs import batch_index, edge_vectors

COULOMB = units.Hartree * units.Bohr
"""e^2 / (4 pi eps0) in eV Å (14.3996), the product of ASE's Hartree and Bohr (CODATA 2014)."""

SwitchName = Literal["smooth", "cosine", "polynomial", "none"]


@dataclass(frozen=True)
class Surroundings:
    """A batch of structures as terms see it: everything in float64 and differentiable.

    Attributes:
        z: Atomic numbers [N].
        pos: Positions [N, 3] in Å.
        cell: Cells [B, 3, 3] in Å.
        pbc: Periodicity [B, 3].
        batch: Structure of each atom [N].
        num_structures: B.
        sender: Atom j of each pair in the neighbor list [E].
        receiver: Atom i of each pair [E].
        vectors: r_ij = x_j + S·cell - x_i [E, 3] in Å.
        lengths: |r_ij| [E].
        total_charge: Of each structure [B] in e.
        given_charges: Charges of atoms [N] that the structures carry, if they do.
        network_charges: Charges of atoms [N, K] that the network predicts, if it does.
    """

    z: Tensor
    pos: Tensor
    cell: Tensor
    pbc: Tensor
    batch: Tensor
    num_structures: int
    sender: Tensor
    receiver: Tensor
    vectors: Tensor
    lengths: Tensor
    total_charge: Tensor
    given_charges: Tensor | None = None
    network_charges: Tensor | None = None

    def within(self, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
        """Sender, receiver [P] and distance [P] of the pairs nearer than a cutoff."""
        near = (self.lengths < cutoff).nonzero().squeeze(-1)
        chosen = (self.sender, self.receiver, self.lengths)
        return tuple(x.index_select(0, near) for x in chosen)  # type: ignore[return-value]

    def to_atoms(self, of_pairs: Tensor, receiver: Tensor) -> Tensor:
        """Half the sum [N, ...] over the pairs [P, ...] of each receiver."""
        total = of_pairs.new_zeros(len(self.z), *of_pairs.shape[1:])
        return 0.5 * total.index_add(0, receiver, of_pairs)


def surroundings(
    structures: Data, pos: Tensor, cell: Tensor, network_charges: Tensor | None = None
) -> Surroundings:
    """What terms see of structures with a neighbor list; differentiable by positions and cells.

    Args:
        structures: `Data` or `Batch` with `edge_index` and `shift`.
        pos: Positions [N, 3].
        cell: Cells [B, 3, 3].
        network_charges: Charges [N, K] of a network that predicts them.
    """
    batch, count = batch_index(structures)
    vectors = edge_vectors(pos, cell, structures.edge_index, structures.shift, batch)
    charge = structures.charge if "charge" in structures else pos.new_zeros(count)
    return Surroundings(
        z=structures.z,
        pos=pos,
        cell=cell,
        pbc=structures.pbc,
        batch=batch,
        num_structures=count,
        sender=structures.edge_index[0],
        receiver=structures.edge_index[1],
        vectors=vectors,
        lengths=torch.linalg.vector_norm(vectors, dim=-1),
        total_charge=charge.double(),
        given_charges=structures.charges.double() if "charges" in structures else None,
        network_charges=None if network_charges is None else network_charges.double(),
    )


class Term(nn.Module):
    """One item of the sum that makes the energy; constants stay in float64 whatever is asked.

    Attributes:
        config: Its hyperparameters, with `term` its name.
        cutoff: Range in Å of the neighbor list that it needs; 0 for none.
        needs_charges: Whether the network must predict charges.
        hops: Edges from an atom to the farthest that its energy hears; None where that has no end.
    """

    cutoff: float = 0.0
    needs_charges: bool = False
    hops: int | None = None
    row_of: Tensor

    def __init__(self, elements: Sequence[int]) -> None:
        super().__init__()
        self.elements = tuple(elements)
        self.register_buffer("row_of", element_rows(self.elements), persistent=False)

    def forward(self, around: Surroundings) -> Tensor:
        """Energy of each atom [N] in eV, float64."""
        raise NotImplementedError

    def describe(self) -> str:
        """Name and what matters of it, in a few words."""
        raise NotImplementedError

    def rows(self, z: Tensor) -> Tensor:
        """Row of each atom [N] in tables by element."""
        return self.row_of[z]

    def table(
        self, name: str, values: Sequence[float] | Sequence[Sequence[float]] | Tensor
    ) -> None:
        """Keep numbers with the model, in float64."""
        kept = values if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.float64)
        self.register_buffer(name, kept.detach().to(torch.float64, copy=True))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # `.float()` is meant for the network
        kept = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, value in kept.items():
            setattr(self, name, value.to(getattr(self, name).device))
        return self


def switch(t: Tensor, kind: SwitchName) -> Tensor:
    """A function that falls from 1 at t = 0 to 0 at t = 1 and keeps these values outside.

    "smooth": 1 - 10 t^3 + 15 t^4 - 6 t^5; "cosine": (1 + cos pi t) / 2; "polynomial":
    1 - 28 t^6 + 48 t^7 - 21 t^8 (DimeNet, arXiv 2003.03123, with p = 6), flat near 0;
    "none": 1 up to t = 1.

    >>> switch(torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0]), "smooth")
    tensor([1.0000, 1.0000, 0.5000, 0.0000, 0.0000])
    """
    t = t.clamp(0.0, 1.0)
    if kind == "cosine":
        return 0.5 * (1.0 + torch.cos(math.pi * t))
    if kind == "polynomial":
        return 1.0 - t**6 * (28.0 - t * (48.0 - 21.0 * t))
    if kind == "none":
        return (t < 1.0).to(t)
    return 1.0 - t**3 * (10.0 - t * (15.0 - 6.0 * t))


def by_symbol(values: dict[str, float], elements: Sequence[int], what: str) -> list[float]:
    """Values in the order of elements.

    Raises:
        ValueError: No symbol of an element, or an element without a value.
    """
    unknown = [symbol for symbol in values if symbol not in atomic_numbers]
    if unknown:
        raise ValueError(f"{what} names '{unknown[0]}', which is no element: use symbols such as H")
    missing = [chemical_symbols[z] for z in elements if chemical_symbols[z] not in values]
    if missing:
        raise ValueError(f"{what} has no value for {', '.join(missing)}: give one for each element")
    return [float(values[chemical_symbols[z]]) for z in elements]
