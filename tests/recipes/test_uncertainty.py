"""Calibration: right where errors are those of the last layer, and everywhere it is shown."""

import json
import shutil
import sys

import ase.io
import numpy as np
import pytest
import torch

from dreibein.cli.main import main
from dreibein.data import DataConfig, load_data
from dreibein.evaluate import evaluate_potential
from dreibein.models import TensorNetConfig, build_potential, load_model, read_header
from dreibein.nn import Committee
from dreibein.nn.uncertainty import last_features
from dreibein.recipes import load_config, train_ensemble, train_run
from dreibein.recipes.uncertainty import batches, calibrate
from dreibein.simulate import Calculator, Evaluator, OutOfDomainError
from dreibein.systems import make_structure, to_ase

TINY = (
    "model.channels=8", "model.layers=1", "model.num_radial=4", "model.cutoff=3.5",
    "training.epochs=2", "training.batch_size=8", "training.precision=float64",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, cluster_writer):
    folder = tmp_path_factory.mktemp("uncertain")
    source = cluster_writer(folder / "clusters.xyz", 60)
    test = cluster_writer(folder / "test.xyz", 24, seed=9)
    config = load_config(
        overrides=[f"data.sources={source}", f"data.test=[{test}]", "data.validation=24", *TINY]
    )
    return train_run(config, folder=folder / "run")


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["dreibein", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code or 0


def labeled(potential, frames, draw):
    """Frames with the potential's energies plus F·draw: errors of the last layer alone."""
    found = []
    for batch in batches(frames, potential):
        atoms = last_features(potential, batch)
        shift = atoms.new_zeros(batch.num_graphs).index_add(0, batch.batch, atoms @ draw)
        energy = potential(batch, compute=("energy",))["energy"] + shift
        for k, structure in enumerate(batch.to_data_list()):
            found.append(to_ase(make_structure(structure.z, structure.pos, energy=energy[k])))
    return found


def test_errors_of_the_last_layer_are_predicted(clusters, tmp_path):
    """Weights drawn from the posterior: sigma must be the standard deviation of the errors."""
    torch.manual_seed(0)
    config = TensorNetConfig(channels=8, layers=1, num_radial=4, cutoff=3.5)
    potential = build_potential(config, elements=(1, 8), dtype=torch.float64)
    data = load_data(DataConfig(sources=[str(clusters(80))]))
    first = calibrate(potential, data, data)
    posterior = potential.uncertainty.root.T
    errors, sigmas = [], []
    for k in range(6):
        draw = posterior @ torch.randn(
            len(posterior), dtype=torch.float64, generator=torch.Generator().manual_seed(k)
        )
        ase.io.write(tmp_path / "drawn.xyz", labeled(potential, data, draw))
        drawn = load_data(DataConfig(sources=[str(tmp_path / "drawn.xyz")]))
        again = evaluate_potential(potential, drawn)
        (found,) = again.calibrations
        errors.append(found.rms_z)
        sigmas.append(found.sigma)
    assert first["validation_frames"] == 80
    assert 0.5 < np.mean(np.square(errors)) < 2.0
    assert np.ptp(sigmas) < 1e-9


def test_training_makes_it_and_the_evaluation_judges_it(run):
    record = read_header(run.folder)["card"]["uncertainty"]
    assert record["features"] == 5
    assert record["training_frames"] == 36
    assert record["validation_frames"] == 24
    potential = load_model(run.folder)
    assert {"energy_uncertainty", "forces_uncertainty"} <= set(potential.outputs)
    # alpha is the root mean square of error over sigma on the validation frames
    held_out = run.evaluations["validation"].calibrations[0]
    assert held_out.rms_z == pytest.approx(1.0, rel=1e-6)
    assert held_out.nll <= held_out.nll_constant + 0.05
    (judged,) = run.evaluations["test"].calibrations
    assert judged.quantity == "energy"
    assert judged.values == 24
    assert 0.0 < judged.within_1 <= judged.within_2 <= 1.0
    saved = np.load(run.folder / "predictions.npz")
    assert saved["uncertainty_energy"].shape == (24,)


def test_alarms_and_calculator(run):
    potential = load_model(run.folder)
    atoms = ase.io.read(run.folder.parent / "clusters.xyz", index=0)
    atoms.calc = Calculator(potential)
    sigma = atoms.calc.get_property("energy_uncertainty", atoms)
    assert float(sigma) > 0.0
    evaluator = Evaluator(potential, alarms="record")
    given = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    assert evaluator.alarms.interval == 100
    evaluator.alarms.interval = 10
    evaluator.alarms.uncertainty = float(sigma) / len(atoms) * 1.001
    for _ in range(11):
        values = evaluator(*given)
    assert "energy_uncertainty" not in values
    assert not evaluator.alarms.counts["uncertainty"]
    evaluator.alarms.uncertainty *= 0.99
    for _ in range(20):
        evaluator(*given)
    assert evaluator.alarms.counts["uncertainty"] == 2  # calls 21 and 31
    assert "uncertainty above" in evaluator.alarms.describe()
    strict = Evaluator(potential, alarms="stop")
    strict.alarms.domain, strict.alarms.uncertainty = None, 1e-9
    with pytest.raises(OutOfDomainError, match="the energy is uncertain by"):
        strict(*given)


def test_the_command_makes_it_again(run, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder)
    config = load_config(run.folder / "config.yaml", ["training.uncertainty=false"])
    without = train_run(config, folder=tmp_path / "without")
    assert without.potential.uncertainty is None
    assert "uncertainty" not in without.potential.card
    assert not without.evaluations["test"].calibrations
    assert command(monkeypatch, "calibrate", without.folder) == 0
    made, known = (load_model(f).uncertainty.root for f in (without.folder, run.folder))
    torch.testing.assert_close(made, known, rtol=1e-6, atol=0.0)
    source = run.folder.parent / "clusters.xyz"
    sets = ["--train", source, "--validation", run.folder.parent / "test.xyz"]
    assert command(monkeypatch, "calibrate", folder, *sets, "-o", tmp_path / "m.safetensors") == 0
    assert load_model(tmp_path / "m.safetensors").card["uncertainty"]["training_frames"] == 60
    assert command(monkeypatch, "predict", folder, source, "-o", tmp_path / "out.xyz") == 0
    assert ase.io.read(tmp_path / "out.xyz").info["energy_uncertainty"] > 0.0
    capsys.readouterr()
    assert command(monkeypatch, "info", folder) == 0
    assert "from 5 features of the last layer" in capsys.readouterr().out
    assert command(monkeypatch, "calibrate", folder, *sets[:2]) == 2


def test_an_ensemble_is_calibrated(run, tmp_path, monkeypatch):
    train_ensemble(run.config, 2, folder=tmp_path / "both")
    committee = load_model(tmp_path / "both")
    assert isinstance(committee, Committee)
    assert set(committee.factors) == {"energy", "forces"}
    data = load_data(DataConfig(sources=[str(run.folder.parent / "test.xyz")]))
    energy, forces = evaluate_potential(committee, data).calibrations
    assert (energy.quantity, forces.quantity) == ("energy", "forces")
    assert forces.values == 3 * sum(len(data[k].z) for k in range(len(data)))
    record = json.loads((tmp_path / "both" / "ensemble.json").read_text())
    assert record["energy_factor"] == committee.factors["energy"]
    committee.factors = {}
    assert not evaluate_potential(committee, data).calibrations
    with pytest.raises(ValueError, match="is not calibrated"):
        committee(next(iter(batches(data, committee))), compute=("energy_uncertainty",))
    (tmp_path / "both" / "ensemble.json").write_text("{}")
    assert command(monkeypatch, "calibrate", tmp_path / "both") == 0
    again = load_model(tmp_path / "both").factors
    assert again["forces"] == pytest.approx(record["forces_factor"], rel=1e-9)


def test_what_cannot_be_calibrated_says_why(run):
    data = load_data(DataConfig(sources=[str(run.folder.parent / "test.xyz")]))
    potential = load_model(run.folder)
    del potential.network.head
    with pytest.raises(ValueError, match="has no last linear layer"):
        calibrate(potential, data, data)
