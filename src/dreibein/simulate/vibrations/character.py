"""What a normal mode does, in chemist's words: which bonds stretch, which angles bend."""

import itertools
from collections import defaultdict

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import get_distances

# Typical force constants: eV/Å^2 of a stretch, eV/rad^2 of a bend and of a torsion. They only
# weigh the three kinds of motion against each other.
_STRETCH, _BEND, _TORSION = 30.0, 4.0, 0.4
_BOND = 1.25  # times the sum of covalent radii
_STRAIGHT = 0.1  # sine of an angle below which it counts as straight


def mode_names(atoms: Atoms, directions: np.ndarray) -> list[str]:
    """A name for each mode, such as "O-H stretch" or "H-C-H bend + C-C stretch".

    The change of every bond length, bond angle and torsion along the mode is squared and weighed
    with a typical force constant; kinds with the largest share, and others of at least half of
    it, make the name.

    Args:
        atoms: The structure.
        directions: dx/dQ [M, N, 3].
    """
    kinds = internal_coordinates(atoms)
    return [_name(kinds, direction.ravel()) for direction in directions]


def _name(kinds: dict[str, np.ndarray], direction: np.ndarray) -> str:
    shares = {name: float(np.square(rows @ direction).sum()) for name, rows in kinds.items()}
    if not shares:
        return "motion of parts"
    order = sorted(shares, key=lambda name: -shares[name])[:2]
    if shares[order[0]] < 1e-4 * float(direction @ direction) * _TORSION:
        return "motion of parts"
    return " + ".join(name for name in order if shares[name] >= 0.5 * shares[order[0]])


def internal_coordinates(atoms: Atoms) -> dict[str, np.ndarray]:
    """Rows [K, 3N] sqrt(k) d(coordinate)/dx of each kind of internal coordinate."""
    vectors, bonds = _bonds(atoms)
    symbols, size = atoms.get_chemical_symbols(), 3 * len(atoms)
    rows: dict[str, list[np.ndarray]] = defaultdict(list)
    for i, j in bonds:
        a, b = sorted((symbols[i], symbols[j]), key=lambda s: (s == "H", s))
        unit = vectors[i, j] / np.linalg.norm(vectors[i, j])
        row = _row(size, {j: unit, i: -unit})
        rows[f"{a}-{b} stretch"].append(_STRETCH**0.5 * row)
    around: dict[int, list[int]] = defaultdict(list)
    for i, j in bonds:
        around[i].append(j)
        around[j].append(i)
    for center, ends in around.items():
        for i, j in itertools.combinations(ends, 2):
            a, b = sorted((symbols[i], symbols[j]), key=lambda s: (s == "H", s))
            for row in _bend(size, center, (i, j), vectors):
                rows[f"{b}-{symbols[center]}-{a} bend"].append(_BEND**0.5 * row)
    for i, j in bonds:
        a, b = sorted((symbols[i], symbols[j]), key=lambda s: (s == "H", s))
        for row in _torsions(size, (i, j), around, vectors):
            rows[f"{a}-{b} torsion"].append(_TORSION**0.5 * row)
    return {name: np.array(found) for name, found in rows.items()}


def bonded_pairs(atoms: Atoms) -> list[tuple[int, int]]:
    """Pairs of atoms i < j nearer than 1.25 times the sum of their covalent radii."""
    return _bonds(atoms)[1]


def _bonds(atoms: Atoms) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Vectors x_j - x_i [N, N, 3] by the nearest image, and pairs i < j at bonding distance."""
    vectors, lengths = get_distances(atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    radii = covalent_radii[atoms.numbers]
    near = lengths < _BOND * (radii[:, None] + radii[None, :])
    return vectors, [(int(i), int(j)) for i, j in np.argwhere(np.triu(near, 1))]


def _row(size: int, parts: dict[int, np.ndarray]) -> np.ndarray:
    row = np.zeros((size // 3, 3))
    for atom, part in parts.items():
        row[atom] += part
    return row.ravel()


def _bend(size: int, center: int, ends: tuple[int, int], vectors: np.ndarray) -> list[np.ndarray]:
    """Derivatives of the angle at `center`; of a straight one both perpendicular bends."""
    (i, j), arms = ends, [vectors[center, k] for k in ends]
    lengths = [np.linalg.norm(arm) for arm in arms]
    first, second = (arm / length for arm, length in zip(arms, lengths, strict=True))
    cosine = float(first @ second)
    sine = np.sqrt(max(0.0, 1.0 - cosine * cosine))
    if sine > _STRAIGHT:
        at_i = (cosine * first - second) / (lengths[0] * sine)
        at_j = (cosine * second - first) / (lengths[1] * sine)
        return [_row(size, {i: at_i, j: at_j, center: -at_i - at_j})]
    basis = np.linalg.svd(first[None])[2][1:]
    return [
        _row(size, {i: v / lengths[0], j: v / lengths[1], center: -v / lengths[0] - v / lengths[1]})
        for v in basis
    ]


def _torsions(
    size: int, bond: tuple[int, int], around: dict[int, list[int]], vectors: np.ndarray
) -> list[np.ndarray]:
    """Derivatives of all torsions about a bond, divided by the root of their number."""
    i, j = bond
    axis = vectors[i, j]
    length = np.linalg.norm(axis)
    unit = axis / length
    rows = []
    for k, m in itertools.product(around[i], around[j]):
        if k in (j, m) or m == i:
            continue
        arms = vectors[i, k], vectors[j, m]
        normals = [np.cross(arm, unit) for arm in arms]
        squares = [float(normal @ normal) for normal in normals]
        if min(squares) < _STRAIGHT**2:
            continue
        at_k, at_m = normals[0] / squares[0], -normals[1] / squares[1]
        along = [float(arm @ unit) / length for arm in arms]
        # the ends move the planes; the axis' own atoms move so that nothing turns or shifts
        at_i = -at_k * (1.0 - along[0]) - at_m * (-along[1])
        at_j = -at_m * (1.0 + along[1]) - at_k * along[0]
        rows.append(_row(size, {k: at_k, m: at_m, i: at_i, j: at_j}))
    return [row / np.sqrt(len(rows)) for row in rows]
