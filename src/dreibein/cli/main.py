"""The `dreibein` command: registers the verbs and turns every user error into one sentence."""

import importlib
import keyword
import os
import sys
from typing import Annotated

import typer

VERBS = (
    "inspect",
    "convert",
    "label",
    "train",
    "evaluate",
    "calibrate",
    "report",
    "info",
    "md",
    "relax",
    "vibrations",
    "spectrum",
    "predict",
    "bench",
    "parity",
    "export",
    "demo",
    "study",
    "import",
    "pretrained",
)

app = typer.Typer(
    name="dreibein",
    help="From a molecule to a checked potential: label, train, evaluate, simulate, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from dreibein import __version__

        typer.echo(f"dreibein {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the full traceback of an error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print it and stop."
        ),
    ] = False,
) -> None:
    """From a molecule to a checked potential: label, train, evaluate, simulate, report."""


for _verb in VERBS:
    _name = f"{_verb}_" if keyword.iskeyword(_verb) else _verb
    _module = importlib.import_module(f"dreibein.cli.{_name}")
    app.command(_verb)(getattr(_module, _name))


def one_sentence(error: BaseException) -> str:
    """Fold an error into a single line that names what went wrong."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def main() -> None:
    """Run the command; user errors end with one sentence on stderr and exit status 2."""
    debug = "--debug" in sys.argv
    if debug:  # accepted before and after the verb
        sys.argv = [sys.argv[0], "--debug", *(a for a in sys.argv[1:] if a != "--debug")]
    try:
        app()
    except (ValueError, OSError, ImportError) as error:
        if isinstance(error, BrokenPipeError):  # `dreibein info … | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        if debug:
            raise
        typer.echo(f"dreibein: {one_sentence(error)}", err=True)
        sys.exit(2)
