"""`dreibein study`: one network under several choices, compared at an equal budget."""

from pathlib import Path
from typing import Annotated, Any

import typer

TOPICS = ("representations",)


def study(
    topic: Annotated[str, typer.Argument(help="What is compared: representations.")],
    data: Annotated[
        list[str], typer.Option(help="Files or names such as rmd17:ethanol; may be repeated.")
    ],
    target: Annotated[
        str,
        typer.Option(help="Labels: energy,forces or U0,mu,alpha (QM9) or dipole,polarizability."),
    ] = "energy,forces",
    train: Annotated[int | None, typer.Option(help="Training frames. [all that are left]")] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="Test frames: a count, or files. [500]")
    ] = None,
    representations: Annotated[
        str | None,
        typer.Option(help="Names such as scalars,cartesian-2,irreps-3, or 8x0n+4x1n. [all]"),
    ] = None,
    frames: Annotated[str | None, typer.Option(help="Kinds of frames. [all]")] = None,
    embeddings: Annotated[
        str | None,
        typer.Option(help="bessel,gaussian,expnorm (radial), harmonics,sphere,vector. [all]"),
    ] = None,
    networks: Annotated[
        str | None, typer.Option(help="locaformer,tensornet,tensor_field. [the first two]")
    ] = None,
    budget: Annotated[
        str, typer.Option(help="What is equal: steps, time or parameters (and steps).")
    ] = "steps",
    sizes: Annotated[str, typer.Option(help="Smaller training sets: 100,300.")] = "",
    seeds: Annotated[int, typer.Option(help="Trainings of each choice.")] = 2,
    steps: Annotated[int, typer.Option(help="Steps of every training.")] = 1000,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any other choice: channels=64.")
    ] = None,
    processes: Annotated[int, typer.Option(help="Trainings at a time, one thread each.")] = 1,
    max_time: Annotated[
        float | None, typer.Option(help="Start no training after so many minutes.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder; an unfinished study there goes on.")
    ] = Path("study"),
) -> None:
    """Train one network with each representation, frame, embedding and size, and its rivals.

    Every structure stands in a random pose. Interrupted, the same command goes on.
    """
    import yaml
    from pydantic import ValidationError

    from dreibein.cli.console import progress_bar
    from dreibein.cli.train import portion
    from dreibein.data import DataConfig
    from dreibein.recipes.study import StudyConfig, run_study

    if topic not in TOPICS:
        raise ValueError(f"there is no study of '{topic}': use {', '.join(TOPICS)}")
    values: dict[str, Any] = {
        "data": DataConfig(
            sources=data, train=train, validation=None, test=portion(test or ["500"])
        ),
        "target": _names(target),
        "seeds": seeds,
        "steps": steps,
        "budget": budget,
        "sizes": [int(size) for size in _names(sizes)],
    }
    axes = {
        "representations": representations,
        "frames": frames,
        "embeddings": embeddings,
        "networks": networks,
    }
    values |= {name: _names(entry) for name, entry in axes.items() if entry is not None}
    for entry in set_ or []:
        name, _, value = entry.partition("=")
        values[name] = yaml.safe_load(value)
    try:
        config = StudyConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        words = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"study: {f'{where}: ' if where else ''}{words}") from None
    seconds = None if max_time is None else 60 * max_time
    with progress_bar("study") as progress:
        page = run_study(
            config, output, processes=processes, max_seconds=seconds, progress=progress
        )
    typer.echo(str(page))


def _names(entry: str) -> list[str]:
    return [name.strip() for name in entry.split(",") if name.strip()]
