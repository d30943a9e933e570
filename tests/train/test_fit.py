"""Training as a whole: it learns, it refuses, it stops, it says why."""

import csv
import logging

import pytest
import torch

from dreibein.evaluate import ErrorMeter
from dreibein.train import EnergyTerm, Losses, LossTerm, TrainingConfig, fit
from dreibein.train.checkpoints import read_checkpoint

QUICK = {"batch_size": 8, "warmup_steps": 5, "precision": "float64"}


def rows_of(folder):
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_learns_and_leaves_what_the_contract_says(clusters, tiny_potential, run_folder, caplog):
    caplog.set_level(logging.INFO, "dreibein")
    config = TrainingConfig(epochs=8, lr=5e-3, ema_decay=0.9, **QUICK)
    potential = tiny_potential()
    reports = []
    result = fit(
        config,
        potential,
        clusters(32),
        clusters(8, seed=1),
        run_folder,
        meter=ErrorMeter,
        progress=lambda done, total, note: reports.append((done, total, note)),
    )
    rows = rows_of(run_folder)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    assert list(rows[0])[:7] == [
        "epoch",
        "step",
        "lr",
        "seconds",
        "train_loss",
        "train_energy_loss",
        "train_forces_loss",
    ]
    assert {"val_loss", "val_forces_mae_mev_per_a", "val_energy_mae_mev"} <= set(rows[0])
    assert float(rows[-1]["val_loss"]) < 0.7 * float(rows[0]["val_loss"])
    assert result.reason == "epochs"
    assert (result.epochs, result.steps) == (8, 32)
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert result.best_epoch == int(best["epoch"])
    assert result.best_error == float(best["val_loss"])
    assert reports[-1][:2] == (32, 32)
    assert "epoch 8/8" in reports[-1][2]
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("epoch ")]
    assert len(lines) == 8
    assert not potential.training
    assert {p.name for p in (run_folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_the_result_is_the_best_average_and_the_meter_agrees(clusters, tiny_potential, run_folder):
    config = TrainingConfig(epochs=4, lr=0.05, schedule="constant", ema_decay=0.5, **QUICK)
    potential, held_out = tiny_potential(), clusters(8, seed=1)
    result = fit(config, potential, clusters(16), held_out, run_folder, meter=ErrorMeter)
    row = rows_of(run_folder)[result.best_epoch - 1]
    from dreibein.evaluate import evaluate_potential

    metrics = evaluate_potential(potential, held_out).metrics
    for name, value in metrics.items():
        assert value == pytest.approx(float(row[f"val_{name}"]), rel=1e-9)
    saved = read_checkpoint(run_folder / "checkpoints" / "best.ckpt")
    assert saved["state"]["epoch"] == result.best_epoch
    weights = [p.detach() for p in potential.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(weights, saved["average"]["average"], strict=True))


def test_same_seed_same_numbers(clusters, tiny_potential, tmp_path):
    found = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        config = TrainingConfig(epochs=2, lr=1e-3, **QUICK)
        fit(config, tiny_potential(), clusters(12), None, folder, meter=ErrorMeter)
        torch.rand(5)
        found.append([row["train_loss"] for row in rows_of(folder)])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("changes", "reason", "epochs"),
    [
        ({"max_steps": 3}, "steps", 2),
        ({"max_time": 1e-9}, "time", 1),
        ({"patience": 1, "lr": 1e-30}, "patience", 2),
    ],
)
def test_early_ends(clusters, tiny_potential, run_folder, changes, reason, epochs):
    values = {"epochs": 50, "lr": 1e-3, "ema_decay": None, **QUICK, **changes}
    config = TrainingConfig(**values)
    data, held_out = clusters(16), clusters(4, seed=1)
    result = fit(config, tiny_potential(), data, held_out, run_folder, meter=ErrorMeter)
    assert result.reason == reason
    assert result.epochs == epochs == len(rows_of(run_folder))


def test_an_unknown_monitored_error_is_refused_before_training(
    clusters, tiny_potential, run_folder
):
    config = TrainingConfig(epochs=1, monitor="force_mae", **QUICK)
    with pytest.raises(ValueError, match=r"monitor is 'force_mae'.*did you mean 'forces_mae_mev"):
        fit(config, tiny_potential(), clusters(8), clusters(4, 1), run_folder, meter=ErrorMeter)
    assert not (run_folder / "metrics.csv").exists()


def test_no_labels_at_all_are_refused(clusters, tiny_potential, run_folder):
    with pytest.raises(ValueError, match=r"none of the labels energy, forces, stress \(it has di"):
        fit(
            TrainingConfig(epochs=1),
            tiny_potential(),
            type("Set", (), {"label_names": ("dipole",)})(),
            None,
            run_folder,
            meter=ErrorMeter,
        )


def test_a_term_that_is_asked_for_must_find_its_label(clusters, tiny_potential, run_folder):
    config = TrainingConfig(epochs=1, losses=Losses(stress=LossTerm()))
    with pytest.raises(ValueError, match=r"losses.stress is set, but no structure .* the label"):
        fit(config, tiny_potential(), clusters(8), None, run_folder, meter=ErrorMeter)


def test_energies_alone(clusters, tiny_potential, run_folder):
    data = clusters(16, labels=("energy",))
    config = TrainingConfig(epochs=2, lr=1e-3, **QUICK)
    fit(config, tiny_potential(), data, data, run_folder, meter=ErrorMeter)
    assert "train_forces_loss" not in rows_of(run_folder)[0]
    assert "val_forces_mae_mev_per_a" not in rows_of(run_folder)[0]


def test_forces_alone_train_every_weight_that_they_depend_on(clusters, tiny_potential, run_folder):
    config = TrainingConfig(epochs=1, losses=Losses(energy=None), **QUICK)
    potential = tiny_potential()
    before = [p.detach().clone() for p in potential.parameters()]
    fit(config, potential, clusters(8), None, run_folder, meter=ErrorMeter)
    after = list(potential.parameters())
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert sum(changed) >= len(changed) - 1  # the last bias moves energies only


def test_a_nan_label_is_named(clusters, tiny_potential, run_folder):
    data = clusters(24)
    data.structures[17].forces[1, 2] = torch.nan
    config = TrainingConfig(epochs=3, **QUICK)
    with pytest.raises(
        ValueError, match=r"the label 'forces' is not a number in clusters.xyz, frame 17: remove"
    ):
        fit(config, tiny_potential(), data, None, run_folder, meter=ErrorMeter)
    assert not (run_folder / "checkpoints" / "last.ckpt").exists()


def test_a_nan_label_in_validation_is_named(clusters, tiny_potential, run_folder):
    held_out = clusters(6, seed=1)
    held_out.structures[4].energy[0] = torch.nan
    config = TrainingConfig(epochs=1, **QUICK)
    with pytest.raises(
        ValueError, match=r"^validation: the label 'energy' is not a number in .*, frame 4: "
    ):
        fit(config, tiny_potential(), clusters(8), held_out, run_folder, meter=ErrorMeter)


def test_a_nan_prediction_is_named_with_its_frames(clusters, tiny_potential, run_folder):
    data = clusters(8)
    data.structures[5].z[0] = 6  # an element that the potential does not know gives NaN
    config = TrainingConfig(epochs=1, batch_size=4, precision="float64")
    with pytest.raises(
        ValueError,
        match=r"labels are in order, but the predicted 'energy' is not a number for .*frame 5: see",
    ):
        fit(config, tiny_potential(), data, None, run_folder, meter=ErrorMeter)


def test_a_structure_without_neighbors_list_is_named(clusters, tiny_potential, run_folder):
    data = clusters(8)
    data.structures[5].pos[0] = torch.nan
    with pytest.raises(ValueError, match=r"^clusters.xyz, frame 5: the position of atom 0 is"):
        fit(TrainingConfig(epochs=1), tiny_potential(), data, None, run_folder, meter=ErrorMeter)


@pytest.mark.parametrize(
    ("weight", "rate", "said"),
    [
        (1e300, 1e-3, r"step 0: labels and predictions are finite, but the gradient is not, for"),
        (1.0, 1e30, r"step [1-9]: .* for .*clusters.xyz, frame \d+.*lower training.lr"),
    ],
)
def test_a_diverging_run_stops(clusters, tiny_potential, run_folder, weight, rate, said):
    losses = Losses(
        energy=EnergyTerm(kind="mse", weight=weight), forces=LossTerm(kind="mse", weight=weight)
    )
    config = TrainingConfig(
        epochs=5, lr=rate, gradient_clip=None, losses=losses, warmup_steps=0, ema_decay=None
    )
    with pytest.raises(ValueError, match=said):
        fit(config, tiny_potential(), clusters(16), None, run_folder, meter=ErrorMeter)


def test_tensorboard_is_written_or_its_absence_explained(clusters, tiny_potential, run_folder):
    config = TrainingConfig(epochs=1, loggers=["tensorboard"], **QUICK)
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match=r'pip install "dreibein\[tensorboard\]"'):
            fit(config, tiny_potential(), clusters(8), None, run_folder, meter=ErrorMeter)
        return
    fit(config, tiny_potential(), clusters(8), None, run_folder, meter=ErrorMeter)
    assert list((run_folder / "tensorboard").glob("events.*"))


def test_data_workers_change_nothing(clusters, tiny_potential, tmp_path):
    found = []
    for workers in (0, 1):
        folder = tmp_path / str(workers)
        folder.mkdir()
        config = TrainingConfig(epochs=2, lr=1e-3, num_workers=workers, **QUICK)
        fit(config, tiny_potential(), clusters(12), None, folder, meter=ErrorMeter)
        found.append([row["train_loss"] for row in rows_of(folder)])
    assert found[0] == found[1]
