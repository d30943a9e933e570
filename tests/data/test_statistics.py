"""Reference energies, force rms and energy spread."""

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from dreibein.data import (
    DataConfig,
    energy_spread,
    fit_reference_energies,
    fit_references,
    forces_rms,
    isolated_atoms,
)

from .conftest import waters

TRUE = {1: -13.6, 6: -1030.0, 8: -2040.0}


def with_energy(atoms, energy):
    atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return atoms


def molecules(names=("H2O", "CH4", "CO2", "H2", "CO", "CH3OH")):
    found = [molecule(name) for name in names]
    return [with_energy(a, sum(TRUE[z] for z in a.numbers)) for a in found]


def test_exact_energies_are_found(write, load):
    data = load(write(molecules()))
    assert fit_reference_energies(data) == pytest.approx(TRUE, abs=1e-8)
    fit = fit_references(data)
    assert (fit.rank, fit.deficient, fit.frames) == (3, False, 6)
    assert fit.residual_rms < 1e-9
    assert energy_spread(data, TRUE) == pytest.approx(0.0, abs=1e-9)


def test_it_is_the_least_squares_solution(write, load):
    random = np.random.default_rng(0)
    frames = molecules() + molecules() + molecules()[:2]
    for atoms in frames:
        atoms.calc.results["energy"] += random.normal()
    data = load(write(frames))
    counts = np.array([[(a.numbers == z).sum() for z in TRUE] for a in frames], dtype=float)
    energies = np.array([a.get_potential_energy() for a in frames])
    expected = np.linalg.solve(counts.T @ counts, counts.T @ energies)
    assert list(fit_reference_energies(data).values()) == pytest.approx(expected, abs=1e-7)


def test_smallest_norm_is_said(write, load, caplog):
    data = load(write(waters(5)))
    with caplog.at_level(logging.INFO):
        energies = fit_reference_energies(data)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "the compositions have rank 1 for 2 elements" in record.message
    assert energies[1] == pytest.approx(2 * energies[8])  # proportional to the composition


def test_isolated_atoms(write, load, shared):
    found = isolated_atoms(str(shared / "data" / "acac" / "isolated_atoms.xyz"))
    assert found == pytest.approx({1: -13.56842218, 6: -1026.85389961, 8: -2037.79686941})
    frames = [*waters(2), with_energy(Atoms("O"), -3.0), with_energy(Atoms("H"), -1.0)]
    assert isolated_atoms(write(frames)) == {1: -1.0, 8: -3.0}


def test_isolated_atoms_by_the_keys_of_the_other_data(write):
    atoms = with_energy(Atoms("O"), -1.0)
    atoms.info["mine"] = -2.0
    config = DataConfig(
        sources="frames.extxyz",
        keys={"energy": "mine", "forces": "REF_forces"},
        units={"energy": "Ha", "forces": "Ha/Bohr"},
        labels=["energy", "forces"],
    )
    assert isolated_atoms(write([atoms]), config)[8] == pytest.approx(-2.0 * 27.211386)


def test_isolated_atoms_refused(write):
    with pytest.raises(ValueError, match=r"data.extxyz: no frame is a single atom with an energy"):
        isolated_atoms(write(waters(2)))
    frames = [with_energy(Atoms("O"), -3.0), with_energy(Atoms("O"), -4.0)]
    with pytest.raises(ValueError, match=r"two energies for the isolated atom O, -3.0 and -4.0 eV"):
        isolated_atoms(write(frames))


def test_missing_references_and_energies(write, load):
    data = load(write(waters(2)))
    with pytest.raises(ValueError, match="no reference energy for O: give one for every element"):
        energy_spread(data, {1: 0.0})
    bare = load(write([Atoms("H")]))
    with pytest.raises(ValueError, match="no frame has an energy, so reference energies cannot"):
        fit_references(bare)


def test_forces_rms_skips_masked_atoms(write, load):
    frames = waters(4)
    forces = np.concatenate([a.get_forces() for a in frames])[:-1]
    frames[3].calc.results["forces"][2] = np.nan
    data = load(write(frames), allow_nan=True)
    assert forces_rms(data) == pytest.approx(np.sqrt((forces**2).mean()), rel=1e-6)
    assert forces_rms(load(write([Atoms("H")]))) == 0.0
