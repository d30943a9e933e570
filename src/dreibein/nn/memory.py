"""How much memory an evaluation needs, and which parts of structures keep within a limit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.neighbors.parts import Part, Parts, Reach
from dreibein.nn.derivatives import strained
from dreibein.nn.potential import Potential
from dreibein.nn.terms.sums import term_energies
from dreibein.nn.terms.term import Term
from dreibein.systems.graphs import batch_index, make_graph
from dreibein.systems.structures import make_structure

LIST_BYTES = 100
"""Of a pair beside what the network keeps: sender, receiver, shift (40) and its vector, and of an
atom (numbers, positions, results)."""
REVERSE = 2.0
"""What autograd takes over what it keeps for the way back: as much again in temporaries."""

_ATOMS, _FEW, _MANY = 8, 2, 6  # of the samples that are measured: atoms, neighbors of each
_SURE = 0.5  # part of the listed pairs that count for certain, some being longer than the cutoff


def size_text(num_bytes: float) -> str:
    """Size in powers of 1024, as memory is stated.

    >>> size_text(3 * 2**29)
    '1.5 GiB'
    """
    for unit in ("B", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} GiB"


@dataclass(frozen=True)
class Cost:
    """Bytes of an evaluation with forces, beyond structures and neighbor lists.

    Attributes:
        atom: Of an atom.
        far: Of an atom that is heard and hears none.
        pair: Of a pair that the network hears.
        listed: Of a pair in the list, which reaches farther where a term does.
        share: Part of the listed pairs that the network hears, about.
    """

    atom: float
    far: float
    pair: float
    listed: float
    share: float = 1.0

    def of(self, atoms: int, pairs: int, listed: int, far: int = 0) -> float:
        """Bytes for so many atoms, pairs that the network hears, pairs in the list, far atoms."""
        of_atoms = self.atom * atoms + self.far * far
        return of_atoms + self.pair * pairs + self.listed * listed

    def least(self, atoms: int, listed: int) -> float:
        """Bytes that so many atoms with so many listed neighbors take before others are added."""
        sure = _SURE * listed
        return self.atom * atoms + (self.pair * self.share + self.listed) * sure

    def describe(self) -> str:
        """In a few words."""
        return f"{size_text(self.atom)} an atom, {size_text(self.pair + self.listed)} a pair"


def reaches(potential: Potential) -> tuple[Reach, ...]:
    """Edges from an atom to the farthest that its energy hears: of the network, of each term.

    Networks and terms say it by an attribute `hops`.

    Raises:
        ValueError: One that does not say so, or whose range has no end.
    """
    named: list[tuple[str, Any]] = [(type(potential.network).__name__, potential.network)]
    named += [(term.describe(), term) for term in potential.terms]
    found = []
    for name, part in named:
        hops = getattr(part, "hops", None)
        if hops is None:
            raise ValueError(
                f"one structure is too large for the memory limit, and {name} cannot be evaluated "
                "in parts: it does not say how many neighbors away an atom is heard (hops), or "
                "hears all atoms; raise the limit"
            )
        found.append(Reach(int(hops), float(part.cutoff)))
    return tuple(found)


def cost_of(potential: Potential, of_engine: tuple[float, float, float] | None = None) -> Cost:
    """What an engine says of itself, of an atom, a far one, and a pair; else that of autograd.

    That is measured on small samples: what is kept for the way back, times `REVERSE`. So are terms,
    but for those whose range has no end, which are not counted.
    """
    local = [term for term in potential.terms if term.hops is not None]
    terms = _measured(potential, local) if local else (0.0, 0.0)
    if of_engine is None:
        atom, pair = _measured(potential, None)
        far = atom
    else:
        atom, far, pair = of_engine
    share = (float(potential.network.cutoff) / potential.cutoff) ** 3  # type: ignore[arg-type]
    beside = terms[0] + LIST_BYTES
    return Cost(atom + beside, far + beside, pair, terms[1] + LIST_BYTES, share)


def groups(costs: Sequence[float], limit: float) -> list[tuple[int, int]]:
    """Structures in order, the first and one past the last, as many at once as fit.

    Args:
        costs: Bytes of each.
        limit: Bytes; a structure that needs more is a group of its own.

    >>> groups([3.0, 3.0, 9.0, 2.0], 6.0)
    [(0, 2), (2, 3), (3, 4)]
    """
    bounds, total = [0], 0.0
    for number, cost in enumerate(costs):
        if total + cost > limit and number > bounds[-1]:
            bounds.append(number)
            total = 0.0
        total += cost
    return list(pairwise([*bounds, len(costs)]))


def parts_within(
    parts: Parts, structure: int, around: Sequence[Reach], cost: Cost, limit: float
) -> Iterator[Part]:
    """Parts of one structure that own every atom once, each within a limit of bytes.

    Atoms are halved along where they extend most until they fit with all that they hear.

    Args:
        parts: Of the structures.
        structure: Which of them.
        around: Of the network first, then of terms.
        cost: Of the evaluation.
        limit: Bytes.

    Raises:
        ValueError: A single atom with all that it hears does not fit.
    """
    waiting = [parts.together(structure, structure + 1).atoms]
    while waiting:
        owned = waiting.pop()
        if len(owned) == 1 or cost.least(len(owned), parts.listed(owned)) <= limit:
            part = parts.around(owned, around)
            heard = int(parts.nearer(around[0].cutoff)[part.pairs].sum())
            hearing = part.levels[-2:][0]
            far = len(part.atoms) - hearing
            needed = cost.of(hearing, heard, len(part.pairs), far)
            if needed <= limit:
                yield part
                continue
            if len(owned) == 1:
                raise ValueError(
                    f"a single atom (number {owned[0]}) with the {len(part.atoms) - 1} others "
                    f"that its energy hears needs {size_text(needed)}, and the memory limit is "
                    f"{size_text(limit)}: raise it"
                )
        waiting.extend(reversed(parts.halves(owned)))


def structure_costs(parts: Parts, cutoff: float, whole_list: bool, cost: Cost) -> list[float]:
    """Bytes of each structure.

    Args:
        parts: Of the structures.
        cutoff: Of the network in Å.
        whole_list: Whether the network hears the whole list.
        cost: Of the evaluation.
    """
    found = []
    for number in range(parts.num_structures):
        whole = parts.together(number, number + 1)
        listed = len(whole.pairs)
        heard = listed if whole_list else int(parts.nearer(cutoff)[whole.pairs].sum())
        found.append(cost.of(len(whole.atoms), heard, listed))
    return found


def _measured(potential: Potential, terms: Sequence[Term] | None) -> tuple[float, float]:
    """Bytes that autograd needs for an atom and for a pair, in the network or in terms."""
    sizes = ((_ATOMS, _FEW), (_ATOMS, _MANY), (2 * _ATOMS, _FEW))
    first, paired, larger = (_kept(potential, terms, _sample(potential, *n)) for n in sizes)
    pair = (paired - first) / (_ATOMS * (_MANY - _FEW))
    atom = (larger - first - pair * _ATOMS * _FEW) / _ATOMS
    return REVERSE * max(atom, 0.0), REVERSE * max(pair, 0.0)


def _kept(potential: Potential, terms: Sequence[Term] | None, sample: Data) -> int:
    """Bytes of all that is kept for the way back."""
    sizes: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    batch, _ = batch_index(sample)
    with torch.inference_mode(False), torch.enable_grad():
        places = sample.pos.detach().requires_grad_()
        pos, cell, _ = strained(places, sample.cell, batch)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            if terms is None:
                energies = potential.network(make_graph(sample, pos, cell, potential.dtype))
            else:
                energies = term_energies(terms, sample, pos, cell)
    del energies  # until here what was kept is alive, so that no address was used twice
    return sum(sizes.values())


def _sample(potential: Potential, atoms: int, neighbors: int) -> Data:
    """Atoms in a ball within the cutoff, each with the next ones in their order as neighbors."""
    generator = torch.Generator().manual_seed(atoms)
    pos = 0.4 * float(potential.network.cutoff) * torch.rand(atoms, 3, generator=generator)  # type: ignore[arg-type]
    z = np.resize(potential.elements, atoms)
    steps = torch.tensor([s for k in range(1, neighbors // 2 + 1) for s in (k, -k)])
    receiver = torch.arange(atoms).repeat_interleave(neighbors)
    sender = (receiver + steps.repeat(atoms)) % atoms
    made = make_structure(z, pos, charges=torch.zeros(atoms))
    made.edge_index = torch.stack((sender, receiver))
    made.shift = torch.zeros(len(sender), 3, dtype=torch.int64)
    return made.to(potential.device)
