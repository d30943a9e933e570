"""Training, validation and test frames: deterministic, and equal geometries on one side."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dreibein.data.config import DataConfig
from dreibein.data.dataset import StructureDataset
from dreibein.data.load import Progress, load_data
from dreibein.data.table import Array

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """Three data sets; `validation` and `test` may be None.

    Attributes:
        train: Frames to learn from.
        validation: Frames to steer by.
        test: Frames for the final errors.
        seed: Seed of the division.
        sha256: Of the sources that were divided.
        notes: Sentences worth reading: geometries that stand on two sides.
    """

    train: StructureDataset
    validation: StructureDataset | None
    test: StructureDataset | None
    seed: int
    sha256: str
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, object]:
        """Frame numbers of each side in its own sources, for `splits.json`."""
        sides = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            **{name: list(side.indices) if side else [] for name, side in sides.items()},
            "seed": self.seed,
            "data_sha256": self.sha256,
        }


def load_splits(
    config: DataConfig, *, strict: bool = True, progress: Progress | None = None
) -> Splits:
    """Load the sources of a configuration and divide them as it says.

    Raises:
        ValueError: Portions that do not fit the number of frames, or anything that `load_data`
            refuses.
    """
    whole = load_data(config, strict=strict, progress=progress)
    sides: dict[str, StructureDataset | None] = {"validation": None, "test": None}
    counts: dict[str, int] = {}
    for name in sides:
        portion = getattr(config, name)
        if isinstance(portion, list):
            apart = config.model_copy(update={"sources": portion})
            sides[name] = load_data(apart, strict=strict, progress=progress)
        else:
            counts[name] = count_of(portion, len(whole), name)
    train_count = None if config.train is None else count_of(config.train, len(whole), "train")
    chosen = split_indices(whole.geometry_hashes(), counts, train_count, seed=config.split_seed)
    for name in counts:
        if len(chosen[name]):
            sides[name] = whole.subset(chosen[name])
    train = whole.subset(chosen["train"])
    notes = [text for name in sides if (text := _shared(train, sides[name], name))]
    for note in notes:
        log.warning("%s", note)
    return Splits(
        train=train,
        validation=sides["validation"],
        test=sides["test"],
        seed=config.split_seed,
        sha256=str(whole.provenance.get("sha256", "")),
        notes=tuple(notes),
    )


def _shared(train: StructureDataset, side: StructureDataset | None, name: str) -> str:
    """A sentence where held-out frames repeat geometries of training frames, else ''."""
    if side is None:
        return ""
    known = np.isin(side.geometry_hashes(), train.geometry_hashes())
    if not known.any():
        return ""
    return (
        f"{int(known.sum())} of {len(side)} {name} frames have the geometry of a training frame "
        f"(first: {side.describe(int(np.argmax(known)))}): errors on them are too good"
    )


def count_of(portion: int | float | None, total: int, name: str) -> int:
    """Frames in a portion of `total`: a count, or a fraction below 1.

    >>> count_of(0.1, 55, "test"), count_of(50, 1000, "validation"), count_of(None, 9, "test")
    (6, 50, 0)
    """
    if portion is None:
        return 0
    if isinstance(portion, bool) or portion < 0:
        raise ValueError(f"{name}: {portion} is no number of frames; give a count or a fraction")
    if isinstance(portion, int):
        if portion > total:
            raise ValueError(f"{name}: {portion} frames asked for, but there are only {total}")
        return portion
    if portion >= 1.0:
        raise ValueError(
            f"{name}: {portion} is no fraction below 1; for a count write a whole number"
        )
    return round(portion * total + 1e-9)


def split_indices(
    hashes: Array, held_out: dict[str, int], train: int | None = None, *, seed: int = 0
) -> dict[str, list[int]]:
    """Frame numbers of each side, ascending.

    Groups of equal geometries go to one side as a whole, so a count can be missed by the size of
    a group where no single frame is left to fill it.

    Args:
        hashes: [F] equal for equal geometries.
        held_out: Side -> number of frames.
        train: Number of training frames; None for all that are left.
        seed: Of the order.

    Raises:
        ValueError: Nothing is left to train on, or too little.
    """
    total = len(hashes)
    left = total - sum(held_out.values())
    if left < 1 or (train or 0) > left:
        asked = ", ".join(f"{name} {n}" for name, n in held_out.items() if n)
        need = f"train {train}" if train else "at least 1 to train on"
        raise ValueError(f"{total} frames are too few for {asked} and {need}: hold out fewer")
    groups = _groups(hashes, seed)
    sides: dict[str, list[int]] = {}
    for name, number in held_out.items():
        taken, groups = _take(groups, number)
        sides[name] = sorted(taken)
    if train is None:
        sides["train"] = sorted(i for group in groups for i in group)
    else:
        sides["train"] = sorted(_take(groups, train)[0])
    if not sides["train"]:
        raise ValueError(
            f"all {total} frames fall into {len(set(hashes.tolist()))} groups of equal geometry: "
            "nothing is left to train on"
        )
    return sides


def _groups(hashes: Array, seed: int) -> list[list[int]]:
    """Frames of equal geometry together, groups in an order that only the seed decides."""
    members: dict[int, list[int]] = {}
    for index, value in enumerate(hashes.tolist()):
        members.setdefault(value, []).append(index)
    groups = list(members.values())
    order = _order(len(groups), seed)
    return [groups[k] for k in order]


def _order(number: int, seed: int) -> Sequence[int]:
    """A permutation by sorting hashes: the same on every platform and in every release."""
    keys = np.empty(number, dtype=np.uint64)
    for k in range(number):
        digest = hashlib.blake2b(f"{seed} {k}".encode(), digest_size=8).digest()
        keys[k] = int.from_bytes(digest, "little")
    return np.argsort(keys, kind="stable").tolist()


def _take(groups: list[list[int]], number: int) -> tuple[list[int], list[list[int]]]:
    """Frames of the first groups that fit into `number`, and the groups that are left."""
    taken: list[int] = []
    rest: list[list[int]] = []
    for group in groups:
        if len(taken) + len(group) <= number:
            taken.extend(group)
        else:
            rest.append(group)
    return taken, rest
