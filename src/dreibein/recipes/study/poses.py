"""The data of a study: every structure in a random pose, divided once, written beside the study."""

import json
from pathlib import Path

import ase.io
import torch
from torch_geometric.data import Data

from dreibein.data import DataConfig, StructureDataset, load_splits
from dreibein.data.orientation import Orientation, examine_orientation
from dreibein.o3 import random_rotations
from dreibein.systems import FIELDS, to_ase
from dreibein.systems.files import atomic_path

POSES_NAME = "poses.json"
SIDES = ("train", "test")


def turn(structure: Data, rotation: torch.Tensor) -> Data:
    """The structure with all its tensors turned by a rotation [3, 3]."""
    turned = structure.clone()
    for name, value in structure:
        transform = FIELDS[name].transform if name in FIELDS else ""
        if transform in ("1o", "rows 1o"):
            turned[name] = value @ rotation.mT
        elif transform == "1o x 1o":
            turned[name] = rotation @ value @ rotation.mT
    return turned


def write_poses(data: DataConfig, folder: Path, seed: int = 0) -> dict[str, int]:
    """Write train.extxyz and test.extxyz in random poses; returns the frames of both.

    `poses.json` keeps the orientation test of the data as they came and as they are written.

    Raises:
        ValueError: No test frames, or what `load_splits` refuses.
    """
    record = folder / POSES_NAME
    if record.is_file():
        return {side: int(json.loads(record.read_text())[side]["frames"]) for side in SIDES}
    splits = load_splits(data)
    if splits.test is None:
        raise ValueError("a study needs test frames: add --test COUNT, or test sources")
    found = {}
    for number, (side, dataset) in enumerate((("train", splits.train), ("test", splits.test))):
        generator = torch.Generator().manual_seed(2 * seed + number)
        structures = [dataset[k] for k in range(len(dataset))]
        turns = random_rotations(len(structures), generator=generator)
        turned = [turn(s, rotation) for s, rotation in zip(structures, turns, strict=True)]
        with atomic_path(folder / f"{side}.extxyz") as path:
            ase.io.write(path, [to_ase(structure) for structure in turned], format="extxyz")
        before, after = examine_orientation(structures), examine_orientation(turned)
        found[side] = {
            "frames": len(dataset),
            "sources": _names(dataset),
            "orientation": _plain(before),
            "orientation_after": _plain(after),
        }
    with atomic_path(record) as path:
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return {side: found[side]["frames"] for side in SIDES}  # type: ignore[misc]


def posed_data(folder: Path, size: int | None = None) -> DataConfig:
    """What a piece learns from: the first `size` training frames of the study."""
    source = str((folder / "train.extxyz").resolve())
    return DataConfig(sources=[source], train=size, validation=None, test=None)


def posed_test(folder: Path) -> DataConfig:
    """The test frames of the study."""
    return DataConfig(sources=[str((folder / "test.extxyz").resolve())], validation=None)


def _names(dataset: StructureDataset) -> list[str]:
    return [str(source["name"]) for source in dataset.provenance.get("sources", [])]


def _plain(orientation: Orientation) -> dict[str, float]:
    return {"statistic": orientation.statistic, "probability": orientation.probability}
