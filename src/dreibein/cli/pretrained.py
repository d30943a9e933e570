"""`dreibein pretrained`: public TensorNets by name."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Action(StrEnum):
    """What to do."""

    LIST = "list"
    FETCH = "fetch"


def pretrained(
    action: Annotated[Action, typer.Argument(help="list, or fetch NAME.", show_default=False)],
    name: Annotated[str | None, typer.Argument(help="Model to fetch.", show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Model file to write. [NAME.safetensors]"),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Folder of downloads, or one that has the files already. "
            "[$DREIBEIN_DATA/pretrained or a cache]"
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no server.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """List public TensorNets, or fetch one: download with resume, check, import."""
    from dreibein.cli.console import out, progress_bar
    from dreibein.recipes.pretrained import fetch_pretrained, find_pretrained

    if action == Action.LIST:
        return show()
    if name is None:
        raise ValueError("name the model to fetch; dreibein pretrained list has all")
    entry = find_pretrained(name)
    target = output or Path(f"{entry.name}.safetensors")
    with progress_bar("download") as progress:
        potential = fetch_pretrained(
            entry, target, folder=folder, offline=offline, overwrite=overwrite, progress=progress
        )
    card = potential.card
    out.print(f"{target}: {card['name']}, {card['level_of_theory']}", markup=False)
    license = card["license"] or f"not stated, see {card['page']}"
    out.print(f"  license {license}", markup=False)
    for file, checksum in card["imported"]["files"].items():
        out.print(f"  {file}  sha256 {checksum}", markup=False)
    for note in card["imported"]["notes"]:
        out.print(f"  {note}", markup=False)
    return None


def show() -> None:
    """Print what is known."""
    from dreibein.cli.console import out
    from dreibein.recipes.pretrained import MODELS

    wide = max(len(model.name) for model in MODELS)
    for model in MODELS:
        line = (
            f"{model.name:<{wide}}  {model.family:<11}  {model.level_of_theory:<18}  "
            f"{len(model.elements):2d} elements  {model.license or 'see page':<12}  {model.page}"
        )
        out.print(line + ("" if model.url else " (withdrawn: give --folder)"), markup=False)
