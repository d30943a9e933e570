"""`dreibein evaluate`: the errors of a model on labeled frames, and the laws it obeys."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreibein.cli.inspect import (
    AllowNan,
    Folder,
    Keys,
    StressOrder,
    StressSign,
    Units,
    data_config,
)

if TYPE_CHECKING:
    from dreibein.data import StructureDataset
    from dreibein.evaluate import Checks, Evaluation
    from dreibein.nn import Potential

QUANTITIES = {
    "energy": "energy",
    "energy_per_atom": "energy per atom",
    "forces": "forces",
    "stress": "stress",
}
_KEYS = ("energy_mae_mev", "forces_mae_mev_per_a", "stress_mae_mev_per_a3")
_WORST_SHOWN = 3
_STYLE = {"passed": "green", "failed": "bold red", "not claimed": "yellow", "skipped": "yellow"}


def evaluate(
    model: Annotated[Path, typer.Argument(help="Model file, or folder of a run.")],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files or names as for inspect; left out: the run's own test frames.",
            show_default=False,
        ),
    ] = None,
    key: Keys = None,
    unit: Units = None,
    stress_sign: StressSign = "tension",
    stress_order: StressOrder = "xx yy zz yz xz xy",
    allow_nan: AllowNan = False,
    folder: Folder = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Frames evaluated at once; changes speed and memory only.")
    ] = 16,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    dtype: Annotated[
        str | None, typer.Option(help="float32 or float64. [that of the model file]")
    ] = None,
    checks: Annotated[
        bool, typer.Option("--checks/--no-checks", help="Measure physical laws on a few frames.")
    ] = True,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for evaluation.json and predictions.npz (for a report)."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare a model with labeled frames: MAE and RMSE, by element and group, and physical laws.

    Laws are measured in float64 and in the model's own precision: symmetry, derivatives,
    smoothness at the cutoff, size extensivity.
    """
    from dreibein.cli.console import progress_bar
    from dreibein.cli.md import load_potential
    from dreibein.data import load_data
    from dreibein.evaluate import evaluate_potential
    from dreibein.recipes import held_out_frames
    from dreibein.systems import FIELDS

    potential = load_potential(model, device, dtype)
    if not data:
        dataset = held_out_frames(model)
    else:
        own = [name for name in potential.targets if name not in FIELDS]
        config = data_config(
            data, key, unit, own, stress_sign, stress_order, allow_nan=allow_nan, folder=folder
        )
        with progress_bar("reading") as progress:
            dataset = load_data(config, progress=progress)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    with progress_bar("evaluating") as progress:
        evaluation = evaluate_potential(
            potential,
            dataset,
            batch_size=batch_size,
            progress=progress,
            predictions_path=output / "predictions.npz" if output else None,
        )
    evaluation.model = describe_model(model, potential)
    if checks and potential.has_energy:
        evaluation.checks = measure(potential, dataset)
    if output is not None:
        evaluation.save(output / "evaluation.json")
    if json:
        typer.echo(evaluation.model_dump_json(indent=2))
    else:
        show(evaluation)
        _say_where(output)


def measure(potential: "Potential", dataset: "StructureDataset") -> "Checks":
    """The laws, on a few frames of the data set."""
    from dreibein.cli.console import progress_bar
    from dreibein.evaluate import choose_frames, run_checks

    structures = [dataset[k] for k in choose_frames(len(dataset))]
    with progress_bar("measuring laws") as progress:
        return run_checks(potential, structures, progress=progress)


def describe_model(path: Path, potential: "Potential") -> dict[str, Any]:
    """What the record of an evaluation says of the model."""
    from dreibein.models import model_file
    from dreibein.models.storage import ensemble_members

    ensemble = len(ensemble_members(path)) > 1
    return {
        "file": str(path if ensemble else model_file(path)),
        "architecture": potential.config.architecture,
        "parameters": sum(p.numel() for p in potential.parameters()),
        "cutoff": potential.cutoff,
    }


def show(evaluation: "Evaluation") -> None:
    """Print tables."""
    from dreibein.cli.console import out

    _show_choices(evaluation)
    if evaluation.metrics.keys() & set(_KEYS):
        out.print(_error_table(evaluation))
    if evaluation.calibrations:
        out.print(_calibration_table(evaluation))
    if evaluation.targets:
        out.print(_target_table(evaluation))
    if any(target.elements for target in evaluation.targets):
        out.print(_target_element_table(evaluation))
    if len(evaluation.elements) > 1:
        out.print(_element_table(evaluation))
    if evaluation.config_types:
        out.print(_group_table(evaluation))
    if evaluation.worst:
        out.print(_worst_table(evaluation))
    if evaluation.checks is not None:
        out.print(_law_table(evaluation.checks))


def _show_choices(evaluation: "Evaluation") -> None:
    from dreibein.cli.console import out

    timing, model, counts = evaluation.timing, evaluation.model, evaluation.counts
    threads = f", {timing.threads} thread{'s' * (timing.threads > 1)}"
    if model:
        words = f"{model['architecture']}, {model['parameters']:,} parameters"
        out.print(f"model  {model['file']}: {words}")
    out.print(
        f"run    {timing.device}{threads if timing.device == 'cpu' else ''}, {timing.precision}, "
        f"batches of {timing.batch_size}: {timing.atoms_per_second:,.0f} atoms/s"
    )
    out.print(f"data   {counts['frames']:,} frames, {counts['atoms']:,} atoms")
    for source in evaluation.data.get("sources", []):
        out.print(f"       {source['name']}")
        for label in dict.fromkeys([*source["keys"], *source["units"]]):
            found, unit = source["keys"].get(label), source["units"].get(label)
            where = f"'{found['key']}' in {found['place']}" if found else ""
            text = f"{unit['unit']} ({unit['reason']})" if unit else ""
            out.print(f"       {label:<8} {where}{'; ' if found and unit else ''}{text}")
    for note in evaluation.data.get("notes", []):
        out.print(f"[yellow]note[/]   {note}")


def _table(title: str, *columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for k, column in enumerate(columns):
        table.add_column(column, justify="right" if k else "left")
    return table


def _number(value: float | None) -> str:
    from dreibein.evaluate.report.formats import digits

    return digits(value)


def _error_table(evaluation: "Evaluation") -> Any:
    from dreibein.evaluate import metric_name
    from dreibein.evaluate.errors import GPA_PER_MEV_A3
    from dreibein.evaluate.report.formats import percent

    table = _table("Errors", "", "MAE", "RMSE", "unit", "relative to")
    spreads = {"forces": "mean |F|", "energy_per_atom": "spread", "stress": "spread"}
    for quantity, title in QUANTITIES.items():
        mae = evaluation.metrics.get(metric_name(quantity, "mae"))
        if mae is None:
            continue
        spread = evaluation.spread.get(quantity)
        relative = f"{percent(mae, spread)} of the {spreads[quantity]}" if spread else ""
        rmse = evaluation.metrics[metric_name(quantity, "rmse")]
        table.add_row(title, _number(mae), _number(rmse), evaluation.units[quantity], relative)
        if quantity == "stress":
            gpa = [_number(GPA_PER_MEV_A3 * error) for error in (mae, rmse)]
            table.add_row("", *gpa, "GPa", "")
    return table


def _calibration_table(evaluation: "Evaluation") -> Any:
    from dreibein.evaluate.errors import MEV
    from dreibein.evaluate.report.formats import percent

    columns = ("rms error", "rms σ", "unit", "within 1 σ", "within 2 σ", "rank correlation")
    table = _table("Uncertainty (68.3 % and 95.4 % are right)", "", *columns)
    for c in evaluation.calibrations:
        table.add_row(
            c.quantity,
            _number(MEV * c.rmse),
            _number(MEV * c.sigma),
            f"m{c.unit}",
            percent(c.within_1, 1.0),
            percent(c.within_2, 1.0),
            _number(c.spearman),
        )
    return table


def _target_table(evaluation: "Evaluation") -> Any:
    from dreibein.evaluate.report.formats import percent

    columns = ("", "MAE", "RMSE", "unit", "scatter of labels", "RMSE / scatter")
    table = _table("Targets", *columns)
    for t in evaluation.targets:
        share = "" if t.relative is None else percent(t.relative, 1.0)
        table.add_row(t.name, _number(t.mae), _number(t.rmse), t.unit, _number(t.scatter), share)
    return table


def _target_element_table(evaluation: "Evaluation") -> Any:
    table = _table("Targets by element", "", "element", "MAE", "RMSE", "unit")
    for target in evaluation.targets:
        for symbol, (mae, rmse) in target.elements.items():
            table.add_row(target.name, symbol, _number(mae), _number(rmse), target.unit)
    return table


def _element_table(evaluation: "Evaluation") -> Any:
    table = _table("Forces by element", "element", "atoms", "MAE / meV/Å", "RMSE / meV/Å")
    for e in evaluation.elements:
        mae, rmse = e.forces_mae_mev_per_a, e.forces_rmse_mev_per_a
        table.add_row(e.symbol, f"{e.atoms:,}", _number(mae), _number(rmse))
    return table


def _group_table(evaluation: "Evaluation") -> Any:
    from dreibein.evaluate import metric_name

    present = [
        quantity
        for quantity in ("energy_per_atom", "forces", "stress")
        if metric_name(quantity, "mae") in evaluation.metrics
    ]
    columns = [f"{QUANTITIES[q]} / {evaluation.units[q]}" for q in present]
    table = _table("MAE by group (config_type)", "group", "frames", *columns)
    for group in evaluation.config_types:
        values = [_number(group.metrics.get(metric_name(q, "mae"))) for q in present]
        table.add_row(group.name, f"{group.frames:,}", *values)
    return table


def _worst_table(evaluation: "Evaluation") -> Any:
    table = _table("Worst frames", "frame", "energy / meV/atom", "force error / meV/Å")
    for frame in evaluation.worst[:_WORST_SHOWN]:
        energy, force = frame.energy_mev_per_atom, frame.forces_max_mev_per_a
        table.add_row(Path(frame.source).name, _number(energy), _number(force))
    return table


def _law_table(checks: "Checks") -> Any:
    from dreibein.evaluate.report.formats import digits

    title = f"Physical laws, on frames {', '.join(str(f) for f in checks.frames)}"
    table = _table(title, "law", "precision", "largest error", "limit", "")
    for check in checks.checks:
        value = f"{digits(check.value, 2)} {check.unit}".rstrip()
        style = _STYLE[check.status]
        status = f"[{style}]{check.status}[/]{f' ({check.note})' if check.note else ''}"
        limit = digits(check.limit, 1).removeprefix("1×")
        table.add_row(check.law, check.precision, value, limit, status)
    return table


def _say_where(output: Path | None) -> None:
    from dreibein.cli.console import out

    if output is not None:
        out.print(f"wrote {output / 'evaluation.json'} and {output / 'predictions.npz'}")
        out.print(f"see them with: dreibein report {output}")
