"""Harmonic lines of a method that is no model: forces and dipoles from calls, one by one."""

from collections.abc import Callable

import numpy as np
from ase import Atoms
from scipy.optimize import minimize

from dreibein.simulate.vibrations.character import mode_names
from dreibein.simulate.vibrations.hessians import STEP, difference_hessian
from dreibein.simulate.vibrations.intensities import infrared_intensities
from dreibein.simulate.vibrations.modes import NormalModes, normal_modes

# energy in eV, forces [N, 3] in eV/Å and dipole [3] in e·Å at positions [N, 3]
Labels = tuple[float, np.ndarray, np.ndarray]
_GRADIENT = 2e-4  # eV/Å


def reference_vibrations(
    labels_at: Callable[[np.ndarray], Labels],
    atoms: Atoms,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[Atoms, NormalModes, np.ndarray, list[str]]:
    """Relax with a method, then its modes and infrared intensities by central differences.

    Args:
        labels_at: Energy, forces and dipole of the method at positions.
        atoms: Where to start; not changed.
        progress: Called with displacements done, their number, and a note.

    Returns:
        The relaxed structure, its modes, intensities [M] in km/mol, and names.
    """
    atoms = atoms.copy()

    def downhill(flat: np.ndarray) -> tuple[float, np.ndarray]:
        energy, forces, _ = labels_at(flat.reshape(-1, 3))
        return energy, -forces.ravel()

    start = atoms.positions.ravel()
    found = minimize(downhill, start, jac=True, method="BFGS", options={"gtol": _GRADIENT})
    atoms.positions = found.x.reshape(-1, 3)
    slopes: list[np.ndarray] = []

    def forces_at(positions: np.ndarray) -> np.ndarray:
        results = [labels_at(place) for place in positions]
        slopes.extend((up[2] - down[2]) / (2.0 * STEP) for up, down in zip(*[iter(results)] * 2))
        return np.array([forces for _, forces, _ in results])

    hessian = difference_hessian(forces_at, atoms.positions, progress=progress)
    modes = normal_modes(hessian.values, atoms)
    charges = np.array(slopes).reshape(len(atoms), 3, 3).transpose(0, 2, 1)  # [atom, dipole, place]
    infrared = infrared_intensities(charges, modes.directions)
    return atoms, modes, infrared, mode_names(atoms, modes.directions)
