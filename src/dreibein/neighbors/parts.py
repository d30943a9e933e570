"""Parts of structures that are evaluated alone: some atoms, with all that their energies hear.

An atom's energy depends on the atoms that are a number of edges away along the neighbor list. With
these beside them, the energies of some atoms ("owned") are what they are in the whole, and so are
their gradients by the positions of all atoms in the part:

    E = sum_parts sum_owned E_i,      dE/dx = sum_parts d(sum_owned E_i)/dx,

exactly, whatever the cell and however the atoms are shared out. Nothing here measures space but to
keep the parts compact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data

from dreibein.systems.cells import wrap
from dreibein.systems.fields import FIELDS, LABELS
from dreibein.systems.graphs import batch_index

__all__ = ["Part", "Parts", "Reach"]

_BLOCK = 1 << 16  # pairs measured at a time: a few MiB

_Integers = NDArray[np.int64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Reach:
    """An energy hears atoms so many edges away.

    Attributes:
        hops: Edges.
        cutoff: Å, the length of an edge at most.
    """

    hops: int
    cutoff: float


@dataclass(frozen=True)
class Part:
    """Which atoms and pairs of the whole, in which order.

    Attributes:
        first: First structure.
        last: One past the last structure.
        atoms: Numbers of the atoms [n]: those owned, then by hops of the first reach, the rest.
        levels: How many are owned, and how many are within 1, 2, ... hops [hops + 1].
        pairs: Places of the pairs in the list [p], sorted by the new numbers of the receivers.
    """

    first: int
    last: int
    atoms: _Integers
    levels: tuple[int, ...]
    pairs: _Integers

    @property
    def owned(self) -> _Integers:
        """Atoms whose energies count."""
        return self.atoms[: self.levels[0]]


class Parts:
    """What parts are cut of.

    Args:
        structures: `Data` or `Batch` with neighbors in both directions, sorted by receiver; pairs
            may be longer than any cutoff.

    Raises:
        ValueError: Neighbors are not sorted by receiver.
    """

    def __init__(self, structures: Data) -> None:
        batch, self.num_structures = batch_index(structures)
        self._whole = structures
        self._batch: _Integers = batch.cpu().numpy()
        self._sender, self._receiver = structures.edge_index.cpu().numpy()
        self._pos = structures.pos.detach().cpu().double().numpy()
        self._cell = structures.cell.detach().cpu().double()
        self._shift = structures.shift.cpu().numpy()
        if (self._receiver[1:] < self._receiver[:-1]).any():
            raise ValueError(
                "the neighbor list is not sorted by receiver, so no parts can be cut: take it from "
                "dreibein.neighbors.attach_neighbors"
            )
        atoms = len(self._batch)
        self._ends: _Integers = np.searchsorted(self._receiver, np.arange(atoms + 1))
        self._place: _Integers = np.empty(atoms, dtype=np.int64)
        self._near: dict[float, _Flags] = {}
        self._starts: _Integers = np.searchsorted(self._batch, np.arange(self.num_structures + 1))

    def together(self, first: int, last: int) -> Part:
        """All of the structures first ... last."""
        start, stop = self._starts[first], self._starts[last]
        pairs = np.arange(self._ends[start], self._ends[stop])
        return Part(first, last, np.arange(start, stop), (int(stop - start),), pairs)

    def listed(self, atoms: _Integers) -> int:
        """Pairs in the list of which these are the receivers."""
        return int((self._ends[atoms + 1] - self._ends[atoms]).sum())

    def nearer(self, cutoff: float) -> _Flags:
        """Which pairs of the list [E] are shorter than a cutoff in Å; measured once."""
        if cutoff not in self._near:
            self._near[cutoff] = near = np.empty(len(self._sender), dtype=bool)
            bounds = self._ends[self._starts]
            for cell, first, last in zip(self._cell.numpy(), bounds, bounds[1:], strict=False):
                for start in range(first, last, _BLOCK):
                    some = slice(start, min(start + _BLOCK, last))
                    vectors = self._pos[self._sender[some]] - self._pos[self._receiver[some]]
                    vectors += self._shift[some] @ cell
                    near[some] = np.einsum("ec,ec->e", vectors, vectors) < cutoff * cutoff
        return self._near[cutoff]

    def around(self, owned: _Integers, reaches: Sequence[Reach]) -> Part:
        """Some atoms of one structure [n] with all that their energies hear.

        Left out are pairs longer than every cutoff, and those of receivers at the end of the reach:
        these are heard, and what they hear themselves is not.
        """
        member, inner = np.zeros((2, len(self._batch)), dtype=bool)  # inner: whose pairs are heard
        order, levels = [owned], [len(owned)]
        member[owned] = True
        for reach in reaches:
            near, seen = self.nearer(reach.cutoff), np.zeros(len(member), dtype=bool)
            seen[owned] = True
            edge = owned
            for _ in range(reach.hops):
                inner[edge] = True
                pairs = self._pairs_of(edge)
                found = np.zeros(len(member), dtype=bool)
                found[self._sender[pairs[near[pairs]]]] = True
                edge = np.flatnonzero(found & ~seen)
                seen[edge] = True
                if reach is reaches[0]:
                    levels.append(levels[-1] + len(edge))
                order.append(edge[~member[edge]])
                member[edge] = True
        atoms = np.concatenate(order)
        pairs = self._pairs_of(atoms[inner[atoms]])
        near = self.nearer(max(reach.cutoff for reach in reaches))
        pairs = pairs[near[pairs] & member[self._sender[pairs]]]
        structure = int(self._batch[owned[0]])
        return Part(structure, structure + 1, atoms, tuple(levels), pairs)

    def _pairs_of(self, atoms: _Integers) -> _Integers:
        """Places in the list of all pairs with these receivers, in their order."""
        counts = self._ends[atoms + 1] - self._ends[atoms]
        last = np.cumsum(counts)
        return np.arange(int(counts.sum())) + np.repeat(self._ends[atoms + 1] - last, counts)

    def halves(self, owned: _Integers) -> tuple[_Integers, _Integers]:
        """Two groups of atoms of one structure, side by side along where they extend most."""
        structure = int(self._batch[owned[0]])
        pbc = self._whole.pbc[structure].cpu()
        places = torch.from_numpy(self._pos[owned])
        if bool(pbc.any()):
            places = wrap(places, self._cell[structure], pbc)
        axis = int((places.amax(0) - places.amin(0)).argmax())
        order = np.argpartition(places[:, axis].numpy(), len(owned) // 2)
        middle = len(owned) // 2
        return np.sort(owned[order[:middle]]), np.sort(owned[order[middle:]])

    def take(self, part: Part) -> Data:
        """The part as structures of their own; labels stay behind."""
        device = self._whole.z.device
        atoms = torch.from_numpy(part.atoms).to(device)
        taken = Data()
        for name, value in self._whole:
            if name not in FIELDS or (name in LABELS and name != "charges"):
                continue
            scope = FIELDS[name].scope
            if scope == "atom":
                taken[name] = value.index_select(0, atoms)
            elif scope == "structure":
                taken[name] = value[part.first : part.last]
        self._place[part.atoms] = np.arange(len(part.atoms))
        ends = [self._place[of[part.pairs]] for of in (self._sender, self._receiver)]
        taken.edge_index = torch.from_numpy(np.stack(ends)).to(device)
        taken.shift = torch.from_numpy(self._shift[part.pairs]).to(device)
        taken.batch = torch.from_numpy(self._batch[part.atoms] - part.first).to(device)
        taken.num_graphs = part.last - part.first
        return taken
