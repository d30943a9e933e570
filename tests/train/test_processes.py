"""Two processes give what one gives with the same global batch."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dreibein.evaluate import ErrorMeter
from dreibein.train import TrainingConfig, fit
from dreibein.train.devices import launch

WORKER = Path(__file__).with_name("worker.py")
VALUES = {"epochs": 3, "batch_size": 8, "lr": 3e-3, "warmup_steps": 2, "precision": "float64"}


def rows_of(folder):
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def in_two_processes(folder, *more):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    arguments = [f"{name}={value}" for name, value in VALUES.items()]
    return subprocess.run(
        [*launcher, "--nproc-per-node=2", WORKER, folder, *arguments, *more],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_two_gloo_processes(tmp_path, clusters, with_gaps, tiny_potential):
    """17 structures in batches of 8, 9 held out: one process has nothing in the last steps."""
    two, one = tmp_path / "two", tmp_path / "one"
    two.mkdir()
    one.mkdir()
    done = in_two_processes(two)
    assert done.returncode == 0, done.stderr[-3000:]
    potential = tiny_potential()
    config = TrainingConfig(**VALUES)
    data, held_out = with_gaps(clusters(17)), clusters(9, seed=1)
    fit(config, potential, data, held_out, one, meter=ErrorMeter)
    for a, b in zip(rows_of(one), rows_of(two), strict=True):
        del a["seconds"], b["seconds"]
        assert a == pytest.approx(b, rel=1e-9)
    weights = torch.load(two / "weights.pt", weights_only=True)
    for name, value in potential.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-7, atol=1e-9, equal_nan=True)


def test_a_nan_that_one_process_sees_is_named_by_all(tmp_path):
    done = in_two_processes(tmp_path, "nan_frame=4")
    assert done.returncode != 0
    said = "the label 'forces' is not a number in clusters.xyz, frame 4"
    assert f"ValueError: step 0: {said}" in done.stderr
    assert "gradient is not" not in done.stderr


def test_a_batch_must_have_a_structure_for_each_process():
    with pytest.raises(ValueError, match="batch_size is 1, but 2 processes share each batch"):
        launch(TrainingConfig(batch_size=1, devices=2, accelerator="cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said():
    with pytest.raises(ValueError, match="accelerator is 'cuda', but torch finds no GPU"):
        launch(TrainingConfig(accelerator="cuda"))
