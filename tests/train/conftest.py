"""A tiny data set with exact labels, and a tiny network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.morse import MorsePotential

from dreibein.systems import make_structure


class Clusters:
    """Morse clusters of three to five atoms, labels from ASE."""

    def __init__(self, size: int, seed: int = 0, labels: tuple[str, ...] = ("energy", "forces")):
        self.label_names = labels
        generator = np.random.default_rng(seed)
        self.structures = []
        for frame in range(size):
            n = int(generator.integers(3, 6))
            pos = np.arange(n)[:, None] * [1.1, 0.0, 0.0] + generator.normal(0, 0.15, (n, 3))
            atoms = Atoms(numbers=generator.choice([1, 8], n), positions=pos)
            atoms.calc = MorsePotential(epsilon=0.5, r0=1.1, rho0=4.0)
            values = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
            values = {name: values[name] for name in labels}
            self.structures.append(make_structure(atoms.numbers, pos, frame=frame, **values))

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, index: int):
        return self.structures[index]

    def describe(self, index: int) -> str:
        return f"clusters.xyz, frame {index}"


@pytest.fixture
def clusters():
    """Makes a data set of Morse clusters."""
    return Clusters


def masked(data: Clusters) -> Clusters:
    """The same with a third of the energies and a fifth of the forces missing."""
    generator = np.random.default_rng(7)
    for structure in data.structures:
        n = len(structure.z)
        structure.energy_mask = torch.from_numpy(generator.random(1) > 0.3)
        structure.forces_mask = torch.from_numpy(generator.random(n) > 0.2)
        structure.energy[~structure.energy_mask] = 0.0
        structure.forces[~structure.forces_mask] = 0.0
    return data


def tiny(seed: int = 0, dtype: torch.dtype = torch.float64):
    """A potential of 8 channels with weights from a seed."""
    from dreibein.models import TensorNetConfig, build_potential

    torch.manual_seed(seed)
    config = TensorNetConfig(channels=8, layers=1, num_radial=8, cutoff=3.0)
    return build_potential(config, elements=(1, 8), dtype=dtype)


@pytest.fixture
def tiny_potential():
    """Makes a potential of 8 channels with weights from a seed."""
    return tiny


@pytest.fixture
def with_gaps():
    """Takes away a part of the labels of a data set."""
    return masked


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder
