"""Epochs: batches, validation, rows of metrics.csv, checkpoints, the end."""

import difflib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader
from torch_geometric.data import Batch

from dreibein import __version__
from dreibein.train.checkpoints import FORMAT, KIND, link_or_copy
from dreibein.train.config import LossTerm, TrainingConfig
from dreibein.train.frames import Frames
from dreibein.train.interrupts import StopRequest
from dreibein.train.loggers import make_loggers
from dreibein.train.metrics import MetricsFile
from dreibein.train.mixture import Mixture
from dreibein.train.order import Steps
from dreibein.train.reports import epoch_line, short_note
from dreibein.train.schedule import LearningRate
from dreibein.train.state import TrainingState, random_state, set_random_state
from dreibein.train.steps import Stepper, losses_of
from dreibein.train.validation import Meter, validate

logger = logging.getLogger(__name__)

Reason = Literal["epochs", "steps", "time", "patience", "interrupted"]
ProgressReport = Callable[[int, int, str], None]
Row = dict[str, float | None]
REPORT_INTERVAL_S = 0.2
# what may differ between a run and its continuation
CHANGEABLE = frozenset(
    {
        "epochs",
        "max_steps",
        "max_time",
        "patience",
        "checkpoint_epochs",
        "checkpoint_time",
        "loggers",
        "log_project",
        "num_workers",
        "devices",
        "num_nodes",
        "accelerator",
    }
)


def fixed_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Entries of two dumped configurations that differ though a continued run must keep them."""
    return [name for name in before if name not in CHANGEABLE and now.get(name) != before[name]]


class Training:
    """One training under way.

    Args:
        config: All choices.
        fabric: The launched processes.
        potential: Moved to the fabric's device.
        terms: Terms of the loss by label.
        train_frames: Structures to train on.
        validation_frames: Structures to validate on; without them the training loss is monitored.
        run_folder: Gets `metrics.csv` and `checkpoints/`.
        meter: Makes an empty error meter.
    """

    def __init__(
        self,
        config: TrainingConfig,
        fabric: Fabric,
        potential: nn.Module,
        terms: Mapping[str, LossTerm],
        train_frames: Frames,
        validation_frames: Frames | None,
        run_folder: Path,
        meter: Callable[[], Meter],
    ) -> None:
        self.config, self.fabric, self.meter, self.terms = config, fabric, meter, terms
        self.potential = potential.to(fabric.device).train()
        self.train_frames, self.validation_frames = train_frames, validation_frames
        self.folder, self.checkpoints = run_folder, run_folder / "checkpoints"
        self.train_steps, self.train_loader = self._loader(train_frames, config.order_seed)
        if validation_frames:
            self.validation_steps, self.validation_loader = self._loader(validation_frames, None)
        self.total_steps = config.epochs * len(self.train_steps)
        if config.max_steps is not None:
            self.total_steps = min(self.total_steps, config.max_steps)
        self.stepper = Stepper(
            config,
            fabric,
            self.potential,
            terms,
            LearningRate(config, self.total_steps),
            train_frames.describe,
        )
        self.state = TrainingState()
        self.saved_at = time.monotonic()
        self.note = ""

    def _loader(self, frames: Frames, seed: int | None) -> tuple[Steps, DataLoader[Batch]]:
        mixed = frames.structures if isinstance(frames.structures, Mixture) else None
        steps = Steps(
            len(frames),
            self.config.batch_size,
            seed=seed,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            pool=len(mixed.old) if mixed else 0,
            drawn=mixed.drawn if mixed else 0,
        )
        workers = self.config.num_workers
        loader = DataLoader(
            frames,
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.fabric.device.type == "cuda",
            generator=torch.Generator(),  # the global one stays as the checkpoint knows it
        )
        return steps, loader

    def _batches(self, loader: DataLoader[Batch]) -> Iterator[Batch]:
        on_cpu = self.fabric.device.type == "cpu"
        for batch in loader:
            yield batch if on_cpu else batch.to(self.fabric.device, non_blocking=True)

    def run(self, request: StopRequest, progress: ProgressReport) -> Reason:
        """Train to the end, or until asked to stop; returns why it ended."""
        if (self.checkpoints / "last.ckpt").exists():
            self._restore(self.checkpoints / "last.ckpt")
        self._check_monitor()
        if self.fabric.is_global_zero:
            self.metrics = MetricsFile(self.folder / "metrics.csv", self.state.epoch)
            self.loggers = make_loggers(self.config, self.folder)
        reason = self._finished() or self._out_of_time()
        while reason is None:
            reason = self._train_epoch(request, progress)
            if reason == "interrupted":
                return reason
            self._end_epoch(final=reason is not None)
            progress(self.state.step, self.total_steps, self.note)
            reason = reason or self._finished()
        if self.fabric.is_global_zero:
            for other in self.loggers:
                other.finalize("success")
        return reason

    def _finished(self) -> Reason | None:
        """Why no further epoch is to start."""
        state, config = self.state, self.config
        if config.max_steps is not None and state.step >= config.max_steps:
            return "steps"
        if state.epoch >= config.epochs:
            return "epochs"
        if config.patience is not None and state.epoch - state.best_epoch >= config.patience:
            return "patience"
        return None

    def _out_of_time(self) -> Reason | None:
        """Whether a continued run had used up its time; later on the processes vote on it."""
        limit = self.config.max_time
        over = limit is not None and self.state.epoch > 0 and self.state.seconds >= limit
        return "time" if over else None

    def _train_epoch(self, request: StopRequest, progress: ProgressReport) -> Reason | None:
        state, config = self.state, self.config
        self.train_steps.start(state.epoch, state.step_in_epoch)
        started = time.monotonic() - state.epoch_seconds
        shown = 0.0
        reason: Reason | None = None
        for batch in self._batches(self.train_loader):
            now = time.monotonic()
            state.epoch_seconds = now - started
            seconds = state.seconds + state.epoch_seconds
            late = config.max_time is not None and seconds >= config.max_time
            save = now - self.saved_at >= config.checkpoint_time
            votes = self.stepper.step(batch, state.step, [float(bool(request)), late, save])
            state.step += 1
            state.step_in_epoch += 1
            if votes[0]:
                self._save()
                return "interrupted"
            if votes[1] or state.step == config.max_steps:
                reason = "time" if votes[1] else "steps"
                break
            if votes[2]:
                self._save()
            if now - shown >= REPORT_INTERVAL_S:
                shown = now
                progress(state.step, self.total_steps, self.note)
        self.stepper.look()
        self._validate_and_record(started)
        return reason

    def _validate_and_record(self, started: float) -> None:
        """Close the epoch: losses, validation, its row."""
        state = self.state
        row: Row = {"epoch": state.epoch + 1, "step": state.step}
        row["lr"] = self.stepper.rate(state.step - 1)
        losses = losses_of(self.stepper.take_sums(), self.terms)
        row |= {"seconds": None} | {f"train_{name}": value for name, value in losses.items()}
        error = losses["loss"]
        if self.validation_frames:
            errors = self._validate(self.validation_frames)
            row |= {f"val_{name}": value for name, value in errors.items()}
            error = errors[self.config.monitor]
        state.epoch_seconds = time.monotonic() - started
        row["seconds"] = state.epoch_seconds
        self.row, self.error = row, error

    def _validate(self, frames: Frames) -> dict[str, float]:
        with self.stepper.average.applied():
            return validate(
                self.fabric,
                self.potential,
                self._batches(self.validation_loader),
                self.terms,
                frames.labels,
                self.meter(),
                frames.describe,
            )

    def _end_epoch(self, final: bool) -> None:
        """Count the epoch, judge it, write its row, save."""
        state = self.state
        state.epoch += 1
        state.step_in_epoch = 0
        state.seconds += state.epoch_seconds
        state.epoch_seconds = 0.0
        self.stepper.rate.end_epoch(self.error)
        best = state.judge(self.error)
        if self.fabric.is_global_zero:
            self.metrics.append(self.row)
            for other in self.loggers:
                numbers = {k: v for k, v in self.row.items() if v is not None}
                other.log_metrics(numbers, step=state.step)
        line = epoch_line(self.row, self.config, self.total_steps)
        logger.info("%s", line, extra={"epoch_line": True})
        self.note = short_note(self.row, self.config)
        due = state.epoch % self.config.checkpoint_epochs == 0
        if best or due or final or self._finished():
            self._save()
        if best and self.fabric.is_global_zero:
            link_or_copy(self.checkpoints / "last.ckpt", self.checkpoints / "best.ckpt")

    def _check_monitor(self) -> None:
        """Refuse an unknown monitored error before the first epoch, not after it."""
        name = self.config.monitor
        if name == "loss" or not self.validation_frames:
            return
        self.validation_steps.start(0, len(self.validation_steps) - 1)  # the last batch alone
        known = self._validate(self.validation_frames)
        self.validation_steps.start(0)
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.0)[0]
            raise ValueError(
                f"training.monitor is '{name}', which validation does not give: "
                f"did you mean '{near}'?"
            )

    def _save(self) -> None:
        """Write `last.ckpt`; every process must call this."""
        self.stepper.look()
        checkpoint = {
            "kind": KIND,
            "format": FORMAT,
            "version": __version__,
            "training": self.config.model_dump(mode="json"),
            "num_structures": len(self.train_frames),
            "state": self.state.state_dict(),
            "random": random_state(),
            **self.stepper.state_dict(),
        }
        self.fabric.save(self.checkpoints / "last.ckpt", checkpoint)
        self.saved_at = time.monotonic()

    def _restore(self, path: Path) -> None:
        """Take up where a checkpoint left off."""
        saved = self.fabric.load(path)
        mine = self.config.model_dump(mode="json")
        for name in fixed_changes(saved["training"], mine):
            raise ValueError(
                f"training.{name} is {mine.get(name)} but was {saved['training'][name]} when "
                f"{path} was written: continue with the same value, or start a new run"
            )
        if saved["num_structures"] != len(self.train_frames):
            raise ValueError(
                f"{path} was written while training on {saved['num_structures']} structures, now "
                f"there are {len(self.train_frames)}: continue with the same data, or start anew"
            )
        try:
            self.stepper.load_state_dict(saved)
        except RuntimeError as error:
            raise ValueError(f"{path} is of another model: start a new run") from error
        self.state.load_state_dict(saved["state"])
        set_random_state(saved["random"])
        if self.fabric.is_global_zero and self._just_best():
            link_or_copy(path, self.checkpoints / "best.ckpt")  # killed before it could be
        logger.info("continuing after epoch %d, step %d", self.state.epoch, self.state.step)

    def _just_best(self) -> bool:
        """Whether the state is that of the end of the best epoch."""
        state = self.state
        return state.epoch == state.best_epoch > 0 and state.step_in_epoch == 0

    def load_best(self) -> None:
        """Put the averaged weights of the best epoch into the potential."""
        self.fabric.barrier()
        saved = self.fabric.load(self.checkpoints / "best.ckpt")
        self.potential.load_state_dict(saved["weights"])
        self.stepper.average.load_state_dict(saved["average"])
        self.stepper.average.put()
