"""What a quantum-chemical method offers, whichever program stands behind it."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Array = NDArray[np.float64]
HESSIAN_STEP = 0.005  # Å; the error of the difference is (h²/6) d⁴E/dx⁴, some 1e-3 eV/Å²


class ConvergenceError(RuntimeError):
    """The self-consistent field of one geometry was not found."""


@dataclass(frozen=True)
class Labels:
    """Results for one geometry.

    Attributes:
        energy: Total energy in eV.
        forces: -dE/dx [N, 3] in eV/Å.
        charges: Mulliken charges [N] in e; None where no single method stands behind all labels.
        dipole: Dipole moment [3] in e·Å about the origin of the coordinates; None in a cell.
        stress: (1/V) dE/dε [3, 3] in eV/Å³, tension positive; None without a cell.
        hessian: d²E/dx dx [3N, 3N] in eV/Å², where it was asked for.
    """

    energy: float
    forces: Array
    charges: Array | None = None
    dipole: Array | None = None
    stress: Array | None = None
    hessian: Array | None = None


class Calculation(Protocol):
    """One structure at one level of theory; only its positions move."""

    def energy_and_forces(self, positions: Array) -> tuple[float, Array]:
        """Energy in eV and forces in eV/Å, started from the solution before (fast)."""

    def forget(self) -> None:
        """Start the next call from nothing, so that it depends on its positions alone."""

    def labels(self, positions: Array) -> Labels:
        """All labels, tightly converged from nothing: a function of the positions alone."""


class Method(Protocol):
    """A level of theory."""

    name: str
    packages: tuple[str, ...]
    frames_per_task: int

    def check(self, atoms: Atoms) -> None:
        """Refuse, as ValueError, an element, charge, spin or cell that the method cannot treat."""

    def calculation(self, atoms: Atoms) -> Calculation:
        """Calculation of a structure; charge and spin are those of `atoms.info`."""


def hessian_of(calculation: Calculation, positions: Array) -> Array:
    """H[k] = -(F(x + h e_k) - F(x - h e_k)) / 2h [3N, 3N] in eV/Å², made symmetric.

    Args:
        calculation: 6N times the labels of one structure.
        positions: [N, 3] in Å.
    """
    rows = []
    for k in range(positions.size):
        step = np.zeros(positions.size)
        step[k] = HESSIAN_STEP
        ends = [calculation.labels(positions + s * step.reshape(-1, 3)).forces for s in (1, -1)]
        rows.append((ends[1] - ends[0]).ravel() / (2.0 * HESSIAN_STEP))
    matrix = np.array(rows)
    return 0.5 * (matrix + matrix.T)


def total_charge(atoms: Atoms) -> int:
    """Total charge in e, `atoms.info["charge"]`.

    Raises:
        ValueError: The charge is no whole number.
    """
    charge = float(atoms.info.get("charge", 0))
    if charge != round(charge):
        raise ValueError(f"a total charge of {charge:g} e is no whole number; correct it")
    return round(charge)


def unpaired_electrons(atoms: Atoms) -> int:
    """Unpaired electrons, multiplicity less one, checked against the number of electrons.

    Raises:
        ValueError: The multiplicity does not fit.
    """
    spin, charge = int(atoms.info.get("spin", 1)), total_charge(atoms)
    electrons = int(atoms.numbers.sum()) - charge
    if spin < 1 or spin - 1 > electrons or (electrons - spin + 1) % 2:
        raise ValueError(
            f"{atoms.get_chemical_formula()} with a charge of {charge:+d} has {electrons} "
            f"electrons, which a spin multiplicity of {spin} does not fit; set charge or spin"
        )
    return spin - 1
