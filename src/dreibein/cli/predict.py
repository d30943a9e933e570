"""`dreibein predict`: energies, forces and stress of many structures."""

from pathlib import Path
from typing import Annotated

import typer

from dreibein.cli.bench import LIMIT, limit_of


def predict(
    model: Annotated[Path, typer.Argument(help="Model file, or folder of a run.")],
    structures: Annotated[list[Path], typer.Argument(help="Files that ASE reads, all frames.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="An extxyz file.")],
    batch_atoms: Annotated[int, typer.Option(help="Atoms of a batch at most.")] = 2000,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output that is there.")
    ] = False,
    dask: Annotated[
        str | None,
        typer.Option(
            help="Address of a Dask scheduler (tcp://host:8786), whose workers evaluate; or a "
            "number of processes to start here."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    dtype: Annotated[
        str | None, typer.Option(help="float32 or float64. [that of the model file]")
    ] = None,
    backend: Annotated[
        str,
        typer.Option(help="auto, reference (autograd), fused (tables, no autograd), cuda."),
    ] = "auto",
    memory: Annotated[str, typer.Option(help=LIMIT)] = "0",
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
    start, limit = time.perf_counter(), limit_of(memory)
    if dask is not None:
        if device != "cpu" or dtype is not None:
            raise ValueError("with --dask, workers take the model as it is: leave out the device")
        if limit is not None:
            raise ValueError("with --dask, workers have no memory limit: leave out --memory")
        given = (structures, model, output, dask, backend, batch_atoms, overwrite)
        frames = predict_far(*given)
        out.print(f"frames   {frames}, {time.perf_counter() - start:.1f} s in this call")
        out.print(f"results  {output}")
        return
    frozen = freeze(load_potential(model, device, dtype), backend, memory=limit)
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


def predict_far(
    structures: list[Path],
    model: Path,
    output: Path,
    dask: str,
    backend: str,
    batch_atoms: int,
    overwrite: bool,
) -> int:
    """Evaluate on the workers of a Dask cluster; a number is that of a cluster started here."""
    from contextlib import ExitStack
    from typing import Any

    from dreibein.cli.console import progress_bar
    from dreibein.simulate.dask_predictions import predict_with_dask
    from dreibein.simulate.engines import import_engine

    with ExitStack() as stack:
        client: Any = dask
        if dask.isdigit():
            distributed = import_engine("distributed", "dask")
            cluster = distributed.LocalCluster(
                int(dask), threads_per_worker=1, dashboard_address=None
            )
            client = stack.enter_context(distributed.Client(stack.enter_context(cluster)))
        progress = stack.enter_context(progress_bar("predict"))
        return predict_with_dask(
            structures,
            model,
            output,
            client,
            backend=backend,
            batch_atoms=batch_atoms,
            overwrite=overwrite,
            progress=progress,
        )
