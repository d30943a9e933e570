"""Results of a study as rows: means, errors and ranges over seeds; a CSV behind each figure."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dreibein.evaluate import metric_name
from dreibein.evaluate.errors import UNIT_TEXT, relative_name
from dreibein.recipes.study.config import Choice, Piece, StudyConfig
from dreibein.recipes.study.costs import COSTS_NAME, read_costs, write_rows

PIECE_NAME = "piece.json"
MEAN_RELATIVE = "mean_relative"
COST_NAMES = ("dim", "multiply_adds", "bytes", "forward_ms", "step_ms", "saved_mib")
Row = dict[str, Any]


def records_of(folder: Path, pieces: Sequence[Piece]) -> list[Row]:
    """What finished pieces wrote."""
    paths = [folder / "pieces" / piece.name / PIECE_NAME for piece in pieces]
    found = [json.loads(p.read_text(encoding="utf-8")) for p in paths if p.is_file()]
    for record in found:
        relative = [v for n, v in record["metrics"].items() if n.endswith("_rmse_relative")]
        record["metrics"][MEAN_RELATIVE] = statistics.mean(relative) if relative else None
    return found


def main_metrics(study: StudyConfig) -> dict[str, str]:
    """The error of each target that tables and figures show, and its unit."""
    heads = study.heads()
    found = {}
    for name in (*reversed(study.of_energy), *heads):
        unit = heads[name].unit or "" if name in heads else UNIT_TEXT[name]
        key = metric_name(name, "mae", unit if name in heads else None)
        found[key] = unit
    return found


def all_metrics(study: StudyConfig) -> list[str]:
    """Main metrics, relative errors, and the mean of the latter."""
    names = (*reversed(study.of_energy), *study.heads())
    return [*main_metrics(study), *(relative_name(name) for name in names), MEAN_RELATIVE]


def summarize(records: Sequence[Row], metrics: Sequence[str]) -> list[Row]:
    """Mean, standard error, smallest and largest over seeds of every choice and size.

    >>> rows = [{"representation": "a", "frames": "soft", "size": 1, "parameters": 2,
    ...          "features": "1n", "train_seconds": 1.0, "peak_mib": None, "steps": 5,
    ...          "metrics": {"e": e}} for e in (1.0, 3.0)]
    >>> [(row["e"], row["e_error"], row["e_low"], row["seeds"]) for row in summarize(rows, ["e"])]
    [(2.0, 1.0, 1.0, 2)]
    """
    groups: dict[tuple[Choice, int], list[Row]] = {}
    for record in records:
        choice = Choice(**{n: record[n] for n in Choice.model_fields if n in record})
        groups.setdefault((choice, record["size"]), []).append(record)
    rows = []
    for (choice, size), group in groups.items():
        row: Row = {
            "label": choice.label,
            **choice.model_dump(),
            "size": size,
            "features": group[0]["features"],
            "seeds": len(group),
            "parameters": group[0]["parameters"],
            "steps": group[0]["steps"],
            "train_seconds": round(statistics.mean(r["train_seconds"] for r in group), 2),
            "peak_mib": max((r["peak_mib"] or 0 for r in group), default=0),
        }
        for name in metrics:
            values = [float(r["metrics"][name]) for r in group]
            error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
            row |= {name: statistics.mean(values), f"{name}_error": error}
            row |= {f"{name}_low": min(values), f"{name}_high": max(values)}
        rows.append(row)
    return rows


def write_tables(study: StudyConfig, folder: Path, records: Sequence[Row]) -> dict[str, list[Row]]:
    """Write pieces.csv, table.csv and a CSV for each comparison; the rows by their names."""
    flat = [{**{n: v for n, v in r.items() if n != "metrics"}, **r["metrics"]} for r in records]
    rows = summarize(records, all_metrics(study))
    costs = {cost.choice: cost for cost in read_costs(folder / COSTS_NAME)}
    for row in rows:
        cost = costs.get(_choice(row))
        row |= {name: getattr(cost, name) if cost else None for name in COST_NAMES}
    full = max((row["size"] for row in rows), default=0)
    found = {"pieces": flat, "table": [row for row in rows if row["size"] == full]}
    for name, belongs in _comparisons(study).items():
        found[name] = [row for row in found["table"] if belongs(_choice(row))]
    on_curve = {study.choice_of(name) for name in study.curves} if study.sizes else set()
    found["learning-curves"] = [row for row in rows if _choice(row) in on_curve]
    for name, some in found.items():
        if some:
            write_rows(folder / f"{name}.csv", some)
    return found


def _comparisons(study: StudyConfig) -> dict[str, Callable[[Choice], bool]]:
    """Which choices differ from the reference in one thing."""
    usual = study.reference
    return {
        "representations": lambda c: usual == c.model_copy(
            update={"representation": usual.representation}
        ),
        "frames": lambda c: usual == c.model_copy(update={"frames": usual.frames}),
        "embeddings": lambda c: usual == c.model_copy(
            update={"radial": usual.radial, "angular": usual.angular}
        ),
        "networks": lambda c: c == usual or c.network != usual.network,
    }  # fmt: skip


def _choice(row: Row) -> Choice:
    return Choice(**{name: row[name] for name in Choice.model_fields})
