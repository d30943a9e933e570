"""Pairs of like frames, and the work done between them: checks labels against each other.

Between two frames a and b of the same atoms, with b turned so that only a stretch ε is left,
the trapezoid rule gives the difference in energy from forces and stress alone:

    E_b - E_a = -1/2 (F_a + F_b) · Δx + 1/2 (V_a σ_a + V_b σ_b) : ε

exactly for a quadratic energy however far apart, else to third order.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dreibein.data.table import Array, Table

# Frames of one kind that are compared with each other, at most.
MAX_FRAMES = 300
# Numbers in the largest array of differences, at most.
_MAX_NUMBERS = 2e7
_NEIGHBORS = 3
# Å per unit of strain in the measure of how far two frames are apart.
_STRAIN_LENGTH_A = 10.0


@dataclass(frozen=True)
class Pairs:
    """Pairs of frames of one kind.

    Attributes:
        first: [P] frame a (row of the table).
        second: [P] frame b.
        turn: [P, 3, 3] takes row vectors of b to the orientation of a.
        displacement: [P, N, 3] Δx in Å, the stretch taken out.
        strain: [P, 3, 3] logarithmic strain ε; zero for molecules.
    """

    first: Array
    second: Array
    turn: Array
    displacement: Array
    strain: Array

    @property
    def rms(self) -> Array:
        """Root mean square displacement of an atom [P] in Å."""
        return np.sqrt((self.displacement**2).sum(-1).mean(-1))


def like_frames(table: Table, seed: int = 0) -> Iterator[Array]:
    """Groups of frames with the same atoms in the same order, charge, spin and periodicity."""
    groups: dict[bytes, list[int]] = {}
    for f in range(len(table)):
        atoms = slice(table.offsets[f], table.offsets[f + 1])
        state = (float(table.charge[f]), int(table.spin[f]), table.pbc[f].tobytes())
        key = table.z[atoms].tobytes() + repr(state).encode()
        groups.setdefault(key, []).append(f)
    random = np.random.default_rng(seed)
    for members in groups.values():
        size = int(table.sizes[members[0]])
        limit = max(2, min(MAX_FRAMES, int(np.sqrt(_MAX_NUMBERS / (3 * size)))))
        if len(members) > limit:
            members = sorted(random.choice(members, limit, replace=False).tolist())
        if len(members) > 1 and size > 1:
            yield np.array(members)


def near_pairs(table: Table, members: Array, *, strained: bool = False) -> Pairs:
    """Each frame with its nearest like frames.

    Args:
        table: Frames.
        members: Rows with the same atoms (one group of `like_frames`).
        strained: Only pairs whose cells differ.
    """
    size = int(table.sizes[members[0]])
    pos = np.stack([table.pos[table.offsets[f] : table.offsets[f + 1]] for f in members])
    periodic = bool(table.pbc[members[0]].any())
    if periodic:
        distance = _periodic_distance(pos, table.cell[members], table.pbc[members[0]], strained)
    else:
        distance = _molecule_distance(pos)
    np.fill_diagonal(distance, np.inf)
    chosen: set[tuple[int, int]] = set()
    for a in range(len(members)):
        for b in np.argsort(distance[a], kind="stable")[:_NEIGHBORS]:
            if np.isfinite(distance[a, b]):
                chosen.add((min(a, int(b)), max(a, int(b))))
    if not chosen:
        empty = np.zeros((0, 3, 3))
        none = np.zeros(0, dtype=np.int64)
        return Pairs(none, none, empty, np.zeros((0, size, 3)), empty)
    a, b = np.array(sorted(chosen)).T
    if periodic:
        turn, displacement, strain = _periodic_step(
            pos[a], pos[b], table.cell[members[a]], table.cell[members[b]], table.pbc[members[0]]
        )
    else:
        turn, displacement = _molecule_step(pos[a], pos[b])
        strain = np.zeros((len(a), 3, 3))
    return Pairs(members[a], members[b], turn, displacement, strain)


def force_work(table: Table, pairs: Pairs) -> Array:
    """``-1/2 (F_a + F_b) · Δx`` [P] in eV."""
    forces = table.columns["forces"].values
    size = pairs.displacement.shape[1]
    atoms = np.arange(size)
    first = forces[table.offsets[pairs.first][:, None] + atoms]
    second = forces[table.offsets[pairs.second][:, None] + atoms] @ pairs.turn
    return -0.5 * ((first + second) * pairs.displacement).sum((1, 2))


def stress_work(table: Table, pairs: Pairs, stress: Array) -> Array:
    """``1/2 (V_a σ_a + V_b σ_b) : ε`` [P] in eV, for stresses [F, 3, 3] as given."""
    volume = np.abs(np.linalg.det(table.cell))
    a, b = pairs.first, pairs.second
    turned = pairs.turn.transpose(0, 2, 1) @ stress[b] @ pairs.turn
    mean = 0.5 * (volume[a, None, None] * stress[a] + volume[b, None, None] * turned)
    return (mean * pairs.strain).sum((1, 2))


def _molecule_distance(pos: Array) -> Array:
    """[M, M] rms distance after the best rotation."""
    centered = pos - pos.mean(1, keepdims=True)
    norms = (centered**2).sum((1, 2))
    covariance = np.einsum("anx,bny->abxy", centered, centered, optimize=True)
    singular = np.linalg.svd(covariance, compute_uv=False)
    singular[..., 2] *= np.sign(np.linalg.det(covariance))
    square = norms[:, None] + norms[None, :] - 2.0 * singular.sum(-1)
    return np.sqrt(np.maximum(square, 0.0) / pos.shape[1])


def _molecule_step(first: Array, second: Array) -> tuple[Array, Array]:
    """Rotation (row vectors of b to a) and displacement of each pair."""
    a = first - first.mean(1, keepdims=True)
    b = second - second.mean(1, keepdims=True)
    left, _, right = np.linalg.svd(np.einsum("pnx,pny->pxy", b, a))
    handed = np.sign(np.linalg.det(left @ right))
    left[:, :, 2] *= handed[:, None]
    turn = left @ right
    return turn, b @ turn - a


def _periodic_distance(pos: Array, cell: Array, pbc: Array, strained: bool) -> Array:
    """[M, M] from displacements in fractional coordinates and from strain."""
    inverse = np.linalg.inv(cell)
    fractional = pos @ inverse
    mean_cell = cell.mean(0)
    number = len(pos)
    distance = np.full((number, number), np.inf)
    for a in range(number):
        step = fractional - fractional[a]
        step -= np.round(step) * pbc
        step = step @ mean_cell
        step -= step.mean(1, keepdims=True)
        square = (step**2).sum(-1).mean(-1)
        strain = _strain(inverse[a] @ cell)[0]
        size = np.sqrt((strain**2).sum((1, 2)))
        distance[a] = np.sqrt(square + (_STRAIN_LENGTH_A * size) ** 2)
        if strained:
            distance[a, size < 1e-4] = np.inf
    return distance


def _periodic_step(
    first: Array, second: Array, cell_a: Array, cell_b: Array, pbc: Array
) -> tuple[Array, Array, Array]:
    """Rotation, displacement and strain of each pair."""
    deformation = np.linalg.inv(cell_a) @ cell_b
    strain, turn = _strain(deformation)
    step = second @ np.linalg.inv(cell_b) - first @ np.linalg.inv(cell_a)
    step -= np.round(step) * pbc
    displacement = step @ (0.5 * (cell_a + cell_b @ turn))
    displacement -= displacement.mean(1, keepdims=True)
    return turn, displacement, strain


def _strain(deformation: Array) -> tuple[Array, Array]:
    """``x_b = x_a D``, ``D = exp(ε) R``: ε [P, 3, 3], and R^T, which turns b back."""
    square, axes = np.linalg.eigh(deformation @ deformation.transpose(0, 2, 1))
    back = axes.transpose(0, 2, 1)
    strain = (axes * (0.5 * np.log(square))[:, None, :]) @ back
    rotation = (axes * (square**-0.5)[:, None, :]) @ back @ deformation
    return strain, rotation.transpose(0, 2, 1)
