"""`dreibein predict`: energies, forces and stress of many structures."""

from pathlib import Path
from typing import Annotated

import typer


def predict(
    model: Annotated[Path, typer.Argument(help="Model file, or folder of a run.")],
    structures: Annotated[list[Path], typer.Argument(help="Files that ASE reads, all frames.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="An extxyz file.")],
    batch_atoms: Annotated[int, typer.Option(help="Atoms of a batch at most.")] = 2000,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output that is there.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    dtype: Annotated[
        str | None, typer.Option(help="float32 or float64. [that of the model file]")
    ] = None,
    backend: Annotated[
        str, typer.Option(help="auto, reference (autograd) or fused (tables, no autograd).")
    ] = "auto",
) -> None:
    """Evaluate a model on every frame of some files and write extended XYZ.

    An interrupted run goes on when it is called again in the same way.
    """
    import time

    from dreibein.cli.console import out, progress_bar
    from dreibein.cli.md import load_potential
    from dreibein.nn import freeze
    from dreibein.simulate import predict_structures

    if not output.parent.is_dir():
        raise ValueError(f"the folder {output.parent} does not exist; make it first")
    missing = [path for path in structures if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"there is no file {missing[0]}")
    frozen = freeze(load_potential(model, device, dtype), backend)
    start = time.perf_counter()
    with progress_bar("predict") as progress:
        frames = predict_structures(
            structures,
            frozen,
            output,
            batch_atoms=batch_atoms,
            overwrite=overwrite,
            progress=progress,
        )
    out.print(f"frames   {frames}, {time.perf_counter() - start:.1f} s in this call")
    out.print(f"backend  {frozen.describe()}")
    out.print(f"results  {output}")
