"""Whole, typed runs: the only room that names a model, a data set and a schedule."""

from dreibein.recipes.config import RunConfig
from dreibein.recipes.config_file import load_config
from dreibein.recipes.presets import PRESETS, preset
from dreibein.recipes.training import Run, TrainingInterrupted, held_out_frames, train_run

__all__ = [
    "PRESETS",
    "Run",
    "RunConfig",
    "TrainingInterrupted",
    "held_out_frames",
    "load_config",
    "preset",
    "train_run",
]
