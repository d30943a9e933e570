"""How many rotations leave a molecule as it is: the symmetry number of its rotational entropy."""

import itertools

import numpy as np
from ase import Atoms

from dreibein.simulate.vibrations.modes import is_linear

TOLERANCE = 0.05  # Å; relaxed structures are symmetric to about the force tolerance


def symmetry_number(atoms: Atoms, tolerance: float = TOLERANCE) -> int:
    """Number of proper rotations that put every atom on one of its own kind.

    Args:
        atoms: A molecule.
        tolerance: Largest distance in Å between a rotated atom and its place.

    >>> import ase.build
    >>> [symmetry_number(ase.build.molecule(name)) for name in ("H2O", "NH3", "CH4", "CO2", "C6H6")]
    [2, 3, 12, 2, 12]
    """
    numbers, centered = atoms.numbers, atoms.positions - atoms.get_center_of_mass()
    if len(atoms) == 1:
        return 1
    if is_linear(atoms):
        return 2 if _fits(numbers, centered, -np.eye(3), tolerance) else 1
    first, second = _reference(numbers, centered)
    frame = _frame(centered[first], centered[second])
    found: list[np.ndarray] = []
    same = [np.flatnonzero(numbers == numbers[k]) for k in (first, second)]
    for i, j in itertools.product(*(places.tolist() for places in same)):
        if i == j or not _alike(centered, (first, second), (i, j), tolerance):
            continue
        rotation = frame.T @ _frame(centered[i], centered[j])
        is_new = all(np.abs(rotation - other).max() > 0.1 for other in found)
        if is_new and _fits(numbers, centered, rotation, tolerance):
            found.append(rotation)
    return max(1, len(found))


def _reference(numbers: np.ndarray, centered: np.ndarray) -> tuple[int, int]:
    """Two atoms of rare kinds, away from the center and not in line with it."""
    counts = np.array([np.sum(numbers == z) for z in numbers])
    order = np.argsort(counts, kind="stable")
    for i, j in itertools.combinations(order, 2):
        area = np.linalg.norm(np.cross(centered[i], centered[j]))
        if area > 0.2 * np.linalg.norm(centered[i]) * np.linalg.norm(centered[j]) and area > 0.1:
            return int(i), int(j)
    return int(order[0]), int(order[1])


def _alike(
    centered: np.ndarray, pair: tuple[int, int], other: tuple[int, int], tolerance: float
) -> bool:
    """Whether two pairs of atoms have the same triangle with the center."""
    return all(
        abs(a - b) < 2.0 * tolerance
        for a, b in zip(_triangle(centered, *pair), _triangle(centered, *other), strict=True)
    )


def _triangle(centered: np.ndarray, i: int, j: int) -> tuple[float, float, float]:
    sides = (centered[i], centered[j], centered[i] - centered[j])
    return tuple(float(np.linalg.norm(side)) for side in sides)  # type: ignore[return-value]


def _frame(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Right-handed axes as rows: along a, in the plane of b, and their product."""
    x = a / np.linalg.norm(a)
    y = b - (b @ x) * x
    y = y / np.linalg.norm(y)
    return np.array([x, y, np.cross(x, y)])


def _fits(
    numbers: np.ndarray, centered: np.ndarray, rotation: np.ndarray, tolerance: float
) -> bool:
    """Whether x @ rotation lies on atoms of the same kind."""
    distances = np.linalg.norm((centered @ rotation)[:, None] - centered[None], axis=-1)
    distances[numbers[:, None] != numbers[None, :]] = np.inf
    return bool(distances.min(1).max() < tolerance)
