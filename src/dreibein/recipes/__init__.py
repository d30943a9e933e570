"""Whole, typed runs: the only room that names a model, a data set and a schedule."""

from dreibein.recipes.config import RunConfig
from dreibein.recipes.config_file import load_config
from dreibein.recipes.ensembles import train_ensemble
from dreibein.recipes.presets import PRESETS, preset
from dreibein.recipes.pretrained import Pretrained, fetch_pretrained, find_pretrained
from dreibein.recipes.run_frames import held_out_frames
from dreibein.recipes.training import Run, TrainingInterrupted, train_run

__all__ = [
    "PRESETS",
    "Pretrained",
    "Run",
    "RunConfig",
    "TrainingInterrupted",
    "fetch_pretrained",
    "find_pretrained",
    "held_out_frames",
    "load_config",
    "preset",
    "train_ensemble",
    "train_run",
]
