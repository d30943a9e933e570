"""`dreibein study`: one network under several choices, compared at equal steps."""

from pathlib import Path
from typing import Annotated, Any

import typer

TOPICS = ("representations",)


def study(
    topic: Annotated[str, typer.Argument(help="What is compared: representations.")],
    data: Annotated[
        list[str], typer.Option(help="Files or names such as rmd17:ethanol; may be repeated.")
    ],
    target: Annotated[str, typer.Option(help="energy, or energy,forces.")] = "energy,forces",
    train: Annotated[int | None, typer.Option(help="Training frames. [all that are left]")] = None,
    test: Annotated[int, typer.Option(help="Test frames.")] = 500,
    representations: Annotated[
        str | None,
        typer.Option(help="Names such as scalars,cartesian-2,irreps-3, or 8x0n+4x1n. [all]"),
    ] = None,
    frames: Annotated[str | None, typer.Option(help="Kinds of frames. [all]")] = None,
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
    """Train the same network with each representation, frame and size; table, figures, page.

    Every structure stands in a random pose. Interrupted, the same command goes on.
    """
    import yaml
    from pydantic import ValidationError

    from dreibein.cli.console import progress_bar
    from dreibein.data import DataConfig
    from dreibein.recipes.study import StudyConfig, run_study

    if topic not in TOPICS:
        raise ValueError(f"there is no study of '{topic}': use {', '.join(TOPICS)}")
    values: dict[str, Any] = {
        "data": DataConfig(sources=data, train=train, validation=None, test=test),
        "target": _names(target),
        "seeds": seeds,
        "steps": steps,
        "sizes": [int(size) for size in _names(sizes)],
    }
    if representations is not None:
        values["representations"] = _names(representations)
    if frames is not None:
        values["frames"] = _names(frames)
    for entry in set_ or []:
        name, _, value = entry.partition("=")
        values[name] = yaml.safe_load(value)
    try:
        config = StudyConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"study: {where}: {first['msg']}") from None
    seconds = None if max_time is None else 60 * max_time
    with progress_bar("study") as progress:
        page = run_study(
            config, output, processes=processes, max_seconds=seconds, progress=progress
        )
    typer.echo(str(page))


def _names(entry: str) -> list[str]:
    return [name.strip() for name in entry.split(",") if name.strip()]
