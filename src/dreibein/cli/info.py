"""`dreibein info`: what a model file says of itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

_HASH_SHOWN = 16


def info(
    model: Annotated[Path, typer.Argument(help="Model file, or folder of a run.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Print what a model file says of itself.

    Format, architecture, hyperparameters, parameters, elements, cutoff, units, precision,
    reference energies, and the training card. The weights are read, no code is run.
    """
    import json as json_format

    from dreibein.evaluate import model_facts

    facts = model_facts(model)
    if json:
        typer.echo(json_format.dumps(facts, indent=2, ensure_ascii=False))
    else:
        show(facts)


def show(facts: Mapping[str, Any]) -> None:
    """Print the facts, one a line."""
    from rich.markup import escape

    from dreibein.cli.console import out
    from dreibein.evaluate.report.formats import size

    units = facts["units"]
    energy = units.get("energy", "eV")
    references = ", ".join(f"{s} {e:.6g}" for s, e in facts["reference_energies"].items())
    lines: dict[str, Any] = {
        "file": f"{facts['file']} ({size(facts['bytes'])}, format {facts['format']})",
        "sha256": facts["sha256"][:_HASH_SHOWN],
        "architecture": facts["architecture"],
        "parameters": f"{facts['parameters']:,}",
        "hyperparameters": _words(facts["hyperparameters"]),
        "elements": " ".join(facts["elements"]),
        "cutoff": f"{facts['cutoff']:g} {units.get('length', 'Å')}",
        "precision": facts["precision"],
        "units": _words(units),
        "output scale": f"{facts['scale']:.6g} {energy}",
        "shift per atom": f"{facts['shift']:.6g} {energy}",
        "references": f"{references} {energy}",
        "terms": "; ".join(facts["terms"]) or "none",
        "backends": "; ".join(facts["backends"].values()),
        "simulates with": f"{facts['simulates with']}; on a GPU {facts['on a GPU']}",
        "written with": _words(facts["versions"]),
    }
    if not facts["energy"]:
        for name in ("output scale", "shift per atom", "references"):
            del lines[name]
    if facts["targets"]:
        words = [f"{name} ({what})" for name, what in facts["targets"].items()]
        lines["targets"] = "; ".join(words) + "; by the reference, whatever the backend"
    if "uncertainty" in facts["card"]:
        known = facts["card"]["uncertainty"]
        lines["uncertainty"] = (
            f"of energies, from {known['features']} features of the last layer, calibrated on "
            f"{known['validation_frames']} frames"
        )
    for name, value in lines.items():
        out.print(f"[bold]{name:<16}[/] {escape(str(value))}")
    out.print("[bold]card[/]")
    if not facts["card"]:
        out.print("  none: nothing was recorded when the model was saved")
    for line in _tree(facts["card"], "  "):
        out.print(escape(line))


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _tree(value: Mapping[str, Any], indent: str) -> list[str]:
    """A nested record, one entry a line."""
    lines = []
    for name, entry in value.items():
        if isinstance(entry, Mapping):
            lines += [f"{indent}{name}", *_tree(entry, indent + "  ")]
        elif isinstance(entry, list) and entry and isinstance(entry[0], Mapping):
            lines.append(f"{indent}{name}")
            for k, item in enumerate(entry):
                lines += [f"{indent}  {k}", *_tree(item, indent + "    ")]
        elif isinstance(entry, list):
            lines.append(f"{indent}{name}: {', '.join(str(item) for item in entry)}")
        else:
            lines.append(f"{indent}{name}: {entry}")
    return lines
