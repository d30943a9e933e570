"""A whole run: what lands in the folder, what is refused, how it goes on."""

import json
import os
import signal

import numpy as np
import pytest
import torch
import yaml
from ase.io import read, write

from dreibein.evaluate import Evaluation, Predictions, evaluate_potential
from dreibein.models import load_model, read_header
from dreibein.recipes import TrainingInterrupted, held_out_frames, load_config, train_run
from dreibein.train.steps import Stepper

TINY = [
    "model.channels=8",
    "model.layers=1",
    "model.cutoff=3.0",
    "model.num_radial=8",
    "training.epochs=2",
    "training.lr=3e-3",
    "data.validation=6",
    "data.test=6",
]


def config_of(path, *overrides):
    return load_config(overrides=[f"data.sources={path}", *TINY, *overrides])


def test_the_folder_holds_everything(tmp_path, clusters, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = config_of(clusters().name, "name=first", "data.level_of_theory=Morse")
    run = train_run(config)
    assert run.folder.parent.name == "runs"
    assert run.folder.name.endswith("_first")
    folder = run.folder
    files = {p.name for p in folder.iterdir()}
    assert files >= {
        "checkpoints",
        "config.yaml",
        "evaluation.json",
        "evaluation_validation.json",
        "log.txt",
        "metrics.csv",
        "model.safetensors",
        "predictions.npz",
        "provenance.json",
        "splits.json",
    }
    splits = json.loads((folder / "splits.json").read_text())
    sides = [splits[name] for name in ("train", "validation", "test")]
    assert [len(side) for side in sides] == [28, 6, 6]
    assert sorted(i for side in sides for i in side) == list(range(40))
    values = yaml.safe_load((folder / "config.yaml").read_text())
    assert values["training"]["losses"]["stress"] is None  # not in these data
    assert values["data"]["sources"] == [str(tmp_path / "clusters-0.xyz")]
    assert load_config(folder / "config.yaml") == run.config
    log = (folder / "log.txt").read_text()
    for said in ("epoch 2/2", "runs on cpu", "28 train, 6 validation, 6 test", "float32", "eV/Å"):
        assert said in log, said
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["sha256"] == splits["data_sha256"]
    assert provenance["run"]["versions"]["torch"] == torch.__version__


def test_the_model_file_is_the_best_model_with_its_card(tmp_path, clusters):
    config = config_of(clusters(), "data.level_of_theory=Morse")
    run = train_run(config, folder=tmp_path / "run")
    header = read_header(tmp_path / "run" / "model.safetensors")
    card = header["card"]
    assert card["level_of_theory"] == "Morse"
    assert card["data"]["train_frames"] == 28
    assert len(card["data"]["sha256"]) == 64
    assert card["errors"]["test"] == run.evaluations["test"].metrics
    assert card["training"]["best_epoch"] == run.fit.best_epoch
    assert {"date", "command", "versions", "device", "precision"} <= set(card)
    potential = load_model(tmp_path / "run" / "model.safetensors")
    evaluation = Evaluation.load(tmp_path / "run" / "evaluation.json")
    assert evaluation.data["split"] == "test"
    assert evaluation.checks is not None
    again = evaluate_potential(potential, held_out_frames(tmp_path / "run"))
    assert again.metrics == pytest.approx(evaluation.metrics, rel=1e-6)
    predictions = Predictions.load(tmp_path / "run" / "predictions.npz")
    error = np.abs(predictions.energy_prediction - predictions.energy_reference).mean()
    assert 1e3 * error == pytest.approx(evaluation.metrics["energy_mae_mev"], rel=1e-9)


def test_held_out_frames_are_those_of_the_run(tmp_path, clusters):
    path = clusters()
    run = train_run(config_of(path), folder=tmp_path / "run")
    assert list(held_out_frames(run.folder).indices) == list(
        json.loads((run.folder / "splits.json").read_text())["test"]
    )
    with pytest.raises(ValueError, match="is not the folder of a run"):
        held_out_frames(tmp_path)
    write(path, read(path, ":")[:-1])
    with pytest.raises(ValueError, match="not those of"):
        held_out_frames(run.folder)
    none = train_run(config_of(clusters(), "data.test=0"), folder=tmp_path / "none")
    with pytest.raises(ValueError, match="kept no test frames"):
        held_out_frames(none.folder)


def test_reference_energies_and_scale(tmp_path, clusters):
    path = clusters()
    run = train_run(config_of(path), folder=tmp_path / "fit")
    frames = read(path, ":")
    forces = np.concatenate([atoms.get_forces() for atoms in frames])
    assert float(run.potential.scale) == pytest.approx(np.sqrt((forces**2).mean()), rel=0.2)
    given = config_of(
        path,
        "training.reference_energies={H: -1.5, O: -2.5}",
        "training.scale=0.25",
        "training.epochs=1",
    )
    potential = train_run(given, folder=tmp_path / "given").potential
    assert potential.reference_energies == {1: -1.5, 8: -2.5}
    assert float(potential.scale) == 0.25


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.reference_energies={H: -1.5}", "has no energy of O, which the training set"),
        ("training.reference_energies={Hx: -1.5}", "names 'Hx', which is no element"),
        ("training.losses.stress.weight=1", "losses.stress is set, but no structure of the"),
        ("training.monitor=force_mae", "monitor is 'force_mae', which validation does not give"),
        ("data.keys={energy: REF_energy}", "REF_energy"),
        ("data.labels=[stress]", "stress"),
    ],
)
def test_refusals_come_before_the_first_step(tmp_path, clusters, override, said, monkeypatch):
    monkeypatch.setattr(Stepper, "step", None)
    with pytest.raises(ValueError, match=said):
        train_run(config_of(clusters(), override), folder=tmp_path / "run")


def test_nan_in_a_frame_is_named(tmp_path, clusters):
    path = clusters()
    frames = read(path, ":")
    frames[17].calc.results["energy"] = float("nan")
    write(path, frames)
    with pytest.raises(ValueError, match=r"clusters-0.xyz.*frame 17"):
        train_run(config_of(path), folder=tmp_path / "run")


def test_all_labels_missing(tmp_path, clusters):
    path = clusters()
    frames = read(path, ":")
    for atoms in frames:
        atoms.calc = None
    write(path, frames)
    with pytest.raises(ValueError, match="has none of the labels energy, forces, stress"):
        train_run(config_of(path), folder=tmp_path / "run")


def test_elements_that_training_never_sees(tmp_path, clusters):
    path, other = clusters(), tmp_path / "other.xyz"
    frames = read(path, ":3")
    for atoms in frames:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.numbers[0] = 9
        atoms.calc.atoms.numbers[0] = 9
        atoms.calc.results.update(energy=energy, forces=forces)
    write(other, frames)
    with pytest.raises(ValueError, match="the test set has F, which no training structure has"):
        train_run(config_of(path, f"data.test={other}"), folder=tmp_path / "run")


def test_stress_is_trained_where_there_is_some(tmp_path, clusters):
    path = clusters(box=8.0)
    run = train_run(config_of(path, "training.epochs=3"), folder=tmp_path / "run")
    assert "stress_mae_mev_per_a3" in run.evaluations["test"].metrics
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]
    assert "train_stress_loss" in header
    assert "val_stress_mae_mev_per_a3" in header


def test_a_run_is_not_overwritten(tmp_path, clusters):
    config = config_of(clusters(), "training.epochs=1")
    train_run(config, folder=tmp_path / "run")
    with pytest.raises(ValueError, match=r"already holds a run .*dreibein train --resume .*run"):
        train_run(config, folder=tmp_path / "run")
    with pytest.raises(ValueError, match="is not the folder of a run"):
        train_run(config, resume=tmp_path)


def test_ctrl_c_and_resume(tmp_path, clusters, monkeypatch):
    config = config_of(clusters())
    whole = train_run(config, folder=tmp_path / "whole")
    step = Stepper.step

    def interrupted(self, batch, number, votes):
        if number == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, number, votes)

    monkeypatch.setattr(Stepper, "step", interrupted)
    folder = tmp_path / "stopped"
    with pytest.raises(TrainingInterrupted, match=f"dreibein train --resume {folder}"):
        train_run(config, folder=folder)
    monkeypatch.undo()
    assert not (folder / "model.safetensors").exists()
    other = config_of(clusters(seed=3))
    with pytest.raises(ValueError, match="the data or their split are not those of"):
        train_run(other, resume=folder)
    for override, said in (
        ("model.channels=16", "model.channels is 16, but the run in .* has 8"),
        ("training.lr=0.5", "training.lr may not change in a run"),
    ):
        changed = load_config(folder / "config.yaml", [override])
        with pytest.raises(ValueError, match=said):
            train_run(changed, resume=folder)
    run = train_run(load_config(folder / "config.yaml"), resume=folder)
    assert run.evaluations["test"].metrics == whole.evaluations["test"].metrics
    assert (folder / "model.safetensors").exists()


def test_data_that_contradict_themselves_are_refused(shared, tmp_path):
    """Real stress with exchanged components is refused; it trains once its order is declared."""
    source = shared / "data" / "mlearn_Si" / "training.extxyz"
    few = ["model.layers=0", "training.max_steps=1", "training.losses.stress.weight=1"]
    with pytest.raises(ValueError, match="training is refused, the stress contradicts"):
        train_run(config_of(source, *few), folder=tmp_path / "run")
    order = "data.stress_convention.order=xx yy zz xz yz xy"
    run = train_run(config_of(source, *few, order), folder=tmp_path / "run")
    assert "stress_mae_mev_per_a3" in run.evaluations["validation"].metrics


def test_given_references_leave_their_mean_to_a_shift(tmp_path, clusters):
    """With free atoms' energies the network starts at the mean, not eV per atom away from it."""
    given = "training.reference_energies={H: 3.0, O: 3.0}"
    run = train_run(config_of(clusters(), given), folder=tmp_path / "run")
    potential = run.potential
    assert abs(float(potential.shift)) > 1.0
    metrics = run.evaluations["validation"].metrics
    fitted = train_run(config_of(clusters()), folder=tmp_path / "fitted")
    assert abs(float(fitted.potential.shift)) < 0.1
    expected = fitted.evaluations["validation"].metrics["energy_per_atom_mae_mev"]
    assert metrics["energy_per_atom_mae_mev"] < 10 * expected + 100
    raw = train_run(config_of(clusters(), given, "training.scale=none"), folder=tmp_path / "raw")
    assert float(raw.potential.shift) == 0.0
