"""`dreibein bench`: how fast a model runs on a structure, and in what memory."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

LIMIT = "Memory that an evaluation may take, such as 8GiB; 0 for no limit."
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d*)?)\s*([KMGT]?)(iB|B)?", re.IGNORECASE)


def bench(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    structure: Annotated[str, typer.Argument(help="Structure file (last frame) or SMILES.")],
    repeat: Annotated[int, typer.Option(help="Calls of each backend and thread count.")] = 20,
    threads: Annotated[
        list[int] | None,
        typer.Option(help="Number of threads to try; may be repeated. [1, 2, 4, … all cores]"),
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="Backend to time; may be repeated. [all but compiled]")
    ] = None,
    memory: Annotated[
        str, typer.Option(help="Memory that copies of the structure are to fit in; 0 for none.")
    ] = "8GiB",
    time_step: Annotated[float, typer.Option(help="Time step in fs, for ns/day.")] = 0.5,
    charge: Annotated[
        float | None, typer.Option(help="Total charge in e. [that of the file, or 0]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the conformer of a SMILES string.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    dtype: Annotated[
        str | None, typer.Option(help="float32 or float64. [that of the model file]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time energy and forces of a structure: atoms/s, ns/day, memory, threads, backends.

    Positions move a little from call to call; backends and thread counts take turns; the neighbor
    list is included. Memory is measured in fresh processes at two sizes.
    """
    import json as json_format

    from dreibein.cli.console import progress_bar
    from dreibein.cli.md import load_potential, read_start
    from dreibein.simulate import measure_speed

    available = parse_bytes(memory)
    if not time_step > 0:
        raise ValueError(f"--time-step is {time_step} fs, expected more than 0")
    potential = load_potential(model, device, dtype)
    atoms = read_start(structure, charge, seed)
    with progress_bar("bench") as progress:
        speeds = measure_speed(
            potential,
            atoms,
            backends=backend,
            threads=threads,
            repeat=repeat,
            memory=available > 0,
            progress=progress,
        )
    rows = [summary(speed, time_step, available) for speed in speeds]
    if json:
        typer.echo(json_format.dumps(rows, indent=2, ensure_ascii=False))
    else:
        show(rows, atoms, potential)


def parse_bytes(text: str) -> float:
    """Bytes of a size such as 8GiB, 500MB or 0; units are powers of 1024.

    >>> parse_bytes("8GiB") == 8 * 2**30
    True
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"--memory '{text}' is no size: write 8GiB, 500MiB or 0")
    return float(match[1]) * _UNITS[match[2].upper()]


def limit_of(text: str) -> float | None:
    """Bytes of a limit, None for none.

    >>> limit_of("0") is None
    True
    """
    return parse_bytes(text) or None


def summary(speed: Any, time_step: float, available: float) -> dict[str, Any]:
    """What is printed of one backend, in the units of the table."""
    row = {
        "backend": speed.backend,
        "atoms": speed.atoms,
        "ms": 1e3 * speed.seconds,
        "ms_with_stress": None,
        "atoms_per_second": speed.atoms_per_second,
        "ns_per_day": speed.ns_per_day(time_step),
        "time_step_fs": time_step,
        "best_threads": speed.threads,
        "ms_by_threads": {str(n): 1e3 * s for n, s in speed.seconds_by_threads.items()},
    }
    if speed.seconds_with_stress is not None:
        row["ms_with_stress"] = 1e3 * speed.seconds_with_stress
    if speed.memory is not None:
        row["peak_bytes"] = speed.memory.at(speed.atoms)
        row["bytes_per_atom"] = speed.memory.per_atom
        row["available_bytes"] = available
        row["atoms_that_fit"] = speed.memory.largest(available)
        row["copies_that_fit"] = row["atoms_that_fit"] // speed.atoms
    return row


def show(rows: list[dict[str, Any]], atoms: Any, potential: Any) -> None:
    """Print one column a backend."""
    from rich.table import Table

    from dreibein.cli.console import out
    from dreibein.nn.memory import size_text

    def optional(key: str, text: Any) -> list[str]:
        return [text(row[key]) if row.get(key) is not None else "-" for row in rows]

    precision = str(potential.dtype).removeprefix("torch.")
    out.print(
        f"{atoms.get_chemical_formula()}, {len(atoms)} atoms, {potential.device}, {precision}"
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for row in rows:
        table.add_column(row["backend"], justify="right")
    step = f"ns/day at {rows[0]['time_step_fs']:g} fs"
    lines = {
        "ms, energy and forces": optional("ms", "{:.2f}".format),
        "ms, and stress": optional("ms_with_stress", "{:.2f}".format),
        "atoms/s": optional("atoms_per_second", "{:,.0f}".format),
        step: optional("ns_per_day", "{:.3g}".format),
        "best number of threads": optional("best_threads", str),
        "ms by threads": optional("ms_by_threads", _by_threads),
        "peak memory": optional("peak_bytes", size_text),
        "memory per atom": optional("bytes_per_atom", size_text),
        f"copies in {size_text(rows[0].get('available_bytes', 0))}": optional(
            "copies_that_fit", "{:,}".format
        ),
    }
    for name, cells in lines.items():
        if set(cells) != {"-"}:
            table.add_row(name, *cells)
    out.print(table)


def _by_threads(times: dict[str, float]) -> str:
    return ", ".join(f"{n}: {ms:.2f}" for n, ms in times.items())
