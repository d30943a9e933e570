"""`dreibein export`: a model as a program of torch alone."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[Path, typer.Argument(help="Model file, or the folder of a run.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write, OUT.pt2.", show_default=False)
    ],
    aot: Annotated[
        bool,
        typer.Option(
            "--aot",
            help="Compile now, for this kind of machine: faster, and loads in C++. Needs g++ or "
            "clang++ and a minute or two.",
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    dtype: Annotated[
        str | None, typer.Option(help="float32 or float64. [that of the model file]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Write a model for programs that have torch but not this package: Python, or C++ (--aot).

    Energy, energies, forces and virial of any number of atoms and edges, by the reference path.
    """
    from dreibein.cli.console import out
    from dreibein.cli.md import load_potential
    from dreibein.models import model_file
    from dreibein.simulate import export_potential, read_export

    if output.exists() and not overwrite:
        raise FileExistsError(f"'{output}' exists; give another name or --overwrite")
    potential = load_potential(model_file(model), device, dtype)
    with out.status("tracing and compiling" if aot else "tracing"):
        export_potential(potential, output, aot=aot)
    for name, value in read_export(output).items():
        out.print(f"{name:<24} {value}", highlight=False, markup=False)
    out.print(f"written to {output} ({output.stat().st_size / 1e6:.1f} MB)")
