"""Table, CSV files and page of a study."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dreibein.evaluate.report.figures import SERIES, axis
from dreibein.evaluate.report.markup import Section, Spec, Table, figure, paragraph, text
from dreibein.evaluate.report.page import complete_page
from dreibein.recipes.study.config import Piece, StudyConfig
from dreibein.recipes.study.costs import COSTS_NAME, Cost, read_costs, write_rows
from dreibein.recipes.study.poses import POSES_NAME
from dreibein.systems.files import atomic_path

PIECE_NAME = "piece.json"
PAGE_NAME = "study.html"
MAIN = {"forces": "forces_mae_mev_per_a", "energy": "energy_mae_mev"}
UNITS = {"forces_mae_mev_per_a": "meV/Å", "energy_mae_mev": "meV"}
Row = dict[str, Any]


def write_study(study: StudyConfig, folder: Path, pieces: Sequence[Piece]) -> Path:
    """Write pieces.csv, table.csv, a CSV for each figure, and the page; returns its path."""
    records = [
        json.loads(path.read_text(encoding="utf-8"))
        for piece in pieces
        if (path := folder / "pieces" / piece.name / PIECE_NAME).is_file()
    ]
    metrics = [MAIN[name] for name in ("forces", "energy") if name in study.target]
    costs = {(cost.representation, cost.frames): cost for cost in read_costs(folder / COSTS_NAME)}
    flat = [{**_without(r), **r["metrics"]} for r in records]
    if flat:
        write_rows(folder / "pieces.csv", flat)
    rows = summarize(records, metrics)
    full = max((row["size"] for row in rows), default=0)
    whole = [row for row in rows if row["size"] == full]
    tables = {
        "representations": [row for row in whole if row["frames"] == "soft"],
        "frames": [row for row in whole if row["representation"] == study.representation],
        "learning-curves": [row for row in rows if _on_curve(row, study)],
    }
    joined = [{**row, **_cost(costs, row)} for row in whole]
    if joined:
        write_rows(folder / "table.csv", joined)
    for name, some in tables.items():
        if some:
            write_rows(folder / f"{name}.csv", some)
    sections = [
        _table_section(joined, metrics),
        _bars("representations", "Representations", tables["representations"], metrics, _by_reps),
        _bars("frames", "Frames", tables["frames"], metrics, lambda row: str(row["frames"])),
        _curves(tables["learning-curves"], metrics[0]),
        _cost_section(joined, metrics[0]),
        _about(study, folder, len(records), len(pieces)),
    ]
    top = f"<header><h1>Representations</h1>{paragraph(_subtitle(study, folder))}</header>"
    path = folder / PAGE_NAME
    with atomic_path(path) as side:
        side.write_text(complete_page(folder.resolve().name, top, sections), encoding="utf-8")
    return path


def summarize(records: Sequence[Row], metrics: Sequence[str]) -> list[Row]:
    """Mean and standard error over seeds of every choice.

    >>> rows = [{"representation": "a", "frames": "soft", "size": 1, "parameters": 2, "reps": "1n",
    ...          "train_seconds": 1.0, "peak_mib": None, "metrics": {"e": e}} for e in (1.0, 3.0)]
    >>> [(row["e"], row["e_error"], row["seeds"]) for row in summarize(rows, ["e"])]
    [(2.0, 1.0, 2)]
    """
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for record in records:
        key = (record["representation"], record["frames"], record["size"])
        groups.setdefault(key, []).append(record)
    rows = []
    for (representation, frames, size), group in groups.items():
        row: Row = {
            "representation": representation,
            "frames": frames,
            "size": size,
            "reps": group[0]["reps"],
            "seeds": len(group),
            "parameters": group[0]["parameters"],
            "train_seconds": round(statistics.mean(r["train_seconds"] for r in group), 2),
            "peak_mib": max((r["peak_mib"] or 0 for r in group), default=0),
        }
        for name in metrics:
            values = [float(r["metrics"][name]) for r in group]
            spread = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
            row[name], row[f"{name}_error"] = statistics.mean(values), spread
        rows.append(row)
    return rows


def _without(record: Row) -> Row:
    return {name: value for name, value in record.items() if name != "metrics"}


def _cost(costs: dict[tuple[str, str], Cost], row: Row) -> Row:
    cost = costs.get((row["representation"], row["frames"]))
    names = ("dim", "multiply_adds", "bytes", "forward_ms", "step_ms")
    return {name: getattr(cost, name) if cost else None for name in names}


def _on_curve(row: Row, study: StudyConfig) -> bool:
    name = row["representation"] if row["frames"] == "soft" else row["frames"]
    return name in study.curves and bool(study.sizes)


def _by_reps(row: Row) -> str:
    return str(row["representation"])


def _number(row: Row, name: str) -> str:
    error = row[f"{name}_error"]
    return f"{row[name]:.1f}" + (f" ± {error:.1f}" if error is not None else "")


def _table_section(rows: list[Row], metrics: Sequence[str]) -> Section:
    header = ["representation", "frames", "features", "multiply-adds / edge", "bytes / edge"]
    header += ["forward, ms", "step, ms", "memory, MiB"]
    header += [f"{name.split('_')[0]} MAE, {UNITS[name]}" for name in metrics] + ["seeds"]
    table = Table(header, numeric=range(3, len(header)))
    for row in rows:
        measured = [row["multiply_adds"], row["bytes"], row["forward_ms"], row["step_ms"]]
        cells = [row["representation"], row["frames"], row["reps"], *measured]
        cells += [round(row["peak_mib"]), *(_number(row, name) for name in metrics), row["seeds"]]
        table.rows.append(cells)
    return Section("table", "Table", table.render() if rows else "", "No piece is finished.")


def _bars(
    name: str, title: str, rows: list[Row], metrics: Sequence[str], label: Callable[[Row], str]
) -> Section:
    plots = []
    for color, metric in zip(SERIES, metrics):
        trace = {
            "type": "scatter",
            "mode": "markers",
            "x": [label(row) for row in rows],
            "y": [row[metric] for row in rows],
            "error_y": {"array": [row[f"{metric}_error"] or 0 for row in rows]},
            "marker": {"color": color, "size": 9},
        }
        layout = {"yaxis": axis(UNITS[metric], rangemode="tozero"), "showlegend": False}
        heading = f"{metric.split('_')[0].capitalize()}, MAE on the test frames"
        spec = {"data": [trace], "layout": layout}
        caption = f"Mean and standard error over seeds; numbers in {name}.csv."
        plots.append(figure(f"{name}-{metric}", heading, spec, height=380, caption=caption))
    return Section(name, title, "".join(plots) if rows else "", "No piece is finished.")


def _curves(rows: list[Row], metric: str) -> Section:
    traces = []
    names = dict.fromkeys((row["representation"], row["frames"]) for row in rows)
    for color, key in zip(SERIES, names):
        some = [row for row in rows if (row["representation"], row["frames"]) == key]
        some.sort(key=lambda row: row["size"])
        trace: Spec = {"type": "scatter", "mode": "lines+markers", "name": f"{key[0]}, {key[1]}"}
        trace |= {"x": [row["size"] for row in some], "y": [row[metric] for row in some]}
        trace |= {"error_y": {"array": [row[f"{metric}_error"] or 0 for row in some]}}
        traces.append(trace | {"line": {"color": color}, "marker": {"color": color}})
    layout = {
        "xaxis": axis("training frames", type="log"),
        "yaxis": axis(UNITS[metric], type="log"),
    }
    spec = {"data": traces, "layout": layout}
    caption = "Equal steps at every size; numbers in learning-curves.csv."
    plot = figure("curves", "Error against the size of the training set", spec, height=400,
                  caption=caption)  # fmt: skip
    return Section("curves", "Learning curves", plot if rows else "", "The study names no sizes.")


def _cost_section(rows: list[Row], metric: str) -> Section:
    some = [row for row in rows if row["step_ms"]]
    trace = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [row["step_ms"] for row in some],
        "y": [row[metric] for row in some],
        "text": [f"{row['representation']}, {row['frames']}" for row in some],
        "textposition": "top center",
        "marker": {"color": SERIES[0], "size": 9},
    }
    layout = {"xaxis": axis("training step, ms"), "yaxis": axis(UNITS[metric]), "showlegend": False}
    spec = {"data": [trace], "layout": layout}
    caption = "Processor time of one thread, choices taking turns; numbers in table.csv."
    plot = figure("cost", "Error against the cost of a step", spec, height=420, caption=caption)
    return Section("cost", "Cost", plot if some else "", "Nothing is measured yet.")


def _about(study: StudyConfig, folder: Path, done: int, total: int) -> Section:
    poses = json.loads((folder / POSES_NAME).read_text(encoding="utf-8"))
    lines = [f"{done} of {total} trainings are finished."]
    for side, found in poses.items():
        before, after = found["orientation"], found["orientation_after"]
        lines.append(
            f"{side}: {found['frames']} frames of {', '.join(found['sources'])}; probability of "
            f"such orientations by chance {before['probability']:.2g} as they came, "
            f"{after['probability']:.2g} in the random poses of this study."
        )
    settings = ", ".join(f"{name} {getattr(study, name)}" for name in (
        "steps", "batch_size", "lr", "channels", "width", "layers", "cutoff"))  # fmt: skip
    lines.append(f"Every training: {settings}.")
    return Section("about", "Data and training", "".join(paragraph(text(line)) for line in lines))


def _subtitle(study: StudyConfig, folder: Path) -> str:
    data = ", ".join(Path(source).name for source in study.data.sources)
    return f"{data}: {' and '.join(study.target)}, {study.steps} steps, LoCaFormer"
