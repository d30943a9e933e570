"""`dreibein relax`: relax a structure, or its cell as well."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dreibein.cli.bench import LIMIT, limit_of


def relax(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    structure: Annotated[str, typer.Argument(help="Structure file (last frame) or SMILES.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Relaxed structure; the suffix says the format.",
        ),
    ],
    fmax: Annotated[float, typer.Option(help="Longest force at convergence in eV/Å.")] = 0.01,
    steps: Annotated[int, typer.Option(help="Most steps to take.")] = 500,
    cell: Annotated[bool, typer.Option("--cell", help="Relax the cell too.")] = False,
    pressure: Annotated[
        float, typer.Option(help="Pressure in GPa, with --cell (1 bar = 1e-4 GPa).")
    ] = 0.0,
    trajectory: Annotated[
        Path | None, typer.Option(help="Also write every step to this extxyz file.")
    ] = None,
    all_frames: Annotated[
        bool,
        typer.Option(
            "--all", help="Relax every frame of the file, many at once, to extxyz; resumable."
        ),
    ] = False,
    batch_atoms: Annotated[int, typer.Option(help="With --all: atoms of a batch at most.")] = 2000,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --all: replace an output that is there.")
    ] = False,
    charge: Annotated[
        float | None, typer.Option(help="Total charge in e. [that of the file, or 0]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the conformer of a SMILES string.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    dtype: Annotated[
        str | None, typer.Option(help="float32 or float64. [that of the model file]")
    ] = None,
    memory: Annotated[str, typer.Option(help=LIMIT)] = "0",
) -> None:
    """Relax a structure file or a SMILES string to the nearest minimum of the energy."""
    from dreibein.cli.console import err, progress_bar
    from dreibein.cli.md import load_potential, read_start
    from dreibein.nn import freeze
    from dreibein.simulate import relax_structure

    if not output.parent.is_dir():
        raise ValueError(f"the folder {output.parent} does not exist; make it first")
    potential = freeze(load_potential(model, device, dtype), memory=limit_of(memory))
    if all_frames:
        if cell or pressure or trajectory is not None or charge is not None:
            raise ValueError(
                "--all relaxes positions: leave out --cell, --pressure, --trajectory and --charge"
            )
        settings = {"fmax": fmax, "steps": steps, "batch_atoms": batch_atoms}
        return relax_all(Path(structure), potential, output, settings | {"overwrite": overwrite})
    atoms = read_start(structure, charge, seed)
    with progress_bar("relax") as progress:
        result = relax_structure(
            atoms,
            potential,
            fmax=fmax,
            steps=steps,
            cell=cell,
            pressure_gpa=pressure,
            trajectory=trajectory,
            progress=progress,
        )
    write_structure(result.atoms, output)
    print_result(result, potential.potential, output)
    if not result.converged:
        err.print(
            f"dreibein: not converged after {result.steps} steps (longest force "
            f"{result.max_force:.3g} eV/Å, asked for {fmax:g}); go on from {output}"
        )
        raise typer.Exit(1)
    return None


def relax_all(source: Path, potential: Any, output: Path, settings: dict[str, Any]) -> None:
    """Relax every frame of a file; the exit status is 1 when some did not converge."""
    from dreibein.cli.console import err, out, progress_bar
    from dreibein.simulate import relax_structures

    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    with progress_bar("relax") as progress:
        count, failed = relax_structures([source], potential, output, **settings, progress=progress)
    out.print(f"frames   {count}")
    out.print(f"results  {output}")
    if failed:
        err.print(
            f"dreibein: {failed} frames did not converge in {settings['steps']} steps; they have "
            f"converged=F in {output}"
        )
        raise typer.Exit(1)


def write_structure(atoms: Any, path: Path) -> None:
    """Write one structure in the format of its suffix, whole or not at all."""
    import ase.io

    from dreibein.systems import atomic_path

    with atomic_path(path) as side:
        try:
            ase.io.write(side, atoms)
        except ase.io.formats.UnknownFileTypeError as error:
            raise ValueError(
                f"ASE knows no format for '{path.name}'; name the output like relaxed.extxyz"
            ) from error


def print_result(result: Any, potential: Any, output: Path) -> None:
    """Print the table that ends a relaxation."""
    from rich.table import Table

    from dreibein.cli.console import out

    precision = str(potential.dtype).removeprefix("torch.")
    rows = [
        ("converged", f"{'yes' if result.converged else 'NO'}, after {result.steps} steps"),
        (
            "energy",
            f"{result.energy_after:.6f} eV ({result.energy_after - result.energy_before:+.6f})",
        ),
        ("longest force", f"{result.max_force:.3g} eV/Å"),
    ]
    if result.stress_error_gpa is not None:
        rows += [
            ("stress off by", f"{result.stress_error_gpa:.3g} GPa at most"),
            ("volume", f"{result.atoms.get_volume():.3f} Å³"),
        ]
    rows += [
        ("ran on", f"{potential.device}, {precision} ({result.seconds:.1f} s)"),
        ("result", f"{output}"),
    ]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    out.print(table)
