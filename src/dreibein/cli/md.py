"""`dreibein md`: molecular dynamics with a model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dreibein.cli.bench import LIMIT, limit_of


def md(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    structure: Annotated[
        str | None,
        typer.Argument(help="Structure file (last frame) or SMILES; not needed with --restart."),
    ] = None,
    ensemble: Annotated[
        str | None, typer.Option(help="nve, langevin (constant T) or npt (constant T, p). [nve]")
    ] = None,
    ps: Annotated[float | None, typer.Option(help="Length of the run in ps. [1]")] = None,
    steps: Annotated[int | None, typer.Option(help="Length of the run in steps.")] = None,
    timestep: Annotated[float | None, typer.Option(help="Time step in fs. [0.5]")] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Temperature in K; in nve that of the initial velocities, about half of "
            "which stays as temperature when the start is relaxed. [300]"
        ),
    ] = None,
    friction: Annotated[float | None, typer.Option(help="Langevin friction in 1/ps. [5]")] = None,
    pressure: Annotated[
        float | None, typer.Option(help="Pressure in GPa (1 bar = 1e-4 GPa). [0]")
    ] = None,
    cell_changes: Annotated[
        str | None, typer.Option(help="npt: isotropic (shape kept) or full. [isotropic]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of velocities and noise. [0]")] = None,
    velocities: Annotated[
        str | None, typer.Option(help="maxwell (drawn) or structure (of the file). [maxwell]")
    ] = None,
    relax_first: Annotated[
        bool | None, typer.Option("--relax-first", help="Relax briefly before the start.")
    ] = None,
    log_interval: Annotated[
        int | None, typer.Option(help="Steps between lines of thermo.csv. [10]")
    ] = None,
    trajectory_interval: Annotated[
        int | None, typer.Option(help="Steps between frames of trajectory.extxyz. [100]")
    ] = None,
    restart_interval: Annotated[
        int | None, typer.Option(help="Steps between restart files. [1000]")
    ] = None,
    max_temperature: Annotated[
        float | None, typer.Option(help="Stop above this temperature in K. [5000 or 10 T]")
    ] = None,
    max_force: Annotated[
        float | None, typer.Option(help="Stop above this force in eV/Å. [200]")
    ] = None,
    alarms: Annotated[
        str | None,
        typer.Option(help="Structures unlike the training data: warn, stop, record or off. [warn]"),
    ] = None,
    charge: Annotated[
        float | None, typer.Option(help="Total charge in e. [that of the file, or 0]")
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(help='Electric field "x y z" in V/Å, for a model that takes one. [none]'),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Continue the run in the output folder.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run in the output folder.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    dtype: Annotated[
        str | None, typer.Option(help="float32 or float64. [that of the model file]")
    ] = None,
    skin: Annotated[float, typer.Option(help="Neighbor skin in Å.")] = 0.5,
    backend: Annotated[
        str,
        typer.Option(
            help="auto, reference (autograd), fused (tables, no autograd), cuda (Triton) or "
            "compiled (torch.compile)."
        ),
    ] = "auto",
    memory: Annotated[str, typer.Option(help=LIMIT)] = "0",
) -> None:
    """Run molecular dynamics from a structure file or a SMILES string.

    Writes thermo.csv, trajectory.extxyz, restart.npz and dynamics.json.

    Options left out take the defaults in brackets; with --restart, those of the run.
    """
    from dreibein.cli.console import progress_bar
    from dreibein.nn import freeze
    from dreibein.simulate import run_dynamics

    given = {
        "ensemble": ensemble,
        "duration_ps": ps,
        "steps": steps,
        "timestep_fs": timestep,
        "temperature_k": temperature,
        "friction_per_ps": friction,
        "pressure_gpa": pressure,
        "cell_changes": cell_changes,
        "seed": seed,
        "initial_velocities": velocities,
        "relax_first": relax_first,
        "log_interval": log_interval,
        "trajectory_interval": trajectory_interval,
        "restart_interval": restart_interval,
        "max_temperature_k": max_temperature,
        "max_force": max_force,
        "alarms": alarms,
        "external_field": None if field is None else read_field(field),
    }
    config = make_config({k: v for k, v in given.items() if v is not None}, output, restart)
    potential = load_potential(model, device, dtype)
    potential = freeze(potential, backend, memory=limit_of(memory))
    atoms = None
    if restart and (structure is not None or charge is not None):
        raise ValueError("a restart goes on from its own file: leave out STRUCTURE and --charge")
    if not restart:
        if structure is None:
            raise ValueError("name a structure file or a SMILES string to start from")
        atoms = read_start(structure, charge, config.seed)
    with progress_bar("md") as progress:
        result = run_dynamics(
            atoms,
            potential,
            config,
            output,
            restart=restart,
            overwrite=overwrite,
            skin=skin,
            progress=progress,
        )
    print_result(result, output)


def read_field(text: str) -> tuple[float, ...]:
    """Three numbers, with blanks or commas between them.

    Raises:
        ValueError: Anything else.

    >>> read_field("0 0 0.1")
    (0.0, 0.0, 0.1)
    """
    try:
        found = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        found = ()
    if len(found) != 3:
        raise ValueError(f"--field is three numbers in V/Å such as '0 0 0.1', not '{text}'")
    return found


def make_config(given: dict[str, Any], folder: Path, restart: bool) -> Any:
    """Configuration of the options given, on top of the defaults or of the run to continue."""
    from pydantic import ValidationError

    from dreibein.simulate import DynamicsConfig
    from dreibein.simulate.restarts import read_restart

    values = dict(given)
    if restart:
        stored = read_restart(folder).config
        if "duration_ps" in given or "steps" in given:
            stored = {k: v for k, v in stored.items() if k not in ("duration_ps", "steps")}
        values = stored | values
    elif "duration_ps" not in given and "steps" not in given:
        values["duration_ps"] = 1.0
    try:
        return DynamicsConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {what}, got {first['input']!r}" if where else what) from error


def load_potential(model: Path, device: str, dtype: str | None) -> Any:
    """Potential of a model file, on the device and in the precision named."""
    import torch

    from dreibein.models import load_model

    precisions = {None: None, "float32": torch.float32, "float64": torch.float64}
    if dtype not in precisions:
        raise ValueError(f"--dtype is float32 or float64, got '{dtype}'")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"--device '{device}' is no device: use cpu, cuda or cuda:1") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: this machine or this torch has no CUDA; use cpu")
    return load_model(model, device=place, dtype=precisions[dtype])


def read_start(structure: str, charge: float | None, seed: int) -> Any:
    """Atoms of a structure file or a SMILES string, with their total charge."""
    from dreibein.data import read_structure

    atoms = read_structure(structure, charge=charge or 0.0, seed=seed)
    if charge is not None and atoms.info["charge"] != charge:
        raise ValueError(
            f"{structure} states a charge of {atoms.info['charge']:g} and --charge asks for "
            f"{charge:g}; leave --charge out or correct the structure"
        )
    return atoms


def print_result(result: Any, folder: Path) -> None:
    """Print the table that ends a run."""
    from rich.table import Table

    from dreibein.cli.console import out

    config = result.config
    rows = [("simulated", f"{result.time_ps:g} ps of {config.ensemble}, {result.num_atoms} atoms")]
    if result.drift_mev_per_atom_ps is not None:
        rows.append(
            (
                f"drift of the {result.drift_of}",
                f"{result.drift_mev_per_atom_ps:.4f} ± "
                f"{result.drift_error_mev_per_atom_ps:.4f} meV/atom/ps",
            )
        )
    rows.append(
        ("temperature", f"{_value(result.temperature_mean_k, result.temperature_error_k, 1)} K")
    )
    if result.pressure_mean_gpa is not None:
        pressure = _value(result.pressure_mean_gpa, result.pressure_error_gpa, 3)
        rows += [
            ("pressure", f"{pressure} GPa"),
            ("volume", f"{result.volume_mean_a3:.2f} Å³"),
        ]
    rows += [
        ("speed", f"{result.ns_per_day:.3g} ns/day ({result.seconds:.1f} s)"),
        ("ran on", f"{result.device}, {result.precision}, neighbor skin {result.skin_a:g} Å"),
        ("backend", result.backend),
        ("alarms", alarm_text(result.alarms)),
        ("results", f"{folder}"),
    ]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    out.print(table)


def alarm_text(summary: dict[str, Any]) -> str:
    """What the alarms of a run found, in a line."""
    if summary["policy"] == "off":
        return "off"
    counts = ", ".join(f"{count} of {kind}" for kind, count in summary["counts"].items())
    if not summary["watched"]:
        counts = ", ".join((*([counts] if counts else []), "the model file has no ranges"))
    return counts or "none: all within the ranges of the training data"


def _value(mean: float, error: float | None, digits: int) -> str:
    return f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")
