"""How strongly harmonic modes absorb (infrared) and scatter (Raman)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units

from dreibein.neighbors import attach_neighbors
from dreibein.simulate.vibrations.hessians import evaluate_at, in_double
from dreibein.systems import from_ase

if TYPE_CHECKING:
    from dreibein.nn.potential import Potential

# km/mol of (e / amu^1/2)^2: N_A e^2 / (12 eps0 c^2 amu)
INFRARED = units._Nav * units._e**2 / (12.0 * units._eps0 * units._c**2 * units._amu) * 1e-3
# Å^3 of e Å^2/V: 1 / (4 pi eps0) in V Å/e
VOLUME = units._e * 1e10 / (4.0 * np.pi * units._eps0)
_STEP = 0.01  # Å amu^1/2 along a mode


@dataclass(frozen=True)
class Intensities:
    """Intensities of harmonic modes, where the model has what they need.

    Attributes:
        infrared: A_k = N_A / (12 eps0 c^2) |d dipole / dQ_k|^2 [M] in km/mol, or None.
        raman: 45 a'^2 + 7 g'^2 of d polarizability / dQ_k [M] in Å^4/amu, or None.
        depolarization: 3 g'^2 / (45 a'^2 + 4 g'^2) [M], or None.
        source: Where they come from, in words.
    """

    infrared: np.ndarray | None
    raman: np.ndarray | None
    depolarization: np.ndarray | None
    source: str


def no_intensities(reason: str) -> Intensities:
    """Nothing, with the reason."""
    return Intensities(None, None, None, reason)


def infrared_intensities(born_charges: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """|sum_ib Z_iab dx_ib/dQ|^2 [M] in km/mol.

    Args:
        born_charges: d dipole_a / dx_ib [N, 3, 3] in e.
        directions: dx/dQ [M, N, 3] in amu^-1/2.

    >>> round(float(infrared_intensities(np.ones((1, 1, 1)), np.ones((1, 1, 1)))[0]), 2)
    974.88
    """
    slopes = np.einsum("iab,mib->ma", born_charges, directions)
    return INFRARED * np.square(slopes).sum(1)


def raman_activities(slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activity 45 a'^2 + 7 g'^2 [M] in Å^4/amu, and the depolarization ratio [M].

    a' = tr(alpha') / 3; g'^2 = (3 tr(alpha'^2) - tr(alpha')^2) / 2.

    Args:
        slopes: alpha' = d polarizability / dQ [M, 3, 3] in e·Å^2/V per Å amu^1/2.
    """
    slopes = slopes * VOLUME
    mean = np.trace(slopes, axis1=1, axis2=2) / 3.0
    anisotropy = 0.5 * (3.0 * np.square(slopes).sum((1, 2)) - 9.0 * mean**2)
    activity = 45.0 * mean**2 + 7.0 * anisotropy
    below = 45.0 * mean**2 + 4.0 * anisotropy
    ratio = 3.0 * anisotropy / np.where(below > 0.0, below, 1.0)
    return activity, ratio


def slopes_along(
    property_at: Callable[[np.ndarray], np.ndarray],
    positions: np.ndarray,
    directions: np.ndarray,
    step: float = _STEP,
) -> np.ndarray:
    """Central differences d(property)/dQ [M, …] along every mode.

    Args:
        property_at: Property [K, …] at positions [K, N, 3].
        positions: [N, 3] in Å.
        directions: dx/dQ [M, N, 3].
        step: Of Q in Å amu^1/2.
    """
    up = property_at(positions + step * directions)
    down = property_at(positions - step * directions)
    return (up - down) / (2.0 * step)


def model_intensities(potential: "Potential", atoms: Atoms, directions: np.ndarray) -> Intensities:
    """Intensities from what a model can compute: Born charges, dipoles, polarizabilities.

    Args:
        potential: Asked for what it has.
        atoms: The structure at its minimum.
        directions: dx/dQ [M, N, 3].
    """
    has = set(potential.outputs)
    if not has & {"born_charges", "dipole"} or not len(directions):
        return no_intensities(
            "none: the model gives no dipole (train one with dipoles, see docs/response.md)"
        )
    potential = in_double(potential)

    def property_at(name: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda positions: evaluate_at(potential, atoms, positions, name)

    if "born_charges" in has:
        structure = attach_neighbors(from_ase(atoms), potential.cutoff).to(potential.device)
        charges = potential(structure, compute=("born_charges",))["born_charges"].cpu().numpy()
        infrared = infrared_intensities(charges, directions)
        source = "infrared from Born charges (derivatives of the energy by field and position)"
    else:
        slopes = slopes_along(property_at("dipole"), atoms.positions, directions)
        infrared = INFRARED * np.square(slopes).sum(1)
        source = "infrared from differences of dipoles along the modes"
    if "polarizability" not in has:
        return Intensities(infrared, None, None, source)
    slopes = slopes_along(property_at("polarizability"), atoms.positions, directions)
    activity, ratio = raman_activities(slopes)
    return Intensities(
        infrared, activity, ratio, f"{source}; Raman from differences of polarizabilities"
    )
