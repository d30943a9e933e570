"""When a simulation has left the world: the checks, and the error that says so."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from dreibein.simulate.evaluator import NeighborPairs


class BlowUpError(ValueError):
    """A run stopped because the structure or its forces are no longer physical.

    Attributes:
        step: Step at which it was found.
        reason: What was found, with value and bound.
    """

    def __init__(self, step: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.step = step
        self.reason = reason


@dataclass(frozen=True)
class Bounds:
    """What a structure may not exceed.

    Attributes:
        temperature: Kinetic temperature in K.
        force: Length of a force in eV/Å.
        distance: Fraction of the sum of two covalent radii.
    """

    temperature: float
    force: float
    distance: float


def find_bad_motion(temperature: float, forces: np.ndarray, bounds: Bounds) -> str | None:
    """Say what is wrong with temperature (K) or forces [N, 3] (eV/Å), or return None.

    >>> find_bad_motion(300.0, np.array([[0.0, 3.0, 4.0]]), Bounds(1000.0, 4.0, 0.4))
    'the force on atom 0 is 5 eV/Å (bound 4 eV/Å)'
    """
    largest = float(np.square(forces).sum(1).max(initial=0.0)) ** 0.5
    if not np.isfinite(largest):
        atom = int(np.flatnonzero(~np.isfinite(forces).all(1))[0])
        return f"the force on atom {atom} is not a finite number"
    if largest > bounds.force:
        atom = int(np.square(forces).sum(1).argmax())
        return f"the force on atom {atom} is {largest:.4g} eV/Å (bound {bounds.force:g} eV/Å)"
    if not temperature <= bounds.temperature:
        return f"the temperature is {temperature:.5g} K (bound {bounds.temperature:g} K)"
    return None


def find_clash(atoms: Atoms, pairs: NeighborPairs, bounds: Bounds) -> str | None:
    """Name the pair of atoms that is relatively nearest if it is nearer than the bound.

    Args:
        atoms: The structure.
        pairs: Its neighbors at these positions.
        bounds: Only `distance` counts.
    """
    sender, receiver, shift = pairs
    if len(sender) == 0 or bounds.distance == 0.0:
        return None
    vectors = atoms.positions[sender] - atoms.positions[receiver]
    if shift.any():
        vectors = vectors + shift @ atoms.cell.array
    distances = np.sqrt(np.square(vectors).sum(1))
    radii = covalent_radii[atoms.numbers]
    bonds = radii[sender] + radii[receiver]
    worst = int((distances / bonds).argmin())
    if not distances[worst] < bounds.distance * bonds[worst]:
        return None
    i, j = sorted((int(sender[worst]), int(receiver[worst])))
    names = [f"{chemical_symbols[atoms.numbers[k]]} (atom {k})" for k in (i, j)]
    return (
        f"{names[0]} and {names[1]} are {distances[worst]:.3f} Å apart "
        f"(bound {bounds.distance * bonds[worst]:.3f} Å)"
    )
