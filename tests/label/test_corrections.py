"""A cheap method and a network that was trained on what it lacks of a dear one."""

import ase.io
import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from pydantic import ValidationError

from dreibein.label import LabelConfig, generate_labels, make_method
from dreibein.label.differences import high_level
from dreibein.models import TensorNetConfig, build_potential, save_model
from dreibein.neighbors import attach_neighbors
from dreibein.systems import from_ase

CHEAP, DEAR = "GFN2-xTB", "GFN1-xTB"
LEVEL = f"{DEAR} minus {CHEAP}"


@pytest.fixture(scope="module", autouse=True)
def programs():
    pytest.importorskip("tblite", reason="tblite is not installed (extra label)")
    pytest.importorskip("rdkit", reason="rdkit is not installed (extra label)")


def network(seed=0, level=LEVEL, elements=(1, 8)):
    torch.manual_seed(seed)
    config = TensorNetConfig(channels=8, layers=1, cutoff=4.0, num_radial=8)
    potential = build_potential(config, elements=elements, scale=0.3, dtype=torch.float64)
    potential.card["level_of_theory"] = level
    return potential.eval()


@pytest.fixture(scope="module")
def correction(tmp_path_factory):
    return str(save_model(network(), tmp_path_factory.mktemp("model") / "delta.safetensors"))


def water(seed=1, count=1):
    frames = []
    for k in range(count):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=seed + k)
        atoms.info |= {"charge": 0, "spin": 1}
        frames.append(atoms)
    return frames


def labels(atoms, *level):
    return make_method(*level).calculation(atoms).labels(atoms.positions)


def test_a_corrected_method_adds_what_the_network_gives(correction):
    (atoms,) = water()
    cheap, both = labels(atoms, CHEAP), labels(atoms, CHEAP, correction)
    structure = attach_neighbors(from_ase(atoms), 4.0)
    added = network()(structure, compute=("energy", "forces"))
    assert both.energy - cheap.energy == pytest.approx(float(added["energy"]), abs=1e-9)
    np.testing.assert_allclose(both.forces - cheap.forces, added["forces"].numpy(), atol=1e-9)
    assert abs(float(added["energy"])) > 1e-3  # it does something
    assert both.charges is None
    assert both.dipole is None
    assert "corrected to GFN1-xTB by " in make_method(CHEAP, correction).name


def test_forces_of_a_corrected_method_are_minus_the_gradient(correction):
    (atoms,) = water()
    calculation = make_method(CHEAP, correction).calculation(atoms)
    step, ends = 1e-3, []
    for sign in (1, -1):
        positions = atoms.positions.copy()
        positions[1, 2] += sign * step
        ends.append(calculation.labels(positions).energy)
    slope = (ends[0] - ends[1]) / (2 * step)
    assert calculation.labels(atoms.positions).forces[1, 2] == pytest.approx(-slope, abs=1e-4)


def test_an_ensemble_corrects_by_its_mean(tmp_path):
    (atoms,) = water()
    for k in range(2):
        (tmp_path / f"member_{k + 1}").mkdir()
        save_model(network(seed=k), tmp_path / f"member_{k + 1}" / "model.safetensors")
    members = [str(tmp_path / f"member_{k + 1}") for k in range(2)]
    single = [labels(atoms, CHEAP, member).forces for member in members]
    mean = labels(atoms, CHEAP, str(tmp_path)).forces
    np.testing.assert_allclose(mean, np.mean(single, axis=0), atol=1e-9)
    assert np.abs(single[0] - single[1]).max() > 1e-3


def test_a_file_that_was_written_again_is_read_again(tmp_path):
    (atoms,) = water()
    path = str(save_model(network(seed=0), tmp_path / "model.safetensors"))
    before, name = labels(atoms, CHEAP, path).energy, make_method(CHEAP, path).name
    save_model(network(seed=1), path)
    assert abs(labels(atoms, CHEAP, path).energy - before) > 1e-3
    assert make_method(CHEAP, path).name != name


@pytest.mark.parametrize("level", [None, "PBE", "PBE minus GFN1-xTB"])
def test_a_network_of_other_labels_is_refused(tmp_path, level):
    path = str(save_model(network(level=level), tmp_path / "model.safetensors"))
    with pytest.raises(ValueError, match="was not trained on differences to GFN2-xTB: label"):
        make_method(CHEAP, path)


def test_an_element_that_the_correction_has_not_seen_is_refused(correction, tmp_path):
    config = LabelConfig(structure="CCO", correction=correction, frames=2)
    with pytest.raises(ValueError, match=r"CCO: .*\bC\b"):
        generate_labels(config, tmp_path / "out.extxyz")


def test_a_difference_is_what_a_correction_needs(tmp_path):
    """Labels of GFN1-xTB less GFN2-xTB, from a file in kcal/mol."""
    frames, path = water(count=3), tmp_path / "dear.extxyz"
    kcal = units.kcal / units.mol
    for atoms in frames:
        found = labels(atoms, DEAR)
        atoms.calc = SinglePointCalculator(
            atoms, energy=found.energy / kcal, forces=found.forces / kcal
        )
        atoms.info |= {"energy_unit": "kcal/mol", "level_of_theory": DEAR}
    ase.io.write(path, frames)
    config = LabelConfig(structure=str(path), single_points=True, difference=True)
    summary = generate_labels(config, tmp_path / "difference.extxyz", workers=1)
    assert summary.method == LEVEL
    for atoms, found in zip(frames, ase.io.read(summary.output, ":"), strict=True):
        dear, cheap = labels(atoms, DEAR), labels(atoms, CHEAP)
        assert found.info["level_of_theory"] == LEVEL
        assert set(found.calc.results) == {"energy", "forces"}
        assert found.get_potential_energy() == pytest.approx(dear.energy - cheap.energy, abs=1e-6)
        np.testing.assert_allclose(found.get_forces(), dear.forces - cheap.forces, atol=1e-6)
    # other labels in the file are other settings
    frames[0].calc.results["energy"] += 1.0
    ase.io.write(path, frames)
    with pytest.raises(ValueError, match="was made with labels_sha256"):
        generate_labels(config, summary.output, workers=1)


def test_a_difference_needs_energy_and_forces(tmp_path):
    frames, path = water(count=2), tmp_path / "dear.extxyz"
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((3, 3)))
    del frames[1].calc.results["forces"]
    ase.io.write(path, frames)
    config = LabelConfig(structure=str(path), single_points=True, difference=True)
    with pytest.raises(ValueError, match="lacks forces: a difference needs both labels"):
        generate_labels(config, tmp_path / "out.extxyz")


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"difference": True}, "ask for single_points as well"),
        ({"difference": True, "single_points": True, "hessian": True}, "leave out hessian"),
    ],
)
def test_choices_that_do_not_fit(choices, sentence):
    with pytest.raises(ValidationError, match=sentence):
        LabelConfig(structure="dear.extxyz", **choices)


def test_dynamics_of_a_corrected_method(correction, tmp_path):
    """It drives its own dynamics; with one process or two the file is the same."""
    choices = {"frames": 6, "trajectories": 2, "interval_fs": 4, "equilibration_fs": 8}
    config = LabelConfig(structure="O", correction=correction, **choices)
    one = generate_labels(config, tmp_path / "one.extxyz", workers=1)
    two = generate_labels(config, tmp_path / "two.extxyz", workers=2)
    assert one.output.read_bytes() == two.output.read_bytes()
    assert one.sampler == one.method == make_method(CHEAP, correction).name
    for atoms in ase.io.read(one.output, ":"):
        again = labels(atoms, CHEAP, correction)
        assert atoms.get_potential_energy() == pytest.approx(again.energy, abs=1e-7)
        np.testing.assert_allclose(atoms.get_forces(), again.forces, atol=1e-7)


def test_dynamics_may_be_another_methods(correction, tmp_path):
    config = LabelConfig(
        structure="O", correction=correction, sampler=CHEAP, frames=1, equilibration_fs=2
    )
    summary = generate_labels(config, tmp_path / "out.extxyz", workers=1)
    assert summary.sampler == CHEAP


@pytest.mark.parametrize(
    ("difference", "high"),
    [("A minus B", "A"), ("A minus C minus B", "A minus C"), ("A minus C", None), (None, None)],
)
def test_the_dear_method_of_a_difference(difference, high):
    assert high_level(difference, "B") == high
