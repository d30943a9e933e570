"""One potential, called again and again: numbers and positions in, energy and forces out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.neighbors import NeighborList, SkinNeighbors
from dreibein.nn.committee import FORCES_SPREAD, FrozenCommittee, freeze
from dreibein.nn.frozen import FrozenPotential
from dreibein.nn.uncertainty import ENERGY_UNCERTAINTY
from dreibein.simulate.alarms import Alarms, Policy
from dreibein.systems import make_structure

if TYPE_CHECKING:
    from dreibein.nn.potential import Potential

# Sender [E], receiver [E] and shift [E, 3] of a neighbor list, as NumPy arrays.
NeighborPairs = tuple[np.ndarray, np.ndarray, np.ndarray]

DEFAULT_SKIN = 0.5  # Å
NO_FIELD = (0.0, 0.0, 0.0)  # V/Å


class Evaluator:
    """Evaluates one potential on structures that change little from call to call.

    The structure is checked and built once per composition; after that a call costs the
    potential and a filter of the neighbor list, which is searched anew only when the atoms have
    moved too far for the skin. Engines (ASE and whatever else drives the atoms) sit on this.

    Args:
        potential: Its present weights are used, whatever becomes of them later; or frozen already.
        skin: Extra radius in Å of the neighbor list that is kept between calls.
        backend: "auto" or one of `BACKENDS`, for a potential that is not frozen yet.
        alarms: What to do about structures unlike those of the training: "warn", "stop", "record",
            "off", or `Alarms` with ranges of your own.
        field: Electric field on the atoms [3] in V/Å, for a potential that takes one
            (`field_order`): it acts on a charge +e with that force, and energies include it. Then
            the potential is evaluated by autograd.
        memory: Bytes that an evaluation may take, see `FrozenPotential`, for a potential that is
            not frozen yet; None for no limit.

    Attributes:
        potential: The potential.
        frozen: What evaluates it; `frozen.describe()` tells how.
        alarms: What was found.
    """

    def __init__(
        self,
        potential: "Potential | FrozenPotential",
        *,
        skin: float = DEFAULT_SKIN,
        backend: str = "auto",
        alarms: "Alarms | Policy" = "warn",
        field: Sequence[float] = NO_FIELD,
        memory: float | None = None,
    ) -> None:
        if not skin >= 0.0:
            raise ValueError(f"the neighbor skin is {skin} Å, expected 0 or more")
        self.field = tuple(float(component) for component in field)
        if any(self.field):
            potential = _without_engine(potential, backend, memory)
        if not isinstance(potential, FrozenPotential):
            potential = freeze(potential, backend, memory=memory)
        self.frozen = potential
        self._committee = isinstance(potential, FrozenCommittee)
        self.potential = potential.potential
        self._uncertain = self.potential.uncertainty is not None
        self.skin = float(skin)
        if isinstance(alarms, str):
            alarms = Alarms.from_card(self.potential.card, alarms)
        self.alarms = alarms
        self._cell, self._pbc = np.zeros((3, 3)), np.zeros(3, dtype=bool)
        self.forget()

    def forget(self) -> None:
        """Drop all that is kept between calls; the next call depends on its arguments alone."""
        self._neighbors = SkinNeighbors(self.potential.cutoff, self.skin)
        self._pairs: NeighborList | None = None
        self._numbers: np.ndarray | None = None
        self._charge_and_spin: tuple[float, int] | None = None

    def __call__(
        self,
        numbers: np.ndarray,
        positions: np.ndarray,
        cell: np.ndarray,
        pbc: np.ndarray,
        *,
        charge: float = 0.0,
        spin: int = 1,
        compute: Sequence[str] = ("energy", "forces"),
    ) -> dict[str, Tensor]:
        """Evaluate the potential at one structure.

        Args:
            numbers: Atomic numbers [N].
            positions: [N, 3] in Å; they need not be wrapped.
            cell: Cell vectors as rows [3, 3] in Å, zeros for none.
            pbc: Periodicity along each cell vector [3].
            charge: Total charge in e.
            spin: Spin multiplicity.
            compute: Names that `Potential` knows ("energy", "energies", "forces", "stress", …).

        Returns:
            name -> tensor on the potential's device, detached, in eV and Å; of a committee with
            "forces" also "forces_spread".

        Raises:
            ValueError: An element the potential was not trained for.
            OutOfDomainError: An alarm, with the policy "stop".
        """
        same = self._numbers is not None and np.array_equal(numbers, self._numbers)
        if not same or (charge, spin) != self._charge_and_spin:
            self._prepare(numbers, charge, spin)
        structure, device = self._structure, self.potential.device
        if (self._cell != cell).any() or (self._pbc != pbc).any():
            self._set_box(structure, cell, pbc)
        pos = torch.from_numpy(np.array(positions, dtype=np.float64))
        # what measures every pair anyway may as well drop the distant ones
        drops = self.frozen.backend in ("fused", "compiled")
        find = self._neighbors.candidates if drops else self._neighbors
        pairs = find(pos, *self._box)
        structure.pos = pos.to(device)
        if pairs is not self._pairs:  # the same tensors again tell an engine that nothing changed
            structure.edge_index = pairs.edge_index.to(device)
            structure.shift = pairs.shift.to(device)
            self._pairs = pairs
        assert self._numbers is not None
        self.alarms.look(self._numbers, pos.numpy(), self._cell, pairs)
        wanted = tuple(compute)
        if self._committee and "forces" in wanted:
            wanted = (*wanted, FORCES_SPREAD)
        unasked = ENERGY_UNCERTAINTY not in wanted
        doubted = self._uncertain and self.alarms.asks
        if doubted and unasked:
            wanted = (*wanted, ENERGY_UNCERTAINTY)
        values = self.frozen(structure, compute=wanted)
        if FORCES_SPREAD in values:
            self.alarms.disagree(values[FORCES_SPREAD].cpu().numpy())
        if doubted:
            self.alarms.doubt(float(values[ENERGY_UNCERTAINTY]), len(self._numbers))
            if unasked:
                del values[ENERGY_UNCERTAINTY]
        return values

    @property
    def pairs(self) -> NeighborPairs:
        """Neighbor list of the last call."""
        pairs = self._neighbors(self._structure.pos, *self._box)
        return pairs.sender.numpy(), pairs.receiver.numpy(), pairs.shift.numpy()

    @property
    def neighbor_searches(self) -> int:
        """How often the neighbor list was searched since the last `forget`."""
        return self._neighbors.builds

    def check(self, numbers: np.ndarray) -> None:
        """Refuse elements that the potential does not know.

        Raises:
            ValueError: Naming the unknown elements and the known ones.
        """
        self.potential.check(make_structure(numbers, torch.zeros(len(numbers), 3)))

    def _prepare(self, numbers: np.ndarray, charge: float, spin: int) -> None:
        """Build the structure that later calls fill with positions, and check its elements."""
        self.check(numbers)
        structure = make_structure(numbers, torch.zeros(len(numbers), 3), charge=charge, spin=spin)
        if any(self.field):
            structure.external_field = torch.tensor([self.field], dtype=torch.float64)
        self._structure, self._pairs = structure.to(self.potential.device), None
        self._set_box(self._structure, np.zeros((3, 3)), np.zeros(3, dtype=bool))
        self._numbers = np.array(numbers)
        self._charge_and_spin = (charge, spin)

    def _set_box(self, structure: Data, cell: np.ndarray, pbc: np.ndarray) -> None:
        """Give the structure a new cell and periodicity."""
        self._cell, self._pbc = np.array(cell, dtype=np.float64), np.array(pbc, dtype=bool)
        self._box = torch.from_numpy(self._cell), torch.from_numpy(self._pbc)
        structure.cell, structure.pbc = (x.unsqueeze(0).to(structure.z.device) for x in self._box)


def _without_engine(
    potential: "Potential | FrozenPotential", backend: str, memory: float | None
) -> FrozenPotential:
    """What evaluates a potential in an electric field.

    Raises:
        ValueError: A potential that takes none, or an engine that was asked for by name.
    """
    if isinstance(potential, FrozenPotential):
        memory = potential.memory
        potential = potential.potential
    if not potential.field_order:
        raise ValueError(
            "this potential takes no electric field: train one with model.field_order, on frames "
            "with dipoles or in fields"
        )
    if backend == "fused":
        raise ValueError("in an electric field potentials are evaluated by autograd, not fused")
    return freeze(potential, "reference", memory=memory)
