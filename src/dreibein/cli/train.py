"""`dreibein train`: from labeled frames to a model, its errors and a run folder."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreibein.cli.inspect import AllowNan, Folder, Keys, StressOrder, StressSign, Units

if TYPE_CHECKING:
    from dreibein.recipes import Run, RunConfig

INTERRUPTED = 130  # exit status of a program ended by Ctrl-C


def train(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Argument(help="YAML file with sections data, model, training.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            "-p",
            help="Start from small, medium, locaformer, localized, paper-rmd17, paper-qm9, "
            "paper-spice or paper-ani1x.",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", "-d", help="File or named data set to train on. Repeatable."),
    ] = None,
    validation: Annotated[
        list[str] | None,
        typer.Option("--validation", help="Frames to steer by: a count, a fraction, or files."),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option("--test", help="Frames for the final errors: a count, a fraction, or files."),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="Trained model to go on from: a file or a run's folder."),
    ] = None,
    key: Keys = None,
    unit: Units = None,
    stress_sign: StressSign | None = None,
    stress_order: StressOrder | None = None,
    allow_nan: AllowNan = False,
    folder: Folder = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="Predict this label too, such as dipole. Repeatable."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="Override, such as training.lr=5e-4. Repeatable; wins."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Run folder. [runs/<date>_<time>_<name>]"),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", "-r", help="Folder of a run to continue.")
    ] = None,
    ensemble: Annotated[
        int | None,
        typer.Option(
            min=2, help="Train so many models with different seeds; their disagreement is an alarm."
        ),
    ] = None,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print the whole configuration and stop.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of the configuration and stop.")
    ] = False,
) -> None:
    """Train a potential: a YAML file, or a preset and data.

    Ctrl-C saves everything; --resume goes on from there to the same numbers. Nothing starts
    before the whole configuration is understood.
    """
    from dreibein.recipes import TrainingInterrupted, train_ensemble, train_run

    if schema:
        return print_schema()
    options = {
        "sources": data,
        "validation": portion(validation),
        "test": portion(test),
        "keys": key,
        "units": unit,
        "sign": stress_sign,
        "order": stress_order,
        "allow_nan": allow_nan or None,
        "folder": str(folder) if folder else None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if config is None and preset is None and resume is None and from_ is None and not given:
        typer.echo(context.get_help())
        return None
    if resume is not None:
        new = (config, preset, from_, output)
        if any(value is not None for value in new) or given or target:
            raise ValueError("--resume takes everything from the run: add nothing but --set")
        if ensemble is not None:
            raise ValueError("an ensemble goes on with the same command and the same --output")
        chosen = configuration(resume / "config.yaml", None, {}, set_ or [])
    else:
        targets = [f"model.targets=[{', '.join(target)}]"] if target else []
        chosen = configuration(config, preset, given, [*targets, *(set_ or [])], from_)
    if show_config:
        return print_config(chosen)
    try:
        with console_log() as progress:
            if ensemble is not None:
                runs = train_ensemble(chosen, ensemble, folder=output, progress=progress)
            else:
                runs = [train_run(chosen, folder=output, resume=resume, progress=progress)]
    except TrainingInterrupted as stop:
        typer.echo(f"dreibein: {stop}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if is_first_process():
        for run in runs:
            show(run)
    return None


def configuration(
    path: Path | None,
    preset: str | None,
    given: dict[str, Any],
    overrides: list[str],
    start: Path | None = None,
) -> "RunConfig":
    """The typed configuration: preset, then file, then data options, then `--set`.

    A model to start from takes the place of the preset's.
    """
    from dreibein.recipes import RunConfig
    from dreibein.recipes.config_file import (
        Settings,
        apply_overrides,
        read_settings,
        stacked,
        validate,
        with_model_of_start,
    )
    from dreibein.recipes.presets import preset_settings

    settings = preset_settings(preset) if preset is not None else Settings()
    if start is not None:
        settings.values.pop("model", None)
    if path is not None:
        settings = stacked(settings, read_settings(path))
    if start is not None:
        settings.set(("finetune", "model"), str(start), "--from")
    for name, value in given.items():
        place = f"--{'data' if name == 'sources' else name.rstrip('s')}"
        settings.set(("data", *option_path(name)), option_value(name, value), place)
    apply_overrides(settings, overrides)
    chosen = validate(RunConfig, with_model_of_start(settings))
    if path is not None and "name" not in chosen.model_fields_set:
        name = re.sub(r"[^\w.+-]", "-", path.stem)
        chosen = chosen.model_copy(update={"name": name})
    return chosen


def option_path(name: str) -> tuple[str, ...]:
    """Where an option on data stands in the section `data`."""
    return ("stress_convention", name) if name in ("sign", "order") else (name,)


def option_value(name: str, value: Any) -> Any:
    """`--key energy=E --key forces=F` as a mapping; other values as they are."""
    from dreibein.cli.inspect import pairs

    if name == "keys":
        return pairs(value, "--key", "energy=REF_energy")
    if name == "units":
        return pairs(value, "--unit", "energy=kcal/mol")
    return value


def portion(values: list[str] | None) -> Any:
    """A count, a fraction, or files.

    >>> portion(["50"]), portion(["0.1"]), portion(["a.xyz", "b.xyz"])
    (50, 0.1, ['a.xyz', 'b.xyz'])
    """
    if values is None or len(values) > 1:
        return values
    for kind in (int, float):
        try:
            return kind(values[0])
        except ValueError:
            continue
    return values


def print_schema() -> None:
    """Print the JSON Schema of the configuration."""
    import json

    from dreibein.recipes import RunConfig

    typer.echo(json.dumps(RunConfig.model_json_schema(), indent=2, ensure_ascii=False))


def print_config(config: "RunConfig") -> None:
    """Print the configuration as YAML that `dreibein train` reads."""
    import yaml

    values = config.model_dump(mode="json")
    typer.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), nl=False)


def is_first_process() -> bool:
    """Whether this process may write to the terminal; further ones of the run stay silent."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


class _ConsoleLines(logging.Handler):
    """Log records as lines above the progress bar."""

    def __init__(self, live: bool) -> None:
        super().__init__(logging.INFO)
        self.live = live

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line; a line per epoch only where no bar shows it."""
        from rich.markup import escape

        from dreibein.cli.console import err

        if getattr(record, "file_only", False) or (
            self.live and getattr(record, "epoch_line", False)
        ):
            return
        text = escape(record.getMessage())
        warning = record.levelno >= logging.WARNING
        err.print(f"[yellow]{text}[/]" if warning else text)


@contextmanager
def console_log() -> Iterator[Any]:
    """Yield a progress function for a terminal, or None; the package's log goes to stderr."""
    from dreibein.cli.console import progress_bar

    root = logging.getLogger("dreibein")
    if not is_first_process():
        silent = logging.NullHandler()  # else Python shows warnings of its own accord
        root.addHandler(silent)
        yield None
        root.removeHandler(silent)
        return
    live = sys.stderr.isatty()
    lines = _ConsoleLines(live)
    level = root.level
    root.addHandler(lines)
    root.setLevel(logging.INFO)
    try:
        if live:
            with progress_bar("training") as progress:
                yield progress
        else:
            yield None
    finally:
        root.removeHandler(lines)
        root.setLevel(level)


def show(run: "Run") -> None:
    """Print the errors and where everything is."""
    from dreibein.cli.console import out
    from dreibein.cli.evaluate import show as show_errors

    for name in list(run.evaluations)[-1:]:
        out.print(f"[bold]errors on the {name} frames[/]")
        show_errors(run.evaluations[name])
        for part in dict.fromkeys((name, "old")):
            if part in run.before:
                out.print(_before_and_after(run, part))
    out.print(f"model  {run.folder / 'model.safetensors'}")
    out.print(f"see everything with: dreibein report {run.folder}")


def _before_and_after(run: "Run", name: str) -> Any:
    """Errors of the model that the run started from beside those of its own."""
    from rich.table import Table

    table = Table(title=f"Before and after, {name} frames", title_justify="left")
    for title in ("error", "before", "after"):
        table.add_column(title, justify="left" if title == "error" else "right")
    before, after = run.before[name].metrics, run.evaluations[name].metrics
    for metric, value in after.items():
        if metric in before:
            table.add_row(metric, f"{before[metric]:.4g}", f"{value:.4g}")
    return table
