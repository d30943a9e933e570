"""Training from the first step to the last, resumable at every step."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import nn

from dreibein.train.config import LossTerm, TrainingConfig
from dreibein.train.devices import launch
from dreibein.train.epochs import ProgressReport, Reason, Training
from dreibein.train.frames import Frames, Structures
from dreibein.train.interrupts import graceful_stop
from dreibein.train.validation import Meter

OFFERED = ("energy", "forces", "stress")  # by a potential that does not say what it can compute
UNASKED = ("energies", "virial", "hessian")  # compared only where the loss has them


@dataclass(frozen=True)
class FitResult:
    """How a training ended; the potential holds the best (averaged) weights.

    Attributes:
        reason: Why it ended; "interrupted" means that it can be continued.
        epochs: Epochs completed.
        steps: Steps completed.
        best_epoch: Epoch (from 1) with the lowest monitored error.
        best_error: That error: a loss, or an error in meV, meV/Å or meV/Å³.
        seconds: Time spent training, over all sessions.
    """

    reason: Reason
    epochs: int
    steps: int
    best_epoch: int
    best_error: float
    seconds: float


def fit(
    config: TrainingConfig,
    potential: nn.Module,
    train_set: Structures,
    validation_set: Structures | None,
    run_folder: Path,
    *,
    meter: Callable[[], Meter],
    fabric: Fabric | None = None,
    progress: ProgressReport | None = None,
) -> FitResult:
    """Train a potential; continues from `checkpoints/last.ckpt` where there is one.

    Continuing gives, on the CPU, the same numbers to the last digit as never having stopped. On
    return the potential, in evaluation mode, holds the weights of the best epoch (averaged where
    `ema_decay` is set).

    Args:
        config: All choices.
        potential: Anything with `cutoff` whose forward gives predictions by name.
        train_set: Structures with labels.
        validation_set: Held-out structures; without them the training loss is monitored.
        run_folder: Gets `metrics.csv` and `checkpoints/`.
        meter: Makes an empty error meter.
        fabric: The launched processes, if they are launched already.
        progress: Called with steps done, steps altogether and a note on the last epoch.

    Raises:
        ValueError: No labels to train on, an unknown monitored error, a loss that is not a
            number (naming the frames), or a checkpoint of another run.
        OSError: A checkpoint could not be written; the previous one is intact.
    """
    fabric = fabric or launch(config)
    names = tuple(train_set.label_names)
    offered: tuple[str, ...] = getattr(potential, "outputs", OFFERED)
    terms = terms_in_use(config, names, offered)
    labels = tuple(n for n in names if n in offered and (n in terms or n not in UNASKED))
    cutoff: float = potential.cutoff  # type: ignore[assignment]
    training = Training(
        config,
        fabric,
        potential,
        terms,
        Frames(train_set, cutoff, tuple(terms)),
        None if not validation_set else Frames(validation_set, cutoff, labels),
        run_folder,
        meter,
    )
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(config.matmul_precision)
    try:
        with graceful_stop() as request, warnings.catch_warnings():
            # DDP on gradients of weights with a single row, whose strides mean nothing
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")
            reason = training.run(request, progress or (lambda done, total, note: None))
    finally:
        torch.set_float32_matmul_precision(before)
    if reason != "interrupted":
        training.load_best()
    potential.eval()
    state = training.state
    return FitResult(reason, state.epoch, state.step, state.best_epoch, state.best, state.seconds)


def terms_in_use(
    config: TrainingConfig, label_names: tuple[str, ...], offered: tuple[str, ...]
) -> dict[str, LossTerm]:
    """Terms of the loss whose labels are there.

    Args:
        config: All choices.
        label_names: Labels of the training set.
        offered: What the model can compute.

    Raises:
        ValueError: A term that the configuration names has no label or no prediction, or no term
            has both.
    """
    terms = config.losses.terms()
    for name in terms:
        if name not in offered and name in config.losses.model_fields_set:
            raise ValueError(
                f"training.losses.{name} is set, but the model does not predict '{name}' "
                f"(it predicts {', '.join(offered)}): add model.targets.{name}, or set "
                f"training.losses.{name} to null"
            )
        if name not in label_names and name in config.losses.model_fields_set:
            raise ValueError(
                f"training.losses.{name} is set, but no structure of the training set has the "
                f"label '{name}' (it has {', '.join(label_names) or 'none'}): "
                f"name its key in data.keys, or set training.losses.{name} to null"
            )
    found = {n: term for n, term in terms.items() if n in label_names and n in offered}
    if not found:
        raise ValueError(
            f"the training set has none of the labels {', '.join(terms) or 'in the loss'} "
            f"(it has {', '.join(label_names) or 'none'}): name their keys in data.keys"
        )
    return found
