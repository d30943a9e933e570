"""Table, figures and page of a study."""

import json
from collections.abc import Sequence
from pathlib import Path

from dreibein.evaluate.report.formats import MISSING, digits, whole
from dreibein.evaluate.report.markup import Markup, Section, Table, paragraph, text
from dreibein.evaluate.report.page import complete_page
from dreibein.recipes.study.config import Piece, StudyConfig
from dreibein.recipes.study.figures import Panel, curves, dots, scatter
from dreibein.recipes.study.poses import POSES_NAME, SIDES
from dreibein.recipes.study.tables import (
    COST_NAMES,
    MEAN_RELATIVE,
    Row,
    main_metrics,
    records_of,
    write_tables,
)
from dreibein.systems.files import atomic_path

PAGE_NAME = "study.html"
FIGURES = "figures"
TABLE_NAME = "table.md"
COMPARISONS = ("representations", "frames", "embeddings", "networks")
COST_WORDS = dict(zip(COST_NAMES, (
    "numbers of an atom", "multiply-adds / edge", "bytes / edge", "forward / ms",
    "training step / ms", "kept for gradients / MiB",
)))  # fmt: skip
BARS = "Dots are means over seeds, bars reach from the smallest to the largest."


def write_study(study: StudyConfig, folder: Path, pieces: Sequence[Piece]) -> Path:
    """Write all CSV files, table.md, the figures and the page; returns its path."""
    records = records_of(folder, pieces)
    tables = write_tables(study, folder, records)
    drawn = {name: svg for name, svg in _drawn(study, tables).items() if svg}
    (folder / FIGURES).mkdir(exist_ok=True)
    for name, svg in drawn.items():
        with atomic_path(folder / FIGURES / f"{name}.svg") as path:
            path.write_text(svg, encoding="utf-8")
    table = _table(tables["table"], main_metrics(study))
    with atomic_path(folder / TABLE_NAME) as path:
        path.write_text(_markdown(table), encoding="utf-8")
    sections = [_table_section(table)]
    for name in (*COMPARISONS, "learning-curves", "cost", "error-cost"):
        body = ""
        if name in drawn:
            source = "table.csv" if "cost" in name else f"{name}.csv"
            body = f"<figure>{Markup(drawn[name])}</figure>" + paragraph(
                f"{BARS} Numbers in {source}."
            )
        title = name.replace("-", " ").capitalize()
        sections.append(Section(name, title, body, "Nothing of it is in this study."))
    sections.append(_about(study, folder, len(records), len(pieces)))
    top = f"<header><h1>Representations</h1>{paragraph(_subtitle(study))}</header>"
    path = folder / PAGE_NAME
    with atomic_path(path) as side:
        side.write_text(complete_page(folder.resolve().name, top, sections), encoding="utf-8")
    return path


def _drawn(study: StudyConfig, tables: dict[str, list[Row]]) -> dict[str, str]:
    """SVG of each figure, empty where there is nothing to compare."""
    metrics = main_metrics(study)
    found = {}
    for name in COMPARISONS:
        rows = tables[name]
        panels = [
            Panel(_title(metric, unit), [_point(row, metric) for row in rows])
            for metric, unit in metrics.items()
        ]
        panels.append(Panel("mean RMSE / scatter", [_point(row, MEAN_RELATIVE) for row in rows]))
        shown = panels if len(metrics) > 1 else panels[:1]
        found[name] = dots([row["label"] for row in rows], shown) if len(rows) > 1 else ""
    rows = [row for row in tables["table"] if row["step_ms"]]
    found["cost"] = found["error-cost"] = found["learning-curves"] = ""
    if rows:
        panels = [
            Panel(words, [(row[n],) * 3 if row[n] is not None else None for row in rows])
            for n, words in COST_WORDS.items()
            if n != "dim"
        ]
        found["cost"] = dots([row["label"] for row in rows], panels)
        groups = {
            name: [
                (
                    row["label"].removeprefix(f"{study.representation}, "),
                    row["step_ms"],
                    _point(row, MEAN_RELATIVE),
                )
                for row in tables[name]
            ]
            for name in COMPARISONS
        }
        seen: set[str] = set()
        for name, group in groups.items():  # a choice stands in the first comparison that has it
            groups[name] = [point for point in group if point[0] not in seen]
            seen.update(point[0] for point in group)
        groups = {name: group for name, group in groups.items() if group}
        found["error-cost"] = scatter(groups, "training step / ms", "mean RMSE / scatter")
    if tables["learning-curves"]:
        lines: dict[str, dict[str, list[tuple[float, tuple[float, float, float]]]]] = {}
        for metric, unit in metrics.items():
            panel = lines.setdefault(_title(metric, unit), {})
            for row in tables["learning-curves"]:
                panel.setdefault(row["label"], []).append((row["size"], _point(row, metric)))
        found["learning-curves"] = curves(lines, "training structures")
    return found


def _point(row: Row, metric: str) -> tuple[float, float, float]:
    return row[metric], row[f"{metric}_low"], row[f"{metric}_high"]


def _title(metric: str, unit: str) -> str:
    plain = unit.replace("*", "·").replace("^2", "²").replace("^3", "³")
    return f"{metric.split('_mae')[0]}, MAE / {plain or '1'}"


def _number(row: Row, name: str) -> str:
    error = row[f"{name}_error"]
    return digits(row[name]) + (f" ± {digits(error, 1)}" if error is not None else "")


def _table(rows: list[Row], metrics: dict[str, str]) -> Table:
    """One row for each choice at the full training set."""
    header = ["choice", "features", "parameters", "steps", *(COST_WORDS[n] for n in COST_NAMES[1:])]
    header += [_title(name, unit) for name, unit in metrics.items()]
    header += ["mean RMSE / scatter", "seeds"]
    table = Table(header, numeric=range(2, len(header)))
    for row in rows:
        cells = [row["label"], row["features"], whole(row["parameters"]), row["steps"]]
        cells += [MISSING if row[n] is None else digits(row[n]) for n in COST_NAMES[1:]]
        cells += [_number(row, name) for name in (*metrics, MEAN_RELATIVE)]
        table.rows.append([*cells, row["seeds"]])
    return table


def _table_section(table: Table) -> Section:
    note = paragraph("Means and standard errors over seeds; numbers in table.csv.")
    body = table.render() + note if table.rows else ""
    return Section("table", "Table", body, "No piece is finished.")


def _markdown(table: Table) -> str:
    """The table as it stands in a page of Markdown."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def _about(study: StudyConfig, folder: Path, done: int, total: int) -> Section:
    poses = json.loads((folder / POSES_NAME).read_text(encoding="utf-8"))
    lines = [f"{done} of {total} trainings are finished."]
    for side in SIDES:
        found = poses[side]
        before, after = found["orientation"], found["orientation_after"]
        lines.append(
            f"{side}: {found['frames']} frames of {', '.join(found['sources'])}; probability of "
            f"such orientations by chance {before['probability']:.2g} as they came, "
            f"{after['probability']:.2g} in the random poses of this study."
        )
    scales = ", ".join(f"{name} {value:.4g}" for name, value in poses["scales"].items())
    lines.append(f"Scatter of the labels, which relative errors are divided by: {scales}.")
    settings = ", ".join(f"{name} {getattr(study, name)}" for name in (
        "steps", "batch_size", "lr", "channels", "width", "layers", "cutoff"))  # fmt: skip
    lines.append(f"Every training: {settings}; equal {study.budget}.")
    return Section("about", "Data and training", "".join(paragraph(text(line)) for line in lines))


def _subtitle(study: StudyConfig) -> str:
    data = ", ".join(Path(source).name for source in study.data.sources)
    return f"{data}: {', '.join(study.target)}, {study.steps} steps, LoCaFormer"
