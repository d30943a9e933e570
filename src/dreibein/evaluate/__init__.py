"""Errors, physical checks and the report."""

from dreibein.evaluate.checks import Check, Checks, choose_frames, run_checks
from dreibein.evaluate.errors import ErrorMeter, metric_name
from dreibein.evaluate.evaluation import evaluate_potential
from dreibein.evaluate.facts import model_facts
from dreibein.evaluate.frames import describe
from dreibein.evaluate.predictions import Predictions
from dreibein.evaluate.records import Evaluation

__all__ = [
    "Check",
    "Checks",
    "ErrorMeter",
    "Evaluation",
    "Predictions",
    "choose_frames",
    "describe",
    "evaluate_potential",
    "metric_name",
    "model_facts",
    "run_checks",
]
