"""What a run folder holds: every part is optional, and read once."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreibein.evaluate.facts import model_facts
from dreibein.evaluate.predictions import Predictions
from dreibein.evaluate.records import Evaluation
from dreibein.models.storage import MODEL_NAME

EVALUATION_NAME = "evaluation.json"
PREDICTIONS_NAME = "predictions.npz"
REPORT_NAME = "report.html"
DYNAMICS_FOLDER = "md"
EVALUATE = "dreibein evaluate RUN DATA -o RUN"  # what to type for what is missing

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Dynamics:
    """One simulation with the trained model.

    Attributes:
        thermo: Columns of thermo.csv.
        summary: dynamics.json.
    """

    thermo: Columns
    summary: dict[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """Everything a report can show; None where the folder lacks it.

    Attributes:
        folder: Where it was read.
        epochs: Columns of metrics.csv, NaN where a cell is empty.
        evaluation: Errors on the test frames.
        predictions: References and predictions of the test frames.
        model: What the model file says of itself (`model_facts`).
        dynamics: The simulation.
        engines: What `dreibein parity` found.
        provenance: Where the data came from.
        splits: Frames of each split.
        config: The resolved configuration as written.
    """

    folder: Path
    epochs: Columns | None
    evaluation: Evaluation | None
    predictions: Predictions | None
    model: dict[str, Any] | None
    dynamics: Dynamics | None
    engines: dict[str, Any] | None
    provenance: dict[str, Any] | None
    splits: dict[str, Any] | None
    config: str | None

    @classmethod
    def read(cls, folder: str | Path) -> "RunRecord":
        """Read a run folder.

        Raises:
            OSError: No such folder.
            ValueError: It holds nothing of a run, or a damaged file.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"no run folder at {folder}")
        model = folder / MODEL_NAME
        evaluation, predictions = folder / EVALUATION_NAME, folder / PREDICTIONS_NAME
        record = cls(
            folder=folder,
            epochs=read_columns(folder / "metrics.csv"),
            evaluation=Evaluation.load(evaluation) if evaluation.is_file() else None,
            predictions=Predictions.load(predictions) if predictions.is_file() else None,
            model=model_facts(model) if model.is_file() else None,
            dynamics=_dynamics(folder / DYNAMICS_FOLDER),
            engines=_json(folder / "parity.json"),
            provenance=_json(folder / "provenance.json"),
            splits=_json(folder / "splits.json"),
            config=_text(folder / "config.yaml"),
        )
        parts = (record.epochs, record.evaluation, record.model, record.dynamics)
        if all(part is None for part in parts):
            raise ValueError(
                f"{folder} holds nothing to report (no metrics.csv, {EVALUATION_NAME}, "
                f"{MODEL_NAME} or {DYNAMICS_FOLDER}/thermo.csv); give the folder of a run"
            )
        return record


def read_columns(path: Path) -> Columns | None:
    """Columns of a CSV file of numbers, name -> [rows] float64; None without file or rows.

    An empty cell is NaN; a last line that is still being written is left out.
    """
    if not path.is_file():
        return None
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    if len(lines) < 2:
        return None
    names = lines[0]
    rows = [line for line in lines[1:] if len(line) == len(names)]
    table = np.array([[_number(cell) for cell in row] for row in rows]).reshape(-1, len(names))
    return dict(zip(names, table.T, strict=True))


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _dynamics(folder: Path) -> Dynamics | None:
    thermo = read_columns(folder / "thermo.csv")
    if thermo is None or "time_fs" not in thermo:
        return None
    return Dynamics(thermo=thermo, summary=_json(folder / "dynamics.json") or {})


def _json(path: Path) -> dict[str, Any] | None:
    text = _text(path)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); remove it or write it again") from error
    return value if isinstance(value, dict) else {"value": value}


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
