"""Thermochemistry of harmonic vibrations through ASE."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms
from ase.thermochemistry import HarmonicThermo, IdealGasThermo

from dreibein.simulate.vibrations.modes import NormalModes, is_linear
from dreibein.simulate.vibrations.rotations import symmetry_number

Treatment = Literal["ideal gas", "harmonic"]
PASCAL_PER_BAR = 1e5


@dataclass(frozen=True)
class Conditions:
    """What a thermochemistry table is of.

    Attributes:
        temperatures: In K.
        pressure_bar: Pressure of the gas in bar.
        symmetry_number: Rotations that leave the molecule as it is; None to count them.
    """

    temperatures: tuple[float, ...] = (298.15,)
    pressure_bar: float = 1.01325
    symmetry_number: int | None = None


@dataclass(frozen=True)
class Thermochemistry:
    """Energies above the minimum of the potential, per structure.

    Attributes:
        treatment: "ideal gas" (molecules: translation, rotation, vibration) or "harmonic"
            (vibrations alone).
        zero_point_energy: In eV.
        symmetry_number: As used; 0 where no rotation counts.
        pressure_bar: As used by the ideal gas.
        rows: For each temperature: temperature_k, internal_energy_ev, enthalpy_ev (ideal gas),
            entropy_ev_per_k, free_energy_ev (Gibbs of the gas, Helmholtz of vibrations).
        note: What was left out, or empty.
    """

    treatment: Treatment
    zero_point_energy: float
    symmetry_number: int
    pressure_bar: float
    rows: list[dict[str, float]]
    note: str


def thermochemistry(
    modes: NormalModes, atoms: Atoms, conditions: Conditions, energy: float = 0.0
) -> Thermochemistry:
    """U, H, S, G of an ideal gas, or U, S, F of the vibrations of anything periodic.

    Imaginary modes are left out, as for a transition state along its path, and a note says so.

    Args:
        modes: Normal modes.
        atoms: The structure; `info["spin"]` is its multiplicity.
        conditions: Temperatures, pressure, symmetry number.
        energy: Energy of the minimum in eV, from which all are counted.

    Raises:
        ValueError: A temperature or pressure that is not positive.
    """
    if min(*conditions.temperatures, conditions.pressure_bar) <= 0.0:
        raise ValueError("temperatures and pressure of a thermochemistry table must be positive")
    quanta = modes.energies[modes.wavenumbers > 0]
    note = ""
    if modes.num_imaginary:
        note = f"{modes.num_imaginary} imaginary mode(s) left out"
    if atoms.pbc.any():
        rows = [_harmonic(quanta, energy, t) for t in conditions.temperatures]
        return Thermochemistry("harmonic", modes.zero_point_energy, 0, 0.0, rows, note)
    sigma = conditions.symmetry_number or symmetry_number(atoms)
    geometry: Literal["linear", "nonlinear", "monatomic"] = "nonlinear"
    if is_linear(atoms):
        geometry = "linear" if len(atoms) > 1 else "monatomic"
    gas = IdealGasThermo(
        vib_energies=list(quanta),
        geometry=geometry,
        potentialenergy=energy,
        atoms=atoms,
        symmetrynumber=sigma,
        spin=0.5 * (int(atoms.info.get("spin", 1)) - 1),
        vib_selection="all",
    )
    pressure = conditions.pressure_bar * PASCAL_PER_BAR
    rows = [_ideal_gas(gas, t, pressure) for t in conditions.temperatures]
    return Thermochemistry(
        "ideal gas", modes.zero_point_energy, sigma, conditions.pressure_bar, rows, note
    )


def _ideal_gas(gas: IdealGasThermo, temperature: float, pressure: float) -> dict[str, float]:
    enthalpy = gas.get_enthalpy(temperature, verbose=False)
    entropy = gas.get_entropy(temperature, pressure, verbose=False)
    return {
        "temperature_k": temperature,
        "internal_energy_ev": float(gas.get_internal_energy(temperature, verbose=False)),
        "enthalpy_ev": float(enthalpy),
        "entropy_ev_per_k": float(entropy),
        "free_energy_ev": float(enthalpy - temperature * entropy),
    }


def _harmonic(quanta: np.ndarray, energy: float, temperature: float) -> dict[str, float]:
    solid = HarmonicThermo(vib_energies=list(quanta), potentialenergy=energy)
    internal = solid.get_internal_energy(temperature, verbose=False)
    entropy = solid.get_entropy(temperature, verbose=False)
    return {
        "temperature_k": temperature,
        "internal_energy_ev": float(internal),
        "entropy_ev_per_k": float(entropy),
        "free_energy_ev": float(internal - temperature * entropy),
    }
