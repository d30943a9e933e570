"""A whole training run: data to checked model, in one folder."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from lightning.fabric import Fabric

from dreibein.data import (
    Splits,
    StructureDataset,
    examine,
    label_scatter,
    load_splits,
    with_neighbors,
)
from dreibein.data.domain import measure_domain
from dreibein.evaluate import (
    ErrorMeter,
    Evaluation,
    choose_frames,
    evaluate_potential,
    run_checks,
)
from dreibein.models import build_potential, save_model
from dreibein.models.storage import MODEL_NAME
from dreibein.nn import Potential
from dreibein.nn.terms import build_terms
from dreibein.recipes.accounts import announce, card
from dreibein.recipes.baseline import (
    output_scale,
    output_shift,
    reference_energies,
    without_terms,
)
from dreibein.recipes.config import RunConfig
from dreibein.recipes.config_file import load_config
from dreibein.recipes.finetuning import (
    choose_weights,
    merge_low_rank,
    origin,
    starting_potential,
)
from dreibein.recipes.replay import OldData, mixture, old_data
from dreibein.recipes.run_folder import (
    CONFIG_NAME,
    SPLITS_NAME,
    absolute_sources,
    circumstances,
    log_to,
    new_folder,
    run_to_resume,
    write_config,
    write_json,
)
from dreibein.recipes.run_frames import same_splits
from dreibein.recipes.targets import (
    fit_targets,
    settle_targets,
    target_losses,
    with_target_labels,
)
from dreibein.recipes.uncertainty import try_to_calibrate
from dreibein.train import FitResult, LabelTerm, fit, launch
from dreibein.train.epochs import fixed_changes
from dreibein.train.fit import terms_in_use
from dreibein.train.loggers import check_loggers

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during training: everything is saved in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"stopped, everything is saved: continue with dreibein train --resume {folder}"
        )
        self.folder = folder


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Where everything is.
        config: The resolved configuration.
        fit: How the training ended.
        potential: With the best (averaged) weights, in evaluation mode.
        evaluations: Errors by split: "validation" and "test", where there are such frames.
        before: The same of the model that the run went on from, references refitted; "old" are
            frames held back from that model.
    """

    folder: Path
    config: RunConfig
    fit: FitResult
    potential: Potential
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    before: dict[str, Evaluation] = field(default_factory=dict)


def train_run(
    config: RunConfig,
    *,
    folder: str | Path | None = None,
    resume: str | Path | None = None,
    progress: Progress | None = None,
    splits: Splits | None = None,
) -> Run:
    """Load, split, train, evaluate, save; everything lands in one run folder.

    Args:
        config: All choices.
        folder: Of the new run; by default `runs/<date>_<time>_<name>`.
        resume: Folder of a run to continue instead; model and data must be what they were.
        progress: Called with steps done, steps altogether and a note on the last epoch.
        splits: The frames that `config.data` means, where they are loaded already.

    Raises:
        ValueError: Anything wrong with configuration, data or the folder, in one sentence.
        TrainingInterrupted: After Ctrl-C; the run can be continued.
    """
    check_loggers(config.training.loggers)
    config = absolute_sources(config)
    fabric = launch(config.training)
    path = Path()
    if fabric.is_global_zero:
        path = run_to_resume(resume) if resume is not None else new_folder(config.name, folder)
    path = fabric.broadcast(path)
    with log_to(path / "log.txt") if fabric.is_global_zero else nullcontext():
        try:
            resumed = resume is not None
            return _run(config, path, fabric, progress, resumed=resumed, splits=splits)
        except TrainingInterrupted:
            raise
        except Exception as error:
            logger.error("%s", error, extra={"file_only": True})  # whoever called shows it
            raise


def _run(
    config: RunConfig,
    folder: Path,
    fabric: Fabric,
    progress: Progress | None,
    *,
    resumed: bool,
    splits: Splits | None = None,
) -> Run:
    config = with_target_labels(config)
    splits = splits or load_splits(config.data)
    config = settle_targets(config, splits.train)
    potential = _potential(config, splits)
    config = _resolve_losses(config, splits.train, potential)
    if resumed:
        _check_same_run(config, splits, folder)
    else:
        _examine(config, splits.train)
    if fabric.is_global_zero:
        announce(config, splits, potential, fabric, folder)
        write_config(config, folder)
        write_json(splits.record(), folder / SPLITS_NAME)
        run = circumstances() | {"device": str(fabric.device), "processes": fabric.world_size}
        write_json({**splits.train.provenance, "run": run}, folder / "provenance.json")
    before: dict[str, Evaluation] = {}
    old = old_data(config.finetune, potential) if config.finetune is not None else None
    if config.finetune is not None and fabric.is_global_zero:
        before = _evaluate_start(config, splits, potential, folder, old)
    validation = splits.validation
    train_set = with_neighbors(splits.train, potential.cutoff)
    frames = mixture(train_set, old, config.finetune, potential)
    if config.finetune is not None:
        choose_weights(potential, config.finetune)
    result = fit(
        config.training,
        potential,
        frames,
        with_neighbors(validation, potential.cutoff) if validation is not None else None,
        folder,
        meter=partial(ErrorMeter, units=potential.target_units),
        fabric=fabric,
        progress=progress,
    )
    if result.reason == "interrupted":
        raise TrainingInterrupted(folder)
    logger.info(
        "training ended (%s) after %d epochs and %d steps; best epoch %d",
        result.reason,
        result.epochs,
        result.steps,
        result.best_epoch,
    )
    evaluations: dict[str, Evaluation] = {}
    if fabric.is_global_zero:
        merge_low_rank(potential)
        potential.card = card(config, splits, result, fabric)
        potential.card["domain"] = measure_domain(train_set, potential.cutoff).as_json()
        if config.finetune is not None:
            potential.card["finetuned_from"] = origin(config.finetune) | {
                "errors": {name: e.metrics for name, e in before.items()}
            }
        save_model(potential, folder / MODEL_NAME)  # before the evaluation, should that fail
        if config.training.uncertainty:
            try_to_calibrate(potential, splits.train, splits.validation)
        evaluations = _evaluate(config, splits, potential, folder, old)
        potential.card["errors"] = {name: e.metrics for name, e in evaluations.items()}
        save_model(potential, folder / MODEL_NAME)
    return Run(folder, config, result, potential, evaluations, before)


def _examine(config: RunConfig, train: StructureDataset) -> None:
    """Have the data doctor look at the training frames; its warnings go to the log.

    Raises:
        ValueError: The first thing for which training is refused.
    """
    labels = tuple(config.training.losses.terms())
    examination = examine(train)
    for finding in examination.findings:
        if finding.severity == "warning" and finding.label in (None, *labels):
            logger.warning("%s: %s", finding.topic, finding.message)
    refusals = examination.refusals(labels)
    if refusals:
        raise ValueError(
            f"training is refused, {refusals[0].message} (dreibein inspect shows all findings)"
        )


def _check_same_run(config: RunConfig, splits: Splits, folder: Path) -> None:
    """Refuse to continue with another model, other data or another way of training.

    Raises:
        ValueError: Naming what differs.
    """
    before = load_config(folder / CONFIG_NAME)
    for name in type(before.model).model_fields:
        old, new = getattr(before.model, name), getattr(config.model, name, None)
        if old != new:
            raise ValueError(
                f"model.{name} is {new}, but the run in {folder} has {old}: continue with the "
                "same model, or start a new run"
            )
    if before.finetune != config.finetune:
        raise ValueError(
            f"the run in {folder} went on from another model, or in another way (finetune): "
            "continue with the same, or start a new run"
        )
    changed = fixed_changes(before.training.model_dump(), config.training.model_dump())
    if changed:
        raise ValueError(
            f"training.{changed[0]} may not change in a run ({folder / CONFIG_NAME}): continue "
            "with the same value, or start a new run"
        )
    if not same_splits(splits, folder):
        raise ValueError(
            f"the data or their split are not those of {folder / SPLITS_NAME}: continue with the "
            "same files and the same split, or start a new run"
        )


def _resolve_losses(
    config: RunConfig, train_set: StructureDataset, potential: Potential
) -> RunConfig:
    """Leave out of the loss what the data do not have, and say so; put numbers for "auto"."""
    losses = target_losses(config.training.losses, potential)
    training = config.training.model_copy(update={"losses": losses})
    used = terms_in_use(training, train_set.label_names, potential.outputs)
    absent = [name for name in losses.terms() if name not in used]
    if absent:
        logger.info("not in the data or not predicted, so not in the loss: %s", ", ".join(absent))
    found = {
        name: term.model_copy(update={"scale": label_scatter(train_set, name) or 1.0})
        for name, term in used.items()
        if isinstance(term, LabelTerm) and term.scale == "auto"
    }
    losses = losses.model_copy(update=dict.fromkeys(absent) | found)
    training = config.training.model_copy(update={"losses": losses})
    return config.model_copy(update={"training": training})


def _potential(config: RunConfig, splits: Splits) -> Potential:
    """A potential with fresh weights, references, shift and scale of the training set."""
    elements = splits.train.elements
    for name, side in (("validation", splits.validation), ("test", splits.test)):
        unknown = set(side.elements) - set(elements) if side is not None else set()
        if unknown:
            symbols = ", ".join(chemical_symbols[z] for z in sorted(unknown))
            raise ValueError(
                f"the {name} set has {symbols}, which no training structure has: "
                "divide the data differently"
            )
    precision = DTYPES[config.training.precision]
    if config.finetune is not None:
        return starting_potential(config, splits.train, precision)
    baseline: dict[str, Any] = {}
    if config.model.energy:
        rest = without_terms(splits.train, build_terms(config.model.terms, elements))
        references = reference_energies(config, rest)
        scale = config.training.scale
        baseline = {
            "reference_energies": references,
            "scale": output_scale(scale, rest, references),
            "shift": output_shift(scale, rest, references),
        }
    torch.manual_seed(config.training.model_seed)
    potential = build_potential(config.model, elements=elements, dtype=precision, **baseline)
    fit_targets(potential, splits.train)
    return potential


def _evaluate_start(
    config: RunConfig, splits: Splits, potential: Potential, folder: Path, old: OldData | None
) -> dict[str, Evaluation]:
    """Errors of the model that the run goes on from, kept as `evaluation_before_<split>.json`."""
    found = {}
    known = old.held_out() if old else None
    for name, side in (("old", known), ("validation", splits.validation), ("test", splits.test)):
        if side is None or not len(side):
            continue
        path = folder / f"evaluation_before_{name}.json"
        if not path.exists():  # it does when the run is resumed
            size = max(16, config.training.batch_size)
            evaluate_potential(potential, side, batch_size=size).save(path)
        found[name] = Evaluation.load(path)
        values = "; ".join(f"{k} {v:.4g}" for k, v in found[name].metrics.items())
        logger.info("%s, before: %s", name, values)
    return found


def _evaluate(
    config: RunConfig, splits: Splits, potential: Potential, folder: Path, old: OldData | None
) -> dict[str, Evaluation]:
    """Errors on old, validation and test frames; the last of them is `evaluation.json`."""
    found = {}
    known = old.held_out() if old else None
    sides = {"old": known, "validation": splits.validation, "test": splits.test}
    present = {name: side for name, side in sides.items() if side is not None and len(side)}
    for name, side in present.items():
        last = name == list(present)[-1]
        suffix = "" if last else f"_{name}"
        evaluation = evaluate_potential(
            potential,
            side,
            batch_size=max(16, config.training.batch_size),
            predictions_path=folder / f"predictions{suffix}.npz",
        )
        evaluation.model = {
            "file": MODEL_NAME,
            "architecture": config.model.architecture,
            "parameters": sum(p.numel() for p in potential.parameters()),
            "cutoff": potential.cutoff,
        }
        evaluation.data = {**side.provenance, "split": name}
        if last:
            frames = [side[k] for k in choose_frames(len(side))]
            if potential.has_energy:
                evaluation.checks = run_checks(potential, frames)
        evaluation.save(folder / f"evaluation{suffix}.json")
        found[name] = evaluation
        logger.info(
            "%s: %s", name, "; ".join(f"{k} {v:.4g}" for k, v in evaluation.metrics.items())
        )
    return found
