"""From a molecule to a checked potential: labels, training, errors, dynamics, report."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from dreibein.data import DataConfig, read_structure
from dreibein.evaluate.records import Evaluation
from dreibein.evaluate.report import write_report
from dreibein.label import LabelConfig, LabelSummary, generate_labels
from dreibein.models import TensorNetConfig, load_model
from dreibein.models.storage import MODEL_NAME
from dreibein.recipes.config import RunConfig
from dreibein.recipes.training import train_run
from dreibein.simulate import DynamicsConfig, DynamicsResult, run_dynamics
from dreibein.simulate.dynamics_result import SUMMARY_NAME
from dreibein.simulate.restarts import RESTART_NAME
from dreibein.systems import atomic_path
from dreibein.train import TrainingConfig

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
Stage = Callable[[str], AbstractContextManager[Progress]]

SETTINGS_NAME = "demo.json"
HELD_OUT = 0.1  # of the frames for validation, and as many for the test


class DemoConfig(BaseModel):
    """Choices of one demonstration; with the defaults it takes minutes on two cores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    molecule: str = Field("CCO", min_length=1, description="SMILES string or structure file")
    method: str = Field("GFN2-xTB", description="level of theory of the labels")
    frames: int = Field(1000, ge=50, description="labeled frames, a fifth of them held out")
    temperature_k: float = Field(500.0, gt=0, description="temperature of the labels in K")
    epochs: int = Field(60, ge=1, description="passes over the training frames")
    channels: int = Field(64, ge=2, description="channels of the network")
    duration_ps: float = Field(5.0, gt=0, description="length of the NVE run in ps")
    seed: int = Field(0, ge=0, description="seed of labels, split, weights, order, velocities")


@dataclass(frozen=True)
class DemoResult:
    """What a demonstration left in its folder.

    Attributes:
        folder: The run folder.
        labels: How the frames were made.
        evaluation: Errors on the held-out test frames, and the laws measured.
        dynamics: The NVE run.
        report: The page to look at.
    """

    folder: Path
    labels: LabelSummary
    evaluation: Evaluation
    dynamics: DynamicsResult
    report: Path


def demo_run(config: DemoConfig, folder: str | Path, *, stage: Stage) -> DemoResult:
    """Label, train, test, simulate, report; a run that was stopped goes on where it was.

    The same configuration gives the same numbers on the same machine.

    Args:
        config: The choices.
        folder: Run folder; made if absent, continued if it holds the same demonstration.
        stage: Opens the display of one stage: title -> context manager of a progress function.

    Raises:
        ValueError: The folder holds something else.
        ImportError: The packages that make labels are missing.
    """
    folder = Path(folder)
    _claim(folder, config)
    frames = folder / "labels.extxyz"
    with stage("label") as progress:
        labels = generate_labels(label_config(config), frames, progress=progress)
    training = folder / "training"
    with _one_thread():
        if not (training / MODEL_NAME).is_file():
            with stage("train") as progress:
                _train(config, frames, training, progress)
        with stage("NVE dynamics") as progress:
            dynamics = _simulate(config, training, progress)
    report = write_report(training)
    evaluation = Evaluation.load(training / "evaluation.json")
    return DemoResult(training, labels, evaluation, dynamics, report)


def label_config(config: DemoConfig) -> LabelConfig:
    """How the demonstration makes its frames."""
    return LabelConfig(
        structure=config.molecule,
        method=config.method,
        frames=config.frames,
        temperature_k=config.temperature_k,
        seed=config.seed,
    )


def training_config(config: DemoConfig, frames: Path) -> RunConfig:
    """How the demonstration trains: a two-layer TensorNet, a cosine schedule, averaged weights."""
    return RunConfig(
        name="demo",
        data=DataConfig(
            sources=[str(frames)],
            labels=["energy", "forces"],
            level_of_theory=config.method,
            validation=HELD_OUT,
            test=HELD_OUT,
            split_seed=config.seed,
        ),
        model=TensorNetConfig(channels=config.channels, layers=2, cutoff=5.0, knots=128),
        training=TrainingConfig(
            epochs=config.epochs,
            batch_size=8,
            lr=1e-3,
            ema_decay=0.998,
            model_seed=config.seed,
            order_seed=config.seed,
        ),
    )


def dynamics_config(config: DemoConfig) -> DynamicsConfig:
    """How the demonstration simulates: NVE from the relaxed molecule, near 300 K on average."""
    return DynamicsConfig(
        ensemble="nve",
        duration_ps=config.duration_ps,
        timestep_fs=0.5,
        temperature_k=600.0,  # half of it goes into the relaxed molecule's vibrations
        relax_first=True,
        seed=config.seed,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch on one thread: for a few atoms a second one gains nothing, and waits for the first.

    It also makes the numbers those of every machine of the kind, whatever its cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _claim(folder: Path, config: DemoConfig) -> None:
    """Make the folder this demonstration's, or see that it is already."""
    settings = folder / SETTINGS_NAME
    if settings.is_file():
        if json.loads(settings.read_text()) != config.model_dump():
            raise ValueError(
                f"{folder} holds a demonstration with other settings ({settings}); "
                "choose another folder, or remove that one"
            )
        logger.info("going on in %s", folder)
        return
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; choose another folder for the demonstration")
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(settings) as side:
        side.write_text(config.model_dump_json(indent=1))


def _train(config: DemoConfig, frames: Path, folder: Path, progress: Progress) -> None:
    begun = (folder / "checkpoints" / "last.ckpt").is_file()
    options: dict[str, Any] = {"resume": folder} if begun else {"folder": folder}
    train_run(training_config(config, frames), progress=progress, **options)


def _simulate(config: DemoConfig, folder: Path, progress: Progress) -> DynamicsResult:
    run = folder / "md"
    choices = dynamics_config(config)
    summary = run / SUMMARY_NAME
    if summary.is_file():
        done = DynamicsResult.model_validate_json(summary.read_text())
        if done.steps_done >= choices.num_steps:
            return done
    begun = (run / RESTART_NAME).is_file()
    atoms = None if begun else read_structure(config.molecule, seed=config.seed)
    potential = load_model(folder / MODEL_NAME)
    return run_dynamics(atoms, potential, choices, run, restart=begun, progress=progress)
