"""`dreibein label`: reference labels from quantum chemistry."""

from pathlib import Path
from typing import Annotated, Any

import typer


def label(
    structure: Annotated[
        str,
        typer.Argument(
            help="SMILES string (CCO), or a structure file: its last frame, or file@: for all."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="extxyz file to write.")],
    method: Annotated[
        str | None,
        typer.Option(
            help="GFN2-xTB, GFN1-xTB, functional/basis or HF/basis, as in PBE/def2-SVP. [GFN2-xTB]"
        ),
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Frames to sample. [1000]")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of the dynamics in K. [500]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of conformers, velocities and noise. [0]")
    ] = None,
    single_points: Annotated[
        bool,
        typer.Option("--single-points", help="Label every frame of a file, without dynamics."),
    ] = False,
    difference: Annotated[
        bool,
        typer.Option(
            "--difference",
            help="With --single-points: labels of the file less those of the method, to train a "
            "correction on.",
        ),
    ] = False,
    correction: Annotated[
        str | None,
        typer.Option(help="Model trained on differences to the method, added to it."),
    ] = None,
    hessian: Annotated[
        bool,
        typer.Option(
            "--hessian", help="Second derivatives as well: 6N more calculations for each frame."
        ),
    ] = False,
    charge: Annotated[
        int | None, typer.Option(help="Total charge in e. [that of the file or SMILES, or 0]")
    ] = None,
    spin: Annotated[
        int | None, typer.Option(help="Spin multiplicity. [that of the file or SMILES, or 1]")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Method or trained model that drives the dynamics. [an xTB method itself, else "
            "GFN2-xTB]"
        ),
    ] = None,
    trajectories: Annotated[
        int | None, typer.Option(help="Independent trajectories that share the frames. [20]")
    ] = None,
    timestep: Annotated[float | None, typer.Option(help="Time step in fs. [1]")] = None,
    friction: Annotated[float | None, typer.Option(help="Langevin friction in 1/ps. [50]")] = None,
    equilibration: Annotated[
        float | None, typer.Option(help="Time in fs before a trajectory's first frame. [500]")
    ] = None,
    interval: Annotated[float | None, typer.Option(help="Time in fs between frames. [50]")] = None,
    keep_broken: Annotated[
        bool, typer.Option("--keep-broken", help="Keep frames whose bonds have changed.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes of one thread each. [one a core]")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output of other settings.")
    ] = False,
) -> None:
    """Sample geometries of a molecule or cell, label them by quantum chemistry, write extxyz.

    The same settings and seed give the same file, byte for byte on one machine. A run that was
    stopped goes on when the same command is given again.
    """
    from dreibein.cli.console import progress_bar
    from dreibein.label import generate_labels

    given = {
        "structure": structure,
        "method": method,
        "frames": frames,
        "temperature_k": temperature,
        "seed": seed,
        "single_points": single_points or None,
        "difference": difference or None,
        "correction": correction,
        "hessian": hessian or None,
        "charge": charge,
        "spin": spin,
        "sampler": sampler,
        "trajectories": trajectories,
        "timestep_fs": timestep,
        "friction_per_ps": friction,
        "equilibration_fs": equilibration,
        "interval_fs": interval,
        "keep_broken": keep_broken or None,
    }
    config = make_config({name: value for name, value in given.items() if value is not None})
    try:
        with progress_bar("label") as progress:
            summary = generate_labels(
                config, output, workers=workers, overwrite=overwrite, progress=progress
            )
    except KeyboardInterrupt:
        typer.echo("dreibein: stopped; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    print_summary(summary, config)


def make_config(given: dict[str, Any]) -> Any:
    """Configuration of the options given, on top of the defaults.

    Raises:
        ValueError: A value is not allowed; one sentence.
    """
    from pydantic import ValidationError

    from dreibein.label import LabelConfig

    try:
        return LabelConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {what}, got {first['input']!r}" if where else what) from error


def print_summary(summary: Any, config: Any) -> None:
    """Print the table that ends a run."""
    from rich.table import Table

    from dreibein.cli.console import out

    rows = [("frames", f"{summary.frames} at {summary.method}")]
    if summary.failed:
        rows.append(("left out", f"{len(summary.failed)} that did not converge"))
    if summary.sampler is not None:
        rows.append(
            (
                "dynamics",
                f"{summary.sampler}, {config.temperature_k:g} K, {summary.trajectories} "
                f"trajectories from {summary.conformers} start(s), {config.timestep_fs:g} fs "
                f"steps, a frame every {config.interval_fs:g} fs",
            )
        )
        restarts = summary.restarts_bonds + summary.restarts_convergence
        rows.append(
            (
                "broken",
                f"{restarts} trajectories started again ({summary.restarts_bonds} with changed "
                f"bonds), {summary.broken_frames} broken frames kept",
            )
        )
    if summary.energy_autocorrelation is not None:
        rows.append(
            (
                "autocorrelation",
                f"{summary.energy_autocorrelation:.3f} of the energy from frame to frame, "
                f"integrated {summary.correlation_time_fs:.0f} fs",
            )
        )
    rows += [
        ("energy", f"{summary.energy_mean_ev:.4f} ± {summary.energy_spread_ev:.4f} eV"),
        ("forces", f"{summary.forces_rms_ev_per_a:.3f} eV/Å rms"),
        ("time", f"{summary.seconds:.1f} s"),
        ("results", f"{summary.output}, {summary.output.name}.json"),
    ]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    out.print(table)
