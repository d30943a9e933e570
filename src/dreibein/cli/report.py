"""`dreibein report`: a run folder as one page to look at."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of an evaluation (-o).")],
    show: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser as well.")
    ] = False,
) -> None:
    """Write RUN/report.html: one self-contained page; prints its path.

    Learning curves, prediction against reference, errors by element and group, the worst frames
    in 3D, physical laws, the simulation, data and model card. What the folder lacks is left out.
    """
    from dreibein.evaluate.report import write_report

    path = write_report(run)
    typer.echo(str(path))
    if show:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
