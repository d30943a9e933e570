"""`dreibein parity`: the same frame through every engine."""

from pathlib import Path
from typing import Annotated, Any

import typer


def parity(
    model: Annotated[Path, typer.Argument(help="Model file, or the folder of a run.")],
    structure: Annotated[str, typer.Argument(help="Structure file (last frame) or SMILES.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSON file. [parity.json beside the model]"),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Timed calls of each row.")] = 5,
    charge: Annotated[
        float | None, typer.Option(help="Total charge in e. [that of the file, or 0]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the conformer of a SMILES string.")] = 0,
) -> None:
    """Evaluate one frame in every engine installed, by every backend and precision, and compare.

    The reference is autograd in float64 by ASE. The exit status is 1 when something differs.
    """
    import json

    from dreibein.cli.console import out, progress_bar
    from dreibein.cli.md import load_potential, read_start
    from dreibein.models import model_file
    from dreibein.simulate import measure_parity
    from dreibein.systems import atomic_path

    path = model_file(model)
    potential = load_potential(path, "cpu", None)
    atoms = read_start(structure, charge, seed)
    with progress_bar("parity") as progress:
        report = measure_parity(potential, atoms, repeat=repeat, progress=progress)
    target = output or path.parent / "parity.json"
    record = {"model": path.name, "structure": structure, **report.model_dump(mode="json")}
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    show(report)
    out.print(f"written to {target}")
    if not report.agrees:
        raise typer.Exit(1)


def show(report: Any) -> None:
    """Print one line a row."""
    from rich.table import Table

    from dreibein.cli.console import out

    scale = f"{report.formula}, {report.atoms} atoms; largest force {report.largest_force:.3g} eV/Å"
    if report.largest_stress is not None:
        scale += f", stress {report.largest_stress:.3g} eV/Å³"
    out.print(scale)
    table = Table(box=None, padding=(0, 1, 0, 0))  # fits 80 columns
    columns = ("engine", "backend", "bits", "energy", "Δenergy", "Δforces", "Δstress", "ms", "")
    for k, name in enumerate(columns):
        table.add_column(name, justify="right" if 1 < k < 8 else "left", no_wrap=True)
    for row in report.rows:
        if row.energy is None:
            table.add_row(row.engine, *["-"] * 7, row.note)
            continue
        errors = (row.energy_error, row.forces_error, row.stress_error)
        table.add_row(
            row.engine,
            row.backend,
            row.precision.removeprefix("float"),
            f"{row.energy:.6f}",
            *("-" if error is None else f"{error:.1e}" for error in errors),
            f"{row.milliseconds:.2f}",
            "agrees" if row.agrees else "DIFFERS",
        )
    out.print(table)
    out.print("energies in eV, forces in eV/Å, stress in eV/Å³; Δ: largest difference")
