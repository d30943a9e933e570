"""From a file with labels to a model of targets alone, its errors, its report, its calculator."""

import ase.io
import numpy as np
import pytest
from ase import Atoms

from dreibein.evaluate import Evaluation, model_facts
from dreibein.evaluate.predictions import Predictions
from dreibein.evaluate.report import write_report
from dreibein.recipes import load_config, train_run
from dreibein.simulate import Calculator
from dreibein.simulate.predictions import predict_structures

SMALL = ["model.channels=4", "model.layers=0", "model.cutoff=3", "model.num_radial=4"]
QUICK = ["training.epochs=2", "training.batch_size=8", "data.validation=4", "data.test=4"]


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Water-like molecules with a shielding of each atom and a tensor of each structure."""
    draw = np.random.default_rng(0)
    frames = []
    for _ in range(28):
        atoms = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        atoms.positions += draw.normal(0, 0.05, (3, 3))
        r = atoms.positions - atoms.get_center_of_mass()
        shielding = np.array([320.0, 30, 30]) + np.linalg.norm(r, axis=1)
        atoms.arrays["nmr_shielding"] = shielding
        atoms.info["inertia"] = np.einsum("na,nb->ab", r, r)
        frames.append(atoms)
    path = tmp_path_factory.mktemp("labels") / "water.extxyz"
    ase.io.write(path, frames)
    return path


@pytest.fixture(scope="module")
def run(labels, tmp_path_factory):
    targets = "{shielding: , inertia: {rank: 2, scope: structure, symmetric: true, unit: Å^2}}"
    config = load_config(
        overrides=[f"data.sources={labels}", f"model.targets={targets}", *SMALL, *QUICK]
    )
    return train_run(config, folder=tmp_path_factory.mktemp("runs") / "run")


def test_keys_units_means_and_scales_come_from_the_data(run):
    assert not run.config.model.energy
    assert run.config.data.labels == ["shielding", "inertia"]
    heads = run.potential.targets
    assert float(heads["shielding"].mean[8]) == pytest.approx(320.0, abs=1.0)
    assert float(heads["shielding"].mean[1]) == pytest.approx(31.0, abs=1.0)
    assert float(heads["shielding"].spread[1]) < 0.1
    terms = run.config.training.losses.terms()
    assert set(terms) == {"shielding", "inertia"}
    assert 0.0 < terms["shielding"].scale < 0.1
    assert load_config(run.folder / "config.yaml") == run.config


def test_errors_predictions_and_report_know_the_targets(run):
    evaluation = Evaluation.load(run.folder / "evaluation.json")
    found = {target.name: target for target in evaluation.targets}
    assert found["shielding"].unit == "ppm"
    assert set(found["shielding"].elements) == {"H", "O"}
    assert found["inertia"].unit == "Å^2"
    assert found["inertia"].values == 36
    assert evaluation.metrics["inertia_rmse_a2"] == pytest.approx(found["inertia"].rmse)
    predictions = Predictions.load(run.folder / "predictions.npz")
    reference, prediction = predictions.targets["inertia"]
    assert np.sqrt(np.mean((prediction - reference) ** 2)) == pytest.approx(found["inertia"].rmse)
    page = write_report(run.folder).read_text(encoding="utf-8")
    assert "parity-shielding" in page
    assert "parity-inertia" in page


def test_facts_calculator_and_predictions_give_them(run, labels, tmp_path):
    facts = model_facts(run.folder)
    assert not facts["energy"]
    assert "rank 2, symmetric" in facts["targets"]["inertia"]
    atoms = ase.io.read(labels, index=0)
    calculator = Calculator(run.potential)
    assert calculator.implemented_properties == ["shielding", "inertia"]
    assert calculator.get_property("inertia", atoms).shape == (3, 3)
    predict_structures([labels], run.potential, tmp_path / "out.extxyz")
    written = ase.io.read(tmp_path / "out.extxyz", index=0)
    expected = calculator.get_property("shielding", atoms)
    np.testing.assert_allclose(written.arrays["shielding"], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.targets=[dipole]"], "label 'dipole' is in none of the 28 frames"),
        (["model.targets={inertia: {rank: 1, scope: structure}}"], "rank of its label"),
    ],
)
def test_what_cannot_be_is_refused(labels, tmp_path, overrides, message):
    config = load_config(overrides=[f"data.sources={labels}", *overrides, *SMALL, *QUICK])
    with pytest.raises(ValueError, match=message):
        train_run(config, folder=tmp_path / "run")
