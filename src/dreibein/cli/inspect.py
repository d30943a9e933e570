"""`dreibein inspect`: the data doctor on the command line."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dreibein.data import DataConfig, Examination
    from dreibein.data.examination import LabelCount

Files = Annotated[
    list[str],
    typer.Argument(
        help="Files (extxyz and all that ASE reads, .db, .npz, .h5), or names: qm9, rmd17:ethanol.",
        show_default=False,
    ),
]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", help="Where a label stands: energy=REF_energy. May be repeated."),
]
Units = Annotated[
    list[str] | None,
    typer.Option("--unit", help="Unit in the files: energy=kcal/mol, length=Bohr. Repeatable."),
]
StressSign = Annotated[
    str, typer.Option("--stress-sign", help="What is positive in the files: tension, compression.")
]
StressOrder = Annotated[
    str,
    typer.Option("--stress-order", help="Order of six-number stresses in the files."),
]
AllowNan = Annotated[
    bool, typer.Option("--allow-nan", help="Mask NaN labels instead of refusing them.")
]
Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="Folder of named data sets; default $DREIBEIN_DATA or a cache."),
]

_KEYS_SHOWN = 12
_COMPOSITIONS_SHOWN = 5
_STYLE = {"refusal": "bold red", "warning": "yellow", "info": "green"}


def inspect(
    files: Files,
    key: Keys = None,
    unit: Units = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="A label that training needs; refused where it is nowhere."),
    ] = None,
    stress_sign: StressSign = "tension",
    stress_order: StressOrder = "xx yy zz yz xz xy",
    allow_nan: AllowNan = False,
    folder: Folder = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Examine data before training: keys, units, ranges, outliers, duplicates, stress sign.

    Exit status 0 if training would start, 1 if it would be refused, 2 if the input is wrong.
    """
    from dreibein.cli.console import progress_bar
    from dreibein.data import examine, load_data

    config = data_config(
        files, key, unit, label, stress_sign, stress_order, allow_nan=allow_nan, folder=folder
    )
    with progress_bar("reading") as report:
        dataset = load_data(config, strict=False, progress=report)
    with progress_bar("examining") as report:
        examination = examine(dataset, required=config.labels, progress=report)
    if json:
        typer.echo(examination.model_dump_json(indent=2))
    else:
        show(examination)
    if examination.refused:
        raise typer.Exit(1)


def data_config(
    files: list[str],
    key: list[str] | None,
    unit: list[str] | None,
    label: list[str] | None,
    stress_sign: str,
    stress_order: str,
    *,
    allow_nan: bool,
    folder: Path | None,
) -> "DataConfig":
    """The typed configuration of the shared options; errors become one sentence."""
    from pydantic import ValidationError

    from dreibein.data import DataConfig

    values: dict[str, Any] = {
        "sources": files,
        "keys": pairs(key, "--key", "energy=REF_energy"),
        "units": pairs(unit, "--unit", "energy=kcal/mol"),
        "labels": label or [],
        "stress_convention": {"sign": stress_sign, "order": stress_order},
        "allow_nan": allow_nan,
        "folder": folder,
    }
    try:
        return DataConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        option = {"sign": "--stress-sign", "order": "--stress-order"}.get(str(first["loc"][-1]), "")
        message = str(first["msg"]).removeprefix("Value error, ")
        given = "" if "order" in option else f" (given: '{first['input']}')"
        raise ValueError(f"{option}: {message}{given}") from error


def pairs(items: list[str] | None, option: str, example: str) -> dict[str, str]:
    """'a=b' options as a dict.

    >>> pairs(["energy=E", "forces=F"], "--key", "energy=REF_energy")
    {'energy': 'E', 'forces': 'F'}
    """
    found: dict[str, str] = {}
    for item in items or []:
        name, separator, value = item.partition("=")
        if not separator or not name or not value:
            raise ValueError(f"{option}: '{item}' is not of the form {example}")
        found[name.strip()] = value.strip()
    return found


def show(examination: "Examination") -> None:
    """Print tables and findings."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    from dreibein.cli.console import out

    e = examination
    for source in e.sources:
        name, frames = escape(source["name"]), _number(source["frames"], "frame")
        out.print(f"[bold]{name}[/bold]  {source['kind']}, {frames}")
        unused = list(source["unused_keys"] or {})[:_KEYS_SHOWN]
        if unused:
            out.print(
                f"  also there, not read as labels: {', '.join(unused)}", style="dim", markup=False
            )
    elements = ", ".join(f"{s} {n['atoms']:,}" for s, n in e.elements.items())
    facts = {
        "frames": f"{e.frames:,} with {e.atoms:,} atoms ({elements})",
        "compositions": _counts(e.compositions, _COMPOSITIONS_SHOWN),
        "cells": _counts(e.cells, 8),
        "kinds": _counts(e.config_types, 8),
        "level of theory": e.level_of_theory or "not stated",
    }
    out.print()
    for name, text in facts.items():
        if text:
            out.print(f"{name:>15}  {text}", markup=False)
    labels = RichTable("label", "found as", "present", "unit", "because", title_justify="left")
    for name, count in e.labels.items():
        labels.add_row(
            name,
            escape("\n".join(count.found)),
            _present(count, e.frames),
            count.unit,
            count.reason,
        )
    ranges = RichTable("", "unit", "lowest", "median", "highest", "std", "in frames")
    for name, r in e.ranges.items():
        numbers = (_figure(x) for x in (r.minimum, r.median, r.maximum, r.spread))
        ranges.add_row(name, r.unit, *numbers, f"{r.frame_of_minimum} … {r.frame_of_maximum}")
    for column in ranges.columns[2:]:
        column.justify = "right"
    for table in (labels, ranges):
        if table.row_count:
            out.print()
            out.print(table, soft_wrap=False)
    if e.forces_rms_by_element:
        rms = ", ".join(f"{s} {v:.3f}" for s, v in e.forces_rms_by_element.items())
        out.print(f"\nforce rms by element (eV/Å): {rms}")
    if e.reference_energies:
        energies = ", ".join(f"{s} {v:.3f}" for s, v in e.reference_energies.items())
        out.print(f"fitted reference energies (eV): {energies}")
    if e.examined_frames < e.frames:
        out.print(f"distances, outliers and pairs: {e.examined_frames:,} of {e.frames:,} frames")
    _show_findings(e)


def _show_findings(examination: "Examination") -> None:
    from rich.markup import escape
    from rich.table import Table as RichTable

    from dreibein.cli.console import out

    table = RichTable(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in examination.findings:
        style = _STYLE[finding.severity]
        table.add_row(f"[{style}]{finding.severity}[/]", finding.topic, escape(finding.message))
    out.print()
    if table.row_count:
        out.print(table, soft_wrap=False)
        out.print()
    refusals = len(examination.refusals())
    warnings = sum(f.severity == "warning" for f in examination.findings)
    if refusals:
        told = f"{_number(refusals, 'refusal')}, {_number(warnings, 'warning')}"
        out.print(f"[bold red]training would be refused[/]: {told}")
    else:
        out.print(f"[bold green]ready for training[/]: {_number(warnings, 'warning')}")


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if number else f"no {noun}s"


def _counts(counts: dict[str, int], shown: int) -> str:
    """'C2H6O 1,000, CH4 3, … (7 more)'."""
    items = [f"{name} {number:,}" for name, number in counts.items()]
    more = len(items) - shown
    return ", ".join(items[:shown]) + (f", … ({more:,} more)" if more > 0 else "")


def _present(count: "LabelCount", frames: int) -> str:
    """'all 500 frames', or what is there of what could be."""
    if count.entries == count.of:
        return f"all {frames:,} frames"
    text = f"{count.frames:,} of {frames:,} frames"
    if count.per_atom:
        text += f"\n{count.entries:,} of {count.of:,} atoms"
    return text


def _figure(value: float) -> str:
    """Six significant digits, no exponents where they can be avoided."""
    size = abs(value)
    if size < 1e-12:
        return "0.0000"
    if size < 1e-4 or size >= 1e7:
        return f"{value:.3e}"
    decimals = 4 if size < 1000 else 2
    return f"{value:,.{decimals}f}"
