"""Vibrations of potentials whose normal modes are known, and the page that shows them."""

import csv
import json

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms, units
from torch import Tensor, nn

from dreibein.nn.potential import Potential
from dreibein.simulate.vibrations import (
    Conditions,
    compute_hessian,
    difference_hessian,
    find_vibrations,
    infrared_intensities,
    normal_modes,
    symmetry_number,
    thermochemistry,
    write_vibrations,
)
from dreibein.simulate.vibrations.character import internal_coordinates
from dreibein.simulate.vibrations.intensities import raman_activities
from dreibein.systems import Graph

STIFFNESS, LENGTH = 7.0, 1.2  # eV/Å^2, Å
TO_CM1 = units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm


class Springs(nn.Module):
    """E = 1/2 sum over pairs (i < j) of k (r - r0)^2, all atoms within 4 Å bound."""

    def __init__(self, stiffness: float = STIFFNESS, length: float = LENGTH) -> None:
        super().__init__()
        self.cutoff, self.elements = 4.0, (1, 6, 7, 8)
        self.stiffness = nn.Parameter(torch.tensor(stiffness))
        self.length = length

    def forward(self, graph: Graph) -> Tensor:
        away = graph.vectors.norm(dim=-1) - self.length
        pair = 0.25 * self.stiffness * away.square()
        return pair.new_zeros(graph.num_atoms).index_add(0, graph.receiver, pair)


@pytest.fixture
def springs() -> Potential:
    return Potential(Springs().double())


def triangle() -> Atoms:
    """Three equal atoms at the springs' length."""
    return Atoms("N3", LENGTH * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.75**0.5, 0]]))


def test_two_atoms_on_a_spring(springs):
    atoms = Atoms("CO", [[0, 0, 0], LENGTH * np.array([0.6, 0.0, 0.8])])
    found = find_vibrations(atoms, springs)
    masses = atoms.get_masses()
    reduced = masses.prod() / masses.sum()
    assert found.modes.rigid == 5
    assert found.modes.wavenumbers == pytest.approx([TO_CM1 * np.sqrt(STIFFNESS / reduced)])
    # dx/dQ has unit norm in mass-weighted coordinates: its own reduced mass, its own constant
    curvature = (found.modes.wavenumbers / TO_CM1) ** 2
    assert found.modes.force_constants == pytest.approx(curvature * found.modes.reduced_masses)
    assert found.names == ["C-O stretch"]
    half = 0.5 * found.modes.wavenumbers[0] * units.invcm
    assert found.thermochemistry.zero_point_energy == pytest.approx(half)


def test_triangle_of_equal_atoms(springs):
    """X3: omega^2 = 3 k / m (breathing) and, twice, 3 k / 2 m."""
    modes = find_vibrations(triangle(), springs).modes
    square = STIFFNESS / triangle().get_masses()[0]
    expected = TO_CM1 * np.sqrt(square * np.array([1.5, 1.5, 3.0]))
    np.testing.assert_allclose(modes.wavenumbers, expected, rtol=1e-9)
    assert np.abs(modes.rigid_wavenumbers).max() < 1e-3
    weighted = modes.directions * np.sqrt(triangle().get_masses())[:, None]
    gram = np.einsum("mia,nia->mn", weighted, weighted)
    np.testing.assert_allclose(gram, np.eye(3), atol=1e-12)


def test_rotation_and_shift_change_nothing(springs):
    atoms = triangle()
    before = find_vibrations(atoms, springs).modes
    atoms.rotate(37, (1, 2, 3))
    atoms.translate((5, -3, 100))
    after = find_vibrations(atoms, springs).modes
    np.testing.assert_allclose(after.wavenumbers, before.wavenumbers, rtol=1e-9)


def test_isotopes_follow_their_masses(springs):
    light, heavy = triangle(), triangle()
    heavy.set_masses(4.0 * light.get_masses())
    ratio = [find_vibrations(a, springs).modes.wavenumbers for a in (light, heavy)]
    np.testing.assert_allclose(ratio[0], 2.0 * ratio[1], rtol=1e-9)


def test_differences_equal_derivatives(springs):
    atoms = triangle()
    exact = compute_hessian(springs, atoms, method="analytic")
    near = compute_hessian(springs, atoms, method="differences")
    assert "differences" in near.method
    assert "autograd" in exact.method
    np.testing.assert_allclose(near.values, exact.values, atol=1e-4 * STIFFNESS)
    assert near.asymmetry < 1e-3


def test_harmonic_forces_give_their_matrix_back():
    matrix = np.random.default_rng(0).normal(size=(12, 12))
    matrix = matrix + matrix.T
    place = np.random.default_rng(1).normal(size=(4, 3))

    def forces_at(positions: np.ndarray) -> np.ndarray:
        moved = (positions - place).reshape(len(positions), -1)
        return -(moved @ matrix).reshape(positions.shape)

    found = difference_hessian(forces_at, place, per_call=5)
    np.testing.assert_allclose(found.values, matrix, atol=1e-9)


def test_periodic_structures_keep_their_rotations(potential):
    atoms = ase.build.bulk("Cu", "fcc", a=3.55, cubic=True)
    found = find_vibrations(atoms, potential)
    assert found.modes.rigid == 3
    assert len(found.modes.wavenumbers) == 9
    assert found.thermochemistry.treatment == "harmonic"


def test_a_saddle_has_an_imaginary_mode(springs):
    line = Atoms("N3", [[-LENGTH, 0, 0], [0, 0, 0], [LENGTH, 0, 0]])
    network = Springs()
    network.cutoff = 2.0 * LENGTH - 0.1  # ends do not see each other: nothing holds the angle
    potential = Potential(network.double())
    modes = find_vibrations(line, potential).modes
    assert modes.rigid == 5
    assert len(modes.wavenumbers) == 4
    np.testing.assert_allclose(modes.wavenumbers[:2], 0.0, atol=1e-3)
    hessian = compute_hessian(potential, line).values - 0.5 * np.kron(np.eye(3), np.diag([0, 1, 0]))
    assert normal_modes(hessian, line).num_imaginary >= 1


def test_forces_that_are_not_small_are_refused(springs):
    atoms = triangle()
    atoms.positions *= 1.05
    with pytest.raises(ValueError, match=r"the longest force is .* relax it first"):
        find_vibrations(atoms, springs)
    relaxed = find_vibrations(atoms, springs, relax=True)
    assert relaxed.max_force < 1e-3
    assert relaxed.modes.num_imaginary == 0


@pytest.mark.parametrize(
    ("name", "number"),
    [("H2O", 2), ("NH3", 3), ("CH4", 12), ("CO2", 2), ("CO", 1), ("C6H6", 12), ("CH3CH2OH", 1)],
)
def test_symmetry_numbers(name, number):
    atoms = ase.build.molecule(name)
    atoms.rotate(23, (1, 2, 3))
    assert symmetry_number(atoms) == number


def test_thermochemistry_of_an_ideal_gas(springs):
    """Sackur-Tetrode entropy of argon at 298.15 K and 1 bar: 154.846 J/mol/K (NIST)."""
    atom = Atoms("Ar", [[0, 0, 0]])
    modes = normal_modes(np.zeros((3, 3)), atom)
    assert modes.rigid == 3
    found = thermochemistry(modes, atom, Conditions(pressure_bar=1.0))
    entropy = found.rows[0]["entropy_ev_per_k"] * units._e * units._Nav
    assert entropy == pytest.approx(154.846, abs=0.01)
    assert found.rows[0]["enthalpy_ev"] == pytest.approx(2.5 * units.kB * 298.15)


def test_infrared_and_raman_formulas():
    """A charge +1 e on a spring: 974.88 km/mol / m; an isotropic change depolarizes nothing."""
    charges = np.eye(3)[None]
    direction = np.array([[[0.0, 0.6, 0.8]]]) / np.sqrt(2.0)
    assert infrared_intensities(charges, direction) == pytest.approx([974.88 / 2.0], rel=1e-4)
    activity, ratio = raman_activities(np.array([np.eye(3), np.diag([1.0, -1.0, 0.0])]))
    volume = 14.399645  # Å^3 V / (e Å^2)
    assert activity == pytest.approx([45.0 * volume**2, 21.0 * volume**2], rel=1e-6)
    assert ratio == pytest.approx([0.0, 0.75])


def test_internal_coordinates_do_not_see_rigid_motions():
    atoms = ase.build.molecule("CH3CONH2")
    atoms.rotate(31, (3, 2, 1))
    rows = np.concatenate(list(internal_coordinates(atoms).values()))
    shifts = np.tile(np.eye(3), (len(atoms), 1))
    turns = np.cross(np.eye(3)[None], atoms.positions[:, None]).transpose(0, 2, 1).reshape(-1, 3)
    assert len(rows) == 30
    np.testing.assert_allclose(rows @ shifts, 0.0, atol=1e-12)
    np.testing.assert_allclose(rows @ turns, 0.0, atol=1e-12)


@pytest.fixture
def written(springs, tmp_path):
    found = find_vibrations(triangle(), springs)
    return found, write_vibrations(found, tmp_path / "vib", "Vibrations of <N3>")


def test_files(written):
    found, page = written
    record = json.loads((page.parent / "vibrations.json").read_text())
    with (page.parent / "vibrations.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(record["modes"]) == len(rows) == 3
    assert float(rows[2]["wavenumber_cm1"]) == found.modes.wavenumbers[2]
    assert "none: the model gives no dipole" in record["intensities"]
    text = page.read_text()
    assert "<N3>" not in text
    assert "http" not in text.replace("http-equiv", "")
