"""The structures that are timed: small molecules, a peptide, boxes of water; all deterministic."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import read
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

MOLECULES = Path(__file__).with_name("molecules.xyz")
GRAM_PER_CM3 = 0.602214076  # amu / Å^3
WATER_MASS = 18.015  # amu
CLOSEST = 1.5  # Å between atoms of different molecules
JIGGLE = 0.01  # Å from call to call


@dataclass(frozen=True)
class Case:
    """What one call evaluates.

    Attributes:
        numbers: Atomic numbers of one structure [n].
        positions: Å [n, 3], exact in float32, so that both codes see the same numbers.
        cell: Edge of a cubic periodic box in Å, or 0.
        copies: Structures per call.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: float
    copies: int = 1

    @property
    def num_atoms(self) -> int:
        """Atoms per call."""
        return len(self.numbers) * self.copies

    def frames(self, count: int, seed: int, width: float = JIGGLE) -> list[np.ndarray]:
        """Positions [copies, n, 3] of several calls, each atom moved at random about its place."""
        rng = np.random.default_rng(seed)
        shape = (self.copies, *self.positions.shape)
        moved = [self.positions + width * rng.standard_normal(shape) for _ in range(count)]
        return [x.astype(np.float32).astype(np.float64) for x in moved]


def from_atoms(atoms: Atoms, copies: int = 1) -> Case:
    """Case of a molecule about the origin."""
    return Case(atoms.numbers, atoms.positions - atoms.positions.mean(axis=0), 0.0, copies)


def stored(index: int, copies: int = 1) -> Case:
    """Case of a molecule of `molecules.xyz`."""
    return from_atoms(read(MOLECULES, index=index), copies)


def water(per_edge: int, seed: int = 0) -> Case:
    """Cubic box of per_edge^3 molecules at 1 g/cm^3, liquid-like.

    Oxygens stand near a cubic lattice, moved by 0.15 Å, molecules are turned at random; those
    with atoms nearer than 1.5 Å to another molecule are turned again until none is.
    """
    rng = np.random.default_rng(seed)
    count = per_edge**3
    edge = (count * WATER_MASS / GRAM_PER_CM3) ** (1 / 3)
    grid = np.stack(np.meshgrid(*[np.arange(per_edge)] * 3, indexing="ij"), -1).reshape(-1, 3)
    sites = (grid + 0.5) * (edge / per_edge) + 0.15 * rng.standard_normal((count, 3))
    single = molecule("H2O")
    shape = single.positions - single.positions[0]

    def turned(number: int) -> np.ndarray:
        quaternions = rng.standard_normal((number, 4))
        return np.einsum("ak,mkl->mal", shape, Rotation.from_quat(quaternions).as_matrix())

    pos = sites[:, None] + turned(count)
    for _ in range(1000):
        tree = cKDTree(pos.reshape(-1, 3) % edge, boxsize=edge)
        pairs = tree.query_pairs(CLOSEST, output_type="ndarray") // 3
        crowded = np.unique(pairs[pairs[:, 0] != pairs[:, 1], 0])
        if not len(crowded):
            break
        pos[crowded] = sites[crowded][:, None] + turned(len(crowded))
    else:
        raise RuntimeError(f"no box of {count} waters without overlap was found")
    return Case(np.tile(single.numbers, count), pos.reshape(-1, 3), edge)


CASES = {
    "ethanol": lambda: from_atoms(molecule("CH3CH2OH")),
    "aspirin": partial(stored, 0),
    "aspirin-64": partial(stored, 0, 64),
    "peptide": partial(stored, 1),
    "water-192": partial(water, 4),
    "water-1536": partial(water, 8),
    "water-10125": partial(water, 15),
    "water-98304": partial(water, 32),
    # training batches
    "aspirin-8": partial(stored, 0, 8),
}
DEFAULT_CASES = tuple(CASES)[:7]
TRAINING_CASES = ("aspirin-8", "aspirin-64")


@dataclass(frozen=True)
class Size:
    """Hyperparameters: channels, interaction layers, cutoff in Å."""

    channels: int
    layers: int
    cutoff: float
    num_radial: int = 32


SIZES = {"128x1": Size(128, 1, 5.0), "256x2": Size(256, 2, 4.5)}
