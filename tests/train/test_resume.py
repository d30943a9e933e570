"""A run that was killed, stopped or starved of disk goes on as if nothing had happened."""

import csv
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from dreibein.evaluate import ErrorMeter
from dreibein.train import TrainingConfig, fit
from dreibein.train.checkpoints import AtomicCheckpointIO, read_checkpoint
from dreibein.train.steps import Stepper

WORKER = Path(__file__).with_name("worker.py")
CONFIG = {"epochs": 4, "batch_size": 4, "lr": 3e-3, "warmup_steps": 4, "precision": "float32"}
STEPS = 5  # an epoch of 17 structures


def rows_of(folder):
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def train(folder, clusters, with_gaps, tiny_potential, **changes):
    folder.mkdir(exist_ok=True)
    potential = tiny_potential(dtype=torch.float32)
    config = TrainingConfig(**{**CONFIG, **changes})
    data, held_out = with_gaps(clusters(17)), clusters(9, seed=1)
    return fit(config, potential, data, held_out, folder, meter=ErrorMeter), potential


@pytest.fixture
def trained(clusters, with_gaps, tiny_potential):
    """Trains in a folder; further arguments change the configuration."""

    def run(folder, **changes):
        return train(folder, clusters, with_gaps, tiny_potential, **changes)

    return run


def assert_same(one, other, folders):
    """The same rows to the last digit, and the same weights."""
    assert rows_of(folders[0]) == rows_of(folders[1])
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


@pytest.mark.parametrize("changes", [{}, {"checkpoint_time": 1e-9}], ids=["epoch", "step"])
def test_kill_9(tmp_path, trained, changes):
    """With checkpoints once an epoch, and with one after every step."""
    schedule = {"kind": "plateau", "patience": 0, "factor": 0.5}
    whole, _ = tmp_path / "whole", None
    _, expected = trained(whole, schedule=schedule, **changes)
    killed = tmp_path / "killed"
    killed.mkdir()
    at = 2 * STEPS + 3
    values = {**CONFIG, "schedule": "{kind: plateau, patience: 0, factor: 0.5}", **changes}
    arguments = [f"{name}={value}" for name, value in values.items()]
    done = subprocess.run(
        [sys.executable, WORKER, killed, f"kill_at={at}", *arguments], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(rows_of(killed)) == 2
    saved = read_checkpoint(killed / "checkpoints" / "last.ckpt")["state"]
    assert (saved["epoch"], saved["step"]) == (2, at if changes else 2 * STEPS)
    result, found = trained(killed, schedule=schedule, **changes)
    assert_same(found, expected, (killed, whole))
    assert result.steps == 4 * STEPS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_within_the_epoch(tmp_path, trained, monkeypatch, number):
    _, expected = trained(tmp_path / "whole")
    step = Stepper.step

    def interrupted(self, batch, k, votes):
        if k == STEPS + 2:
            os.kill(os.getpid(), number)
        return step(self, batch, k, votes)

    monkeypatch.setattr(Stepper, "step", interrupted)
    handler = signal.getsignal(number)
    stopped, _ = trained(tmp_path / "stopped")
    assert signal.getsignal(number) is handler
    assert stopped.reason == "interrupted"
    # the wish is heard when the next step asks for it
    assert stopped.steps == STEPS + 4
    monkeypatch.undo()
    _, found = trained(tmp_path / "stopped")
    assert_same(found, expected, (tmp_path / "stopped", tmp_path / "whole"))


def test_a_finished_run_can_be_made_longer(tmp_path, trained):
    trained(tmp_path / "run", epochs=2, schedule="constant", warmup_steps=2)
    result, longer = trained(tmp_path / "run", epochs=4, schedule="constant", warmup_steps=2)
    assert result.epochs == 4
    _, expected = trained(tmp_path / "whole", epochs=4, schedule="constant", warmup_steps=2)
    assert_same(longer, expected, (tmp_path / "run", tmp_path / "whole"))


@contextmanager
def files_no_larger_than(size):
    """A real limit of the kernel: writing beyond it fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_disk_full_during_a_checkpoint(tmp_path, trained):
    folder = tmp_path / "run"
    trained(folder, epochs=2, schedule="constant", warmup_steps=2)
    last = folder / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    with (
        files_no_larger_than(len(before) // 2),
        pytest.raises(
            OSError,
            match=r"cannot write the checkpoint .*last.ckpt: File too large; the previous one is "
            r"intact: make room, then continue with: dreibein train --resume .*run$",
        ),
    ):
        trained(folder, schedule="constant", warmup_steps=2)
    assert last.read_bytes() == before
    assert sorted(p.name for p in last.parent.iterdir()) == ["best.ckpt", "last.ckpt"]
    _, found = trained(folder, schedule="constant", warmup_steps=2)
    _, expected = trained(tmp_path / "whole", schedule="constant", warmup_steps=2)
    assert_same(found, expected, (folder, tmp_path / "whole"))


def test_best_survives_what_happens_to_last(tmp_path, trained):
    folder = tmp_path / "run"
    trained(folder, epochs=1)
    best = (folder / "checkpoints" / "best.ckpt").read_bytes()
    AtomicCheckpointIO().save_checkpoint({"other": 1}, folder / "checkpoints" / "last.ckpt")
    assert (folder / "checkpoints" / "best.ckpt").read_bytes() == best


def test_killed_between_last_and_best(tmp_path, trained, monkeypatch):
    """The best epoch is in last.ckpt, best.ckpt is still the one before."""
    link = "dreibein.train.epochs.link_or_copy"
    folder = tmp_path / "run"
    trained(folder, epochs=1, warmup_steps=1, schedule="constant")
    older = (folder / "checkpoints" / "best.ckpt").read_bytes()

    def killed(source, target):
        raise InterruptedError

    monkeypatch.setattr(link, killed)
    with pytest.raises(InterruptedError):
        trained(folder, epochs=2, warmup_steps=1, schedule="constant")
    monkeypatch.undo()
    assert (folder / "checkpoints" / "best.ckpt").read_bytes() == older
    result, _ = trained(folder, epochs=2, warmup_steps=1, schedule="constant")
    assert result.best_epoch == 2
    best = read_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert best["state"]["epoch"] == 2


def test_used_up_time_stays_used_up(tmp_path, trained):
    first, _ = trained(tmp_path / "run", max_time=1e-9)
    again, _ = trained(tmp_path / "run", max_time=1e-9)
    assert (first.reason, again.reason) == ("time", "time")
    assert again.steps == first.steps
    more, _ = trained(tmp_path / "run", max_time=1e9)
    assert more.reason == "epochs"


def rewritten(path, **changes):
    state = torch.load(path, weights_only=True)
    torch.save(state | changes, path)


def test_a_newer_format_is_refused(tmp_path, trained):
    trained(tmp_path / "run", epochs=1)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    rewritten(last, format=99, version="7.0")
    with pytest.raises(
        ValueError,
        match=r"has checkpoint format 99, this version reads up to 1: update dreibein .*by 7.0",
    ):
        trained(tmp_path / "run", epochs=1)


def test_other_training_or_data_are_refused(tmp_path, trained):
    trained(tmp_path / "run", epochs=1)
    with pytest.raises(ValueError, match=r"training.lr is 0.5 but was 0.003 when .* was written"):
        trained(tmp_path / "run", epochs=1, lr=0.5)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    rewritten(last, num_structures=3)
    with pytest.raises(ValueError, match="while training on 3 structures, now there are 17"):
        trained(tmp_path / "run", epochs=1)


class Bomb:
    """Code that an unpickler would run."""

    def __reduce__(self):
        return (os.mkdir, ("bomb-went-off",))


@pytest.mark.parametrize("content", ["text", "cut", "code", "foreign"])
def test_bad_checkpoints_are_refused_and_never_run(tmp_path, trained, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.ckpt"
    if content == "text":
        path.write_text("no checkpoint")
    elif content == "foreign":
        torch.save({"weights": 1}, path)
    elif content == "code":
        torch.save({"kind": Bomb()}, path)
    else:
        AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"last.ckpt is (damaged or )?not a .*checkpoint of dre"):
        read_checkpoint(path)
    assert not (tmp_path / "bomb-went-off").exists()
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "none.ckpt")
