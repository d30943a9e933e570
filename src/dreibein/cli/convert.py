"""`dreibein convert`: any data to the HDF5 store or to extxyz, in the package's units."""

from pathlib import Path
from typing import Annotated

import typer

from dreibein.cli.inspect import (
    AllowNan,
    Files,
    Folder,
    Keys,
    StressOrder,
    StressSign,
    Units,
    data_config,
)

_TARGETS = (".h5", ".hdf5", ".extxyz", ".xyz")


def convert(
    inputs: Files,
    output: Annotated[
        Path,
        typer.Argument(help="OUT.h5 (store) or OUT.extxyz.", show_default=False),
    ],
    key: Keys = None,
    unit: Units = None,
    stress_sign: StressSign = "tension",
    stress_order: StressOrder = "xx yy zz yz xz xy",
    allow_nan: AllowNan = False,
    level_of_theory: Annotated[
        str | None, typer.Option("--level-of-theory", help="Method that made the labels.")
    ] = None,
    folder: Folder = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Convert data to one HDF5 store (for data larger than memory) or one extxyz file."""
    from dreibein.cli.console import out, progress_bar
    from dreibein.data.convert import convert_data

    if output.suffix not in _TARGETS:
        raise ValueError(f"'{output}': the output must end in one of {', '.join(_TARGETS)}")
    if output.exists() and not overwrite:
        raise FileExistsError(f"'{output}' exists; give another name or --overwrite")
    if not output.resolve().parent.is_dir():
        raise FileNotFoundError(f"there is no folder '{output.parent}' to write into")
    config = data_config(
        inputs, key, unit, None, stress_sign, stress_order, allow_nan=allow_nan, folder=folder
    ).model_copy(update={"level_of_theory": level_of_theory})
    with progress_bar("converting") as report:
        frames, labels = convert_data(config, output, progress=report)
    size = output.stat().st_size / 1e6
    out.print(
        f"{output}: {frames:,} frames, {', '.join(labels) or 'no labels'}, {size:.1f} MB",
        markup=False,
    )
