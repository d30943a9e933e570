"""`dreibein import`: a trained TensorNet of torchmd-net or matgl as a model file."""

from pathlib import Path
from typing import Annotated

import typer

FAMILIES = ("matgl", "torchmd-net")


def import_(
    family: Annotated[str, typer.Argument(help="matgl or torchmd-net.", show_default=False)],
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder with model.json and state.pt (matgl), checkpoint (torchmd-net).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Model file to write, .safetensors.")
    ],
    energy_unit: Annotated[
        str | None, typer.Option(help="Of energies in the source, such as kcal/mol.")
    ] = None,
    length_unit: Annotated[str | None, typer.Option(help="Of distances in the source.")] = None,
    elements: Annotated[
        str | None, typer.Option(help="Trained elements, such as H,C,N,O; others are refused.")
    ] = None,
    atoms: Annotated[
        int | None, typer.Option(min=1, help="Atoms of every training structure, if all alike.")
    ] = None,
    level_of_theory: Annotated[
        str | None, typer.Option("--level-of-theory", help="Method that made the labels.")
    ] = None,
    license: Annotated[str | None, typer.Option(help="License of the source.")] = None,
    mirrored: Annotated[
        bool,
        typer.Option(
            "--mirrored", help="An SO(3) network trained with torchmd-net's Warp kernels."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Turn a trained TensorNet of another package into a model file; nothing in it is run."""
    from dreibein.cli.console import out
    from dreibein.models import Stated, import_matgl, import_torchmdnet, save_model

    if family not in FAMILIES:
        raise ValueError(f"unknown family '{family}': use {' or '.join(FAMILIES)}")
    if output.suffix != ".safetensors":
        raise ValueError(f"'{output}': the output must end in .safetensors")
    if output.exists() and not overwrite:
        raise FileExistsError(f"'{output}' exists; give another name or --overwrite")
    stated = Stated(
        energy_unit=energy_unit,
        length_unit=length_unit,
        elements=atomic_numbers_of(elements),
        atoms=atoms,
        level_of_theory=level_of_theory,
        license=license,
        mirrored=mirrored,
    )
    read = import_matgl if family == "matgl" else import_torchmdnet
    potential = read(source, stated)
    save_model(potential, output)
    out.print(f"{output}: {type(potential.network).__name__} of {family}", markup=False)
    config = potential.config
    size = sum(parameter.numel() for parameter in potential.parameters())
    out.print(
        f"  {config.channels} channels, {config.layers} layers, cutoff {config.cutoff:g} Å, "
        f"{len(potential.elements)} elements, {size:,} parameters, "
        f"{str(potential.dtype).removeprefix('torch.')}",
        markup=False,
    )
    for note in potential.card["imported"]["notes"]:
        out.print(f"  {note}", markup=False)


def atomic_numbers_of(text: str | None) -> tuple[int, ...] | None:
    """Atomic numbers from symbols between commas or blanks.

    >>> atomic_numbers_of("H, C,O")
    (1, 6, 8)

    Raises:
        ValueError: A symbol that is no element.
    """
    from ase.data import atomic_numbers

    if text is None:
        return None
    symbols = text.replace(",", " ").split()
    wrong = [symbol for symbol in symbols if atomic_numbers.get(symbol, 0) < 1]
    if wrong or not symbols:
        raise ValueError(f"'{wrong[0] if wrong else text}' is no element; give symbols like H,C,O")
    return tuple(atomic_numbers[symbol] for symbol in symbols)
