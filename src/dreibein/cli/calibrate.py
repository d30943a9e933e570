"""`dreibein calibrate`: the uncertainty of a trained model, made and calibrated."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dreibein.cli.inspect import Folder, Keys, StressOrder, StressSign, Units, data_config

if TYPE_CHECKING:
    from dreibein.data import StructureDataset


def calibrate(
    model: Annotated[Path, typer.Argument(help="Model file, or folder of a run or an ensemble.")],
    train: Annotated[
        list[str] | None,
        typer.Option("--train", help="What the model was trained on. [that of the run]"),
    ] = None,
    validation: Annotated[
        list[str] | None,
        typer.Option("--validation", help="Frames held out from training. [those of the run]"),
    ] = None,
    key: Keys = None,
    unit: Units = None,
    stress_sign: StressSign = "tension",
    stress_order: StressOrder = "xx yy zz yz xz xy",
    folder: Folder = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Model file to write. [the model itself]"),
    ] = None,
) -> None:
    """Give a trained model a calibrated uncertainty of its energies.

    Training does this by itself; here it is for models of before, for imported ones, and for
    ensembles, whose spread gets a factor.
    """
    from dreibein.cli.console import out, progress_bar
    from dreibein.data import load_data
    from dreibein.models import load_model, model_file, save_model
    from dreibein.models.storage import ensemble_members
    from dreibein.recipes.ensembles import calibrate_ensemble
    from dreibein.recipes.run_frames import run_splits
    from dreibein.recipes.uncertainty import calibrate as make

    members = ensemble_members(model)
    if (train is None) != (validation is None):
        raise ValueError("--train and --validation go together: name both, or neither of a run")

    def read(sources: list[str]) -> "StructureDataset":
        config = data_config(
            sources, key, unit, [], stress_sign, stress_order, allow_nan=False, folder=folder
        )
        return load_data(config)

    if train is not None and validation is not None:
        train_set, held_out = read(train), read(validation)
    else:
        splits = run_splits(members[0] if members else model, "--train and --validation")
        if splits.validation is None:
            raise ValueError(
                f"the run in {model} held no frames out: name --train and --validation"
            )
        train_set, held_out = splits.train, splits.validation
    if len(members) > 1:
        if output is not None:
            raise ValueError("an ensemble keeps its factors in its folder: leave --output out")
        for name, factor in calibrate_ensemble(model, held_out).items():
            out.print(f"{name.replace('_', ' ')}  {factor:.4g}, on {len(held_out)} frames")
        return
    potential, path = load_model(model), output or model_file(model)
    with progress_bar("calibrate") as progress:
        record = make(potential, train_set, held_out, progress)
    save_model(potential, path)
    words = f"{record['training_frames']} training and {record['validation_frames']} held-out"
    out.print(f"uncertainty  {record['features']} features of the last layer, {words} frames")
    out.print(f"wrote        {path}")
