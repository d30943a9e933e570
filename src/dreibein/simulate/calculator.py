"""A potential as an ASE calculator."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import PropertyNotImplementedError, all_changes

from dreibein.nn.committee import ENERGY_SPREAD, spread_name
from dreibein.nn.potential import OUTPUTS
from dreibein.nn.response import RESPONSES
from dreibein.nn.uncertainty import ENERGY_UNCERTAINTY
from dreibein.simulate.evaluator import DEFAULT_SKIN, NO_FIELD, Evaluator
from dreibein.systems.cells import to_voigt

if TYPE_CHECKING:
    from dreibein.nn.frozen import FrozenPotential
    from dreibein.nn.potential import Potential


class Calculator(AseCalculator):
    """ASE calculator: energy, free_energy, energies, forces, stress in eV, Å.

    The total charge is `atoms.info["charge"]`, the spin multiplicity `atoms.info["spin"]`, where
    present; changing either counts as a change of the system. Stress (eV/Å³, tension positive,
    Voigt order xx yy zz yz xz xy) exists for cells that are periodic in three dimensions. Dipole
    (e·Å), charges (e) and other targets where the model predicts them.

    Args:
        potential: A potential, frozen or not, the path of a model file, or an `Evaluator` (with an
            alarm policy of your own).
        device: Where to load a model file; a potential stays where it is.
        dtype: Precision to load a model file in, by default the one it was saved in.
        skin: Extra radius in Å of the neighbor list kept between calls.
        backend: "auto" or one of `dreibein.nn.BACKENDS`; see `FrozenPotential` there.
        field: Electric field on the atoms [3] in V/Å, as of `Evaluator`.
        memory: Bytes that an evaluation may take, as of `Evaluator`; None for no limit.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012

    def __init__(
        self,
        potential: "Potential | FrozenPotential | Evaluator | str | Path",
        *,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        skin: float = DEFAULT_SKIN,
        backend: str = "auto",
        field: Sequence[float] = NO_FIELD,
        memory: float | None = None,
    ) -> None:
        super().__init__()
        if isinstance(potential, str | Path):
            from dreibein.models import load_model

            potential = load_model(potential, device=device, dtype=dtype)
        if not isinstance(potential, Evaluator):
            potential = Evaluator(potential, skin=skin, backend=backend, field=field, memory=memory)
        self.evaluator = potential
        # Properties computed at every call beside the one asked for; an engine that will ask for
        # forces and then stress sets ("forces", "stress") and saves an evaluation.
        self.always: tuple[str, ...] = ()
        own = [name for name in self.potential.outputs if name not in OUTPUTS]
        known = type(self).implemented_properties if self.potential.has_energy else []
        self.implemented_properties = [*known, *own]

    @property
    def potential(self) -> "Potential":
        """The potential evaluated here."""
        return self.evaluator.potential

    def forget(self) -> None:
        """Drop results and neighbor list; the next call depends on its arguments alone."""
        self.reset()
        self.evaluator.forget()

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Say what differs from the last calculation; charge and spin in `info` count too."""
        last = self.atoms
        if last is None:
            return list(all_changes)
        changes = [
            name
            for name in ("numbers", "positions")
            if not np.array_equal(last.arrays[name], atoms.arrays[name])
        ]
        if not np.array_equal(last.cell.array, atoms.cell.array):
            changes.append("cell")
        if not np.array_equal(last.pbc, atoms.pbc):
            changes.append("pbc")
        if charge_and_spin(last) != charge_and_spin(atoms):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute the properties asked for (and those of `always`) into `results`.

        Raises:
            PropertyNotImplementedError: Stress of a structure that is not a 3D periodic cell.
            ValueError: An element the potential was not trained for.
        """
        if atoms is None:
            atoms = self.atoms
        assert atoms is not None, "ASE calls with the atoms, or after it has stored them"
        if self.atoms is None or self.check_state(atoms):
            self.atoms = atoms.copy()
        asked = {*(properties or ["energy"]), *self.always}
        if "stress" in asked and not atoms.pbc.all():
            raise PropertyNotImplementedError(
                "stress is defined for cells periodic in three dimensions only, "
                f"and pbc is {atoms.pbc.tolist()}; set atoms.pbc = True with a full cell"
            )
        always = ["energy"] if self.potential.has_energy else []
        compute = [*always, *sorted(asked - {"energy", "free_energy"})]
        charge, spin = charge_and_spin(atoms)
        values = self.evaluator(
            atoms.numbers,
            atoms.positions,
            atoms.cell.array,
            atoms.pbc,
            charge=charge,
            spin=spin,
            compute=compute,
        )
        targets = self.potential.targets
        whole = [n for n in targets if targets[n].target.scope == "structure"]
        whole += [*map(spread_name, whole), ENERGY_UNCERTAINTY, ENERGY_SPREAD]
        self.results.update(_as_results(values, (*RESPONSES[:2], *whole)))


def charge_and_spin(atoms: Atoms) -> tuple[float, int]:
    """Total charge in e and spin multiplicity in `atoms.info`, or 0 and 1.

    >>> charge_and_spin(Atoms("H", info={"charge": 1}))
    (1.0, 1)
    """
    return float(atoms.info.get("charge", 0.0)), int(atoms.info.get("spin", 1))


def _as_results(values: dict[str, torch.Tensor], whole: Collection[str]) -> dict[str, Any]:
    """Tensors of one structure in ASE's forms; `whole` names those of the structure."""
    results: dict[str, Any] = {}
    for name, value in values.items():
        if name == "energy":
            results["energy"] = results["free_energy"] = float(value)
        elif name == "stress":
            results["stress"] = to_voigt(value.cpu())[0].numpy()
        elif name in whole:
            results[name] = value.cpu()[0].numpy()
        else:
            results[name] = value.cpu().numpy()
    return results
