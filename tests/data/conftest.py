"""Small real data: EMT (energy, forces and stress from one function) and hand-written files."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from dreibein.data import DataConfig, load_data


def labelled(atoms: Atoms, labels=("energy", "forces"), **info) -> Atoms:
    """A copy with EMT labels as single-point results."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if "stress" in labels:
        results["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, **{name: results[name] for name in labels})
    atoms.info.update(info)
    return atoms


def waters(number: int = 12, seed: int = 0, amplitude: float = 0.03) -> list[Atoms]:
    """Shaken water molecules with labels."""
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(number):
        atoms = molecule("H2O")
        atoms.positions += random.normal(0, amplitude, atoms.positions.shape)
        frames.append(labelled(atoms))
    return frames


def strained_copper(number: int = 24, seed: int = 0) -> list[Atoms]:
    """Strained and sheared fcc cells with energy, forces and stress."""
    random = np.random.default_rng(seed)
    frames = []
    for k in range(number):
        atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
        strain = np.zeros((3, 3))
        i, j = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)][k % 6]
        strain[i, j] += random.uniform(-0.06, 0.06)
        strain[j, i] = strain[i, j]
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        frames.append(labelled(atoms, ("energy", "forces", "stress")))
    return frames


@pytest.fixture
def write(tmp_path: Path):
    """`write(frames, "name.extxyz") -> str`: frames to a file in a fresh folder."""

    def to_file(frames, name: str = "data.extxyz") -> str:
        path = tmp_path / name
        ase.io.write(path, frames)
        return str(path)

    return to_file


@pytest.fixture
def load():
    """`load(path, **options)`: the data set of one source."""
    return lambda source, strict=True, **options: load_data(
        DataConfig(sources=source, **options), strict=strict
    )
