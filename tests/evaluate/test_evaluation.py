import json

import ase.io
import numpy as np
import pytest
import torch

from dreibein.data import DataConfig, load_data
from dreibein.evaluate import Evaluation, Predictions, evaluate_potential
from dreibein.systems import make_structure


@pytest.fixture(scope="module")
def potential(small_potential):
    return small_potential()


@pytest.fixture(scope="module")
def dataset(run_folder):
    return load_data(DataConfig(sources=[str(run_folder / "frames.extxyz")]))


@pytest.fixture(scope="module")
def evaluation(potential, dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "predictions.npz"
    return evaluate_potential(potential, dataset, batch_size=5, predictions_path=path), path


def test_finds_the_noise_that_was_put_on_the_labels(evaluation):
    found, _ = evaluation
    assert found.metrics["energy_mae_mev"] == pytest.approx(10.0, rel=1e-3)
    assert found.metrics["forces_rmse_mev_per_a"] == pytest.approx(50.0, rel=0.1)
    assert found.counts["frames"] == 24
    assert found.counts["forces_values"] == 3 * found.counts["atoms"]
    assert [g.name for g in found.config_types] == ["cold", "warm <b>"]
    assert [e.symbol for e in found.elements] == ["H", "C", "O"]
    assert sum(e.atoms for e in found.elements) == found.counts["atoms"]


def test_batches_change_nothing(potential, dataset, evaluation):
    other = evaluate_potential(potential, dataset, batch_size=24)
    assert other.metrics == pytest.approx(evaluation[0].metrics, rel=1e-4)


def test_predictions_on_disk_give_the_same_errors(evaluation):
    found, path = evaluation
    stored = Predictions.load(path)
    error = 1e3 * (stored.forces_prediction - stored.forces_reference)
    assert np.abs(error).mean() == pytest.approx(found.metrics["forces_mae_mev_per_a"], rel=1e-5)
    energy = 1e3 * np.abs(stored.energy_prediction - stored.energy_reference) / stored.n_atoms
    assert energy.mean() == pytest.approx(found.metrics["energy_per_atom_mae_mev"], rel=1e-6)
    worst = found.worst[0]
    atoms = slice(*stored.offsets()[worst.row : worst.row + 2])
    lengths = np.linalg.norm(error[atoms], axis=1)
    assert lengths.max() == pytest.approx(worst.forces_max_mev_per_a, rel=1e-4)
    assert lengths.argmax() == worst.worst_atom
    assert f"frame {worst.frame}" in worst.source


def test_worst_frames_are_the_worst(evaluation):
    found, _ = evaluation
    errors = [frame.forces_max_mev_per_a for frame in found.worst]
    assert errors == sorted(errors, reverse=True)
    energies = [abs(frame.energy_mev_per_atom) for frame in found.worst_energies]
    assert energies == sorted(energies, reverse=True)


def test_json_round_trip(evaluation, tmp_path):
    found, _ = evaluation
    found.save(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path / "evaluation.json") == found
    json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(ValueError, match="dreibein evaluate"):
        Evaluation.load(tmp_path / "evaluation.json")


def test_a_truncated_predictions_file_is_named(evaluation, tmp_path):
    path = tmp_path / "predictions.npz"
    path.write_bytes(evaluation[1].read_bytes()[:500])
    with pytest.raises(ValueError, match=r"predictions\.npz"):
        Predictions.load(path)


def test_missing_labels_are_left_out(potential, run_folder, tmp_path):
    frames = ase.io.read(run_folder / "frames.extxyz", ":6")
    for atoms in frames[:3]:
        del atoms.calc.results["forces"]
    ase.io.write(tmp_path / "partly.extxyz", frames)
    data = load_data(DataConfig(sources=[str(tmp_path / "partly.extxyz")]))
    path = tmp_path / "predictions.npz"
    found = evaluate_potential(potential, data, predictions_path=path)
    assert found.counts["forces_values"] == 3 * sum(len(atoms) for atoms in frames[3:])
    assert len(found.worst) == 3
    stored = Predictions.load(path)
    assert np.isnan(stored.forces_reference[: stored.offsets()[3]]).all()
    assert np.isfinite(stored.forces_reference[stored.offsets()[3] :]).all()


def test_stress(small_potential, crystal_run, tmp_path):
    data = load_data(DataConfig(sources=[str(crystal_run / "frames.extxyz")]))
    found = evaluate_potential(small_potential(), data)
    assert found.metrics["stress_mae_mev_per_a3"] == pytest.approx(1.0, rel=1e-2)
    assert found.counts["stress_values"] == 6 * 24


def test_unknown_element_names_the_frame(potential, tmp_path, run_folder):
    frames = ase.io.read(run_folder / "frames.extxyz", ":3")
    frames[2].numbers[0] = 79
    ase.io.write(tmp_path / "gold.extxyz", frames)
    data = load_data(DataConfig(sources=[str(tmp_path / "gold.extxyz")]))
    with pytest.raises(ValueError, match=r"gold\.extxyz, frame 2: .*Au"):
        evaluate_potential(potential, data)


def test_plain_lists_will_do(potential):
    structures = [make_structure([1, 8], [[0, 0, 0], [0, 0, 1.0]], energy=-2000.0)] * 3
    found = evaluate_potential(potential, structures)
    assert set(found.metrics) == {
        f"{q}_{s}_mev" for q in ("energy", "energy_per_atom") for s in ("mae", "rmse")
    }
    assert found.worst == found.worst_energies
    with pytest.raises(ValueError, match="no frame"):
        evaluate_potential(potential, [])
    with pytest.raises(ValueError, match="none of energy"):
        evaluate_potential(potential, [make_structure([1], torch.zeros(1, 3))])


def test_progress(potential, dataset):
    seen = []
    evaluate_potential(potential, dataset, batch_size=10, progress=lambda *step: seen.append(step))
    assert [step[:2] for step in seen] == [(10, 24), (20, 24), (24, 24)]
    assert "meV/Å" in seen[-1][2]
