"""`dreibein demo`: from a molecule to a checked potential in one command."""

from pathlib import Path
from typing import Annotated, Any

import typer


def demo(
    molecule: Annotated[str, typer.Argument(help="SMILES string or structure file.")] = "CCO",
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder.")] = Path("runs/demo"),
    frames: Annotated[int, typer.Option(help="Labeled frames, a fifth of them held out.")] = 1000,
    epochs: Annotated[int, typer.Option(help="Passes over the training frames.")] = 60,
    ps: Annotated[float, typer.Option(help="Length of the NVE run in ps.")] = 5.0,
    method: Annotated[str, typer.Option(help="Level of theory of the labels.")] = "GFN2-xTB",
    temperature: Annotated[float, typer.Option(help="Temperature of the labels in K.")] = 500.0,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
) -> None:
    """Label a molecule, train a TensorNet, test it, simulate with it, and write a report.

    The same command goes on where an earlier one was stopped.
    """
    from pydantic import ValidationError

    from dreibein.cli.console import err, out, progress_bar
    from dreibein.cli.evaluate import show as show_evaluation
    from dreibein.cli.label import print_summary as show_labels
    from dreibein.cli.md import print_result as show_dynamics
    from dreibein.recipes.demo import DemoConfig, demo_run, label_config

    given: dict[str, Any] = {
        "molecule": molecule,
        "frames": frames,
        "epochs": epochs,
        "duration_ps": ps,
        "method": method,
        "temperature_k": temperature,
        "seed": seed,
    }
    try:
        config = DemoConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from error
    err.print(
        f"dreibein demo: label {molecule} with {method}, train, test, simulate, report; "
        f"everything goes to {output}"
    )
    result = demo_run(config, output, stage=progress_bar)
    out.rule("labels")
    show_labels(result.labels, label_config(config))
    out.rule("held-out test frames")
    show_evaluation(result.evaluation)
    out.rule("dynamics")
    show_dynamics(result.dynamics, result.folder / "md")
    out.print(f"[bold]report[/]  {result.report.resolve()}")
