"""Several runs that differ in their seeds: a committee in one folder."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from dreibein.data import StructureDataset, load_splits
from dreibein.models import load_model
from dreibein.models.storage import ENSEMBLE_NAME, MEMBERS, MODEL_NAME
from dreibein.nn import Committee
from dreibein.nn.committee import FORCES_SPREAD
from dreibein.recipes.config import RunConfig
from dreibein.recipes.run_folder import LAST_CHECKPOINT, new_folder, write_json
from dreibein.recipes.training import Run, train_run
from dreibein.recipes.uncertainty import batches, calibrate_committee

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]


def train_ensemble(
    config: RunConfig,
    size: int,
    *,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> list[Run]:
    """Train `size` members on the same frames, each with weights and order of its own.

    They stand in `member_1`, `member_2`, … of one folder, each a whole run; the folder is a model
    wherever a model file is taken. A call with the same folder goes on: finished members are kept,
    one that was interrupted is resumed. At the end `ensemble.json` says how much the members
    disagree on forces of held-out frames, which is the bound of the alarm.

    Args:
        config: Of every member; its model and order seeds are those of the first.
        size: At least 2.
        folder: Of the ensemble; by default `runs/<date>_<time>_<name>`.
        progress: As for `train_run`, of each member in turn.

    Returns:
        The runs of this call (members that were finished before are not among them).

    Raises:
        ValueError: Fewer than two, or anything that `train_run` refuses.
    """
    if size < 2:
        raise ValueError(f"an ensemble has at least 2 members, not {size}")
    path = Path(folder) if folder is not None else new_folder(config.name, None)
    if (path / MODEL_NAME).exists():
        raise ValueError(f"{path} holds a single run: choose another folder for the ensemble")
    runs = []
    for k in range(size):
        member = path / f"member_{k + 1}"
        if (member / MODEL_NAME).is_file():
            logger.info("member %d of %d is finished: %s", k + 1, size, member)
            continue
        logger.info("member %d of %d", k + 1, size)
        seeds = {
            "model_seed": config.training.model_seed + k,
            "order_seed": config.training.order_seed + k,
        }
        training = config.training.model_copy(update=seeds)
        begun = (member / LAST_CHECKPOINT).is_file()
        runs.append(
            train_run(
                config.model_copy(update={"training": training}),
                folder=None if begun else member,
                resume=member if begun else None,
                progress=progress,
            )
        )
    members = [load_model(path / f"member_{k + 1}") for k in range(size)]
    write_json(judge_ensemble(Committee(members), config), path / ENSEMBLE_NAME)
    found = sorted(path.glob(MEMBERS))
    if len(found) > size:
        logger.warning("%s has %d members, more than the %d asked for", path, len(found), size)
    return runs


def calibrate_ensemble(
    folder: str | Path, validation_set: StructureDataset
) -> dict[str, float | int]:
    """Factors of an ensemble's spreads, written to its record; see `calibrate_committee`."""
    path = Path(folder) / ENSEMBLE_NAME
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    committee = load_model(folder)
    assert isinstance(committee, Committee)
    factors = calibrate_committee(committee, validation_set)
    write_json(record | factors, path)
    return factors


def judge_ensemble(committee: Committee, config: RunConfig) -> dict[str, float | int | str]:
    """How much the members disagree on held-out frames, and by which factor they err more.

    Largest and mean standard deviation of a force, in eV/Å; the factors of validation frames.
    """
    splits = load_splits(config.data)
    sides = (("validation", splits.validation), ("test", splits.test), ("training", splits.train))
    name, frames = next((n, side) for n, side in sides if side is not None and len(side))
    spread = _spread(committee, frames)
    validation = splits.validation
    factors = calibrate_committee(committee, validation) if validation else {}
    return {
        "members": len(committee.members),
        "frames": f"{len(frames)} of {name}",
        "disagreement_ev_per_a": float(spread.max()),
        "mean_disagreement_ev_per_a": float(spread.mean()),
        **factors,
    }


def _spread(committee: Committee, frames: StructureDataset) -> torch.Tensor:
    """Standard deviation of the force on every atom of every frame."""
    found = [
        committee(batch, compute=(FORCES_SPREAD,))[FORCES_SPREAD]
        for batch in batches(frames, committee)
    ]
    return torch.cat(found)
