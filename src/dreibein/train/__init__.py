"""Training: loss, loop, checkpoints, resume, several devices."""

from dreibein.train.config import (
    Constant,
    Cosine,
    EnergyTerm,
    LabelTerm,
    Losses,
    LossTerm,
    Plateau,
    TrainingConfig,
)
from dreibein.train.devices import launch
from dreibein.train.fit import FitResult, fit
from dreibein.train.mixture import Mixture

__all__ = [
    "Constant",
    "Cosine",
    "EnergyTerm",
    "FitResult",
    "LabelTerm",
    "LossTerm",
    "Losses",
    "Mixture",
    "Plateau",
    "TrainingConfig",
    "fit",
    "launch",
]
