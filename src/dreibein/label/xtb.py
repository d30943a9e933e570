"""Extended tight binding (GFN1-xTB, GFN2-xTB) through tblite's own interface.

The interface is a third faster than tblite's ASE calculator on small molecules, and it says when
a solution starts from nothing.
"""

import importlib
from types import ModuleType
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree

from dreibein.label.calculations import (
    Array,
    ConvergenceError,
    Labels,
    total_charge,
    unpaired_electrons,
)

XTB_METHODS = ("GFN2-xTB", "GFN1-xTB")
_HEAVIEST = 86
# tblite scales its thresholds by these. 1 is its default; at 0.01 forces equal differences of the
# energy to 1e-7 eV/Å, for a fifth more time.
_DYNAMICS_ACCURACY, _LABEL_ACCURACY = 1.0, 0.01


class XtbMethod:
    """GFN1-xTB or GFN2-xTB; in a cell at the Gamma point.

    Args:
        name: One of `XTB_METHODS`.

    Raises:
        ImportError: tblite is not installed.
    """

    packages: tuple[str, ...] = ("tblite",)
    frames_per_task = 20

    def __init__(self, name: str) -> None:
        self.name = name
        _interface()

    def check(self, atoms: Atoms) -> None:
        """Refuse elements beyond radon, odd spins and cells periodic in one or two directions."""
        unpaired_electrons(atoms)
        if atoms.numbers.max() > _HEAVIEST or atoms.numbers.min() < 1:
            raise ValueError(f"{self.name} knows the elements H to Rn; the structure has others")
        if atoms.pbc.any() and not atoms.pbc.all():
            raise ValueError(
                f"{self.name} treats a cell as periodic in all three directions, this one is "
                f"periodic in {int(atoms.pbc.sum())}; set pbc to all or none"
            )

    def calculation(self, atoms: Atoms) -> "XtbCalculation":
        """Calculation of one structure, fixed in elements, cell, charge and spin."""
        return XtbCalculation(self.name, atoms)


class XtbCalculation:
    """One structure in tblite; Hartree and Bohr end here."""

    def __init__(self, method: str, atoms: Atoms) -> None:
        interface = _interface()
        self._failure = interface.TBLiteRuntimeError
        self._periodic = bool(atoms.pbc.all())
        self._volume = atoms.get_volume() if self._periodic else 0.0
        box = (
            {"lattice": atoms.cell.array / Bohr, "periodic": np.array([True] * 3)}
            if self._periodic
            else {}
        )
        try:
            self._calculator = interface.Calculator(
                method,
                atoms.numbers,
                atoms.positions / Bohr,
                charge=float(total_charge(atoms)),
                uhf=unpaired_electrons(atoms),
                **box,
            )
        except self._failure as error:
            raise ConvergenceError(_sentence(error)) from error
        self._calculator.set("verbosity", 0)
        self._last: Any = None

    def energy_and_forces(self, positions: Array) -> tuple[float, Array]:
        """Energy in eV and forces in eV/Å, started from the solution before."""
        self._last = self._solve(positions, _DYNAMICS_ACCURACY, self._last)
        energy = float(self._last.get("energy")) * Hartree
        return energy, self._last.get("gradient") * (-Hartree / Bohr)

    def forget(self) -> None:
        """Start the next call from a superposition of atomic densities."""
        self._last = None

    def labels(self, positions: Array) -> Labels:
        """All labels from a tight solution that starts from nothing."""
        found = self._solve(positions, _LABEL_ACCURACY, None)
        stress = dipole = None
        if self._periodic:
            stress = found.get("virial") * (Hartree / self._volume)
        else:
            dipole = found.get("dipole") * Bohr
        return Labels(
            energy=float(found.get("energy")) * Hartree,
            forces=found.get("gradient") * (-Hartree / Bohr),
            charges=np.array(found.get("charges")),
            dipole=dipole,
            stress=stress,
        )

    def _solve(self, positions: Array, accuracy: float, start: Any) -> Any:
        self._calculator.set("accuracy", accuracy)
        try:
            self._calculator.update(positions / Bohr)
            return self._calculator.singlepoint(start)
        except self._failure as error:
            self._last = None
            raise ConvergenceError(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())


def _interface() -> ModuleType:
    """`tblite.interface`.

    Raises:
        ImportError: It is not installed.
    """
    try:
        return importlib.import_module("tblite.interface")
    except ImportError as error:
        raise ImportError(
            'GFN1-xTB and GFN2-xTB need tblite: pip install "dreibein[label]"'
        ) from error
