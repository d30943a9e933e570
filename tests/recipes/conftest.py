"""A data set of Morse clusters in a file."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.morse import MorsePotential
from ase.io import write


def write_clusters(path: Path, size: int, seed: int = 0, box: float | None = None) -> Path:
    """Extended XYZ with energies, forces and, in a periodic box, stress."""
    generator = np.random.default_rng(seed)
    frames = []
    for _ in range(size):
        n = int(generator.integers(3, 6))
        pos = np.arange(n)[:, None] * [1.1, 0.0, 0.0] + generator.normal(0, 0.1, (n, 3))
        atoms = Atoms(numbers=generator.choice([1, 8], n), positions=pos)
        if box is not None:
            atoms.set_cell([box] * 3)
            atoms.pbc = True
        atoms.calc = MorsePotential(epsilon=0.5, r0=1.1, rho0=4.0, rcut1=2.0, rcut2=3.0)
        atoms.get_forces()
        if box is not None:
            atoms.get_stress()
        frames.append(atoms)
    write(path, frames)
    return path


@pytest.fixture
def clusters(tmp_path):
    """Makes a file of clusters."""

    def make(size: int = 40, seed: int = 0, box: float | None = None) -> Path:
        return write_clusters(tmp_path / f"clusters-{seed}.xyz", size, seed, box)

    return make


@pytest.fixture(scope="session")
def cluster_writer():
    """`write_clusters`, for fixtures that outlive a test."""
    return write_clusters
