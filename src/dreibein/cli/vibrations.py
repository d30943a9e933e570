"""`dreibein vibrations`: normal modes, intensities and thermochemistry of a structure."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Method(StrEnum):
    """How the Hessian is made."""

    auto = "auto"
    analytic = "analytic"
    differences = "differences"


def vibrations(
    model: Annotated[Path, typer.Argument(help="Model file, or the folder of a run.")],
    structure: Annotated[str, typer.Argument(help="Structure file (last frame) or SMILES.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for JSON, CSV and HTML.")],
    relax: Annotated[
        bool, typer.Option("--relax", help="Go to the nearest minimum first.")
    ] = False,
    method: Annotated[
        Method, typer.Option(help="Hessian by autograd, or differences of forces.")
    ] = Method.auto,
    force_limit: Annotated[
        float, typer.Option(help="Longest force in eV/Å that counts as none.")
    ] = 0.02,
    temperature: Annotated[
        list[float] | None,
        typer.Option(help="Temperature in K of the thermochemistry; may be repeated. [298.15]"),
    ] = None,
    pressure: Annotated[float, typer.Option(help="Pressure of the gas in bar.")] = 1.01325,
    symmetry_number: Annotated[
        int | None, typer.Option(min=1, help="Rotations onto itself. [counted]")
    ] = None,
    charge: Annotated[
        float | None, typer.Option(help="Total charge in e. [that of the file, or 0]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the conformer of a SMILES string.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
) -> None:
    """Write the harmonic vibrations of a structure, with animated modes, into a folder."""
    from dreibein.cli.console import err, progress_bar
    from dreibein.cli.md import load_potential, read_start
    from dreibein.simulate.vibrations import Conditions, find_vibrations, write_vibrations

    potential = load_potential(model, device, None)
    atoms = read_start(structure, charge, seed)
    conditions = Conditions(tuple(temperature or (298.15,)), pressure, symmetry_number)
    with progress_bar("vibrations") as progress:
        found = find_vibrations(
            atoms,
            potential,
            relax=relax,
            method=method.value,
            force_limit=force_limit,
            conditions=conditions,
            progress=progress,
        )
    name = Path(structure).stem if Path(structure).exists() else structure
    page = write_vibrations(found, output, f"Vibrations of {name}")
    print_vibrations(found, page)
    if found.modes.num_imaginary:
        err.print(
            f"dreibein: {found.modes.num_imaginary} imaginary mode(s): this is no minimum; "
            "displace the structure along the first one and relax again"
        )


def print_vibrations(found: Any, page: Path) -> None:
    """Print the modes and the thermochemistry."""
    from rich.table import Table

    from dreibein.cli.console import out
    from dreibein.simulate.vibrations import mode_rows
    from dreibein.simulate.vibrations.page import wavenumber_text

    rows = mode_rows(found)
    columns = {"ir_intensity_km_per_mol": "IR km/mol", "raman_activity_a4_per_amu": "Raman Å⁴/amu"}
    shown = {key: title for key, title in columns.items() if rows and key in rows[0]}
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("mode", "cm⁻¹", *shown.values()):
        table.add_column(title, justify="right")
    table.add_column("motion")
    for row in rows:
        numbers = [f"{row[key]:.1f}" for key in shown]
        place = wavenumber_text(row["wavenumber_cm1"])
        table.add_row(str(row["mode"]), place, *numbers, row["name"])
    out.print(table)
    thermo = found.thermochemistry
    sigma = f", symmetry number {thermo.symmetry_number}" if thermo.symmetry_number else ""
    out.print(
        f"{thermo.treatment}{sigma}: zero-point energy {thermo.zero_point_energy:.4f} eV"
        + "".join(
            f"; at {r['temperature_k']:g} K free energy {r['free_energy_ev']:.4f} eV, entropy "
            f"{1000 * r['entropy_ev_per_k']:.4f} meV/K"
            for r in thermo.rows
        )
    )
    out.print(f"Hessian: {found.hessian.method} ({found.seconds:.1f} s in all); page: {page}")
