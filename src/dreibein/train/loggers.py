"""Loggers besides metrics.csv, by name."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreibein.train.config import TrainingConfig

PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}


def check_loggers(names: Sequence[str]) -> None:
    """Refuse a logger whose package is not installed, before anything is trained.

    Raises:
        ImportError: Naming the extra to install.
    """
    for name in names:
        if not any(importlib.util.find_spec(package) for package in PACKAGES[name]):
            raise ImportError(
                f"training.loggers names {name}, which is not installed: "
                f'pip install "dreibein[{name}]"'
            )


def make_loggers(config: TrainingConfig, run_folder: Path) -> list[Any]:
    """Lightning loggers that write below the run folder (wandb: and to its server)."""
    check_loggers(config.loggers)
    loggers: list[Any] = []
    if "tensorboard" in config.loggers:
        from lightning.fabric.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(run_folder, name="", version="tensorboard"))
    if "wandb" in config.loggers:
        from lightning.pytorch.loggers import WandbLogger

        loggers.append(
            WandbLogger(project=config.log_project, name=run_folder.name, save_dir=run_folder)
        )
    return loggers
