"""The data of a study: every structure in a random pose, divided once, written beside the study."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreibein.data import DataConfig, StructureDataset, label_scatter, load_splits, write_hdf5
from dreibein.data.orientation import Orientation, examine_orientation
from dreibein.data.table import Column, Table
from dreibein.nn.targets import Target
from dreibein.o3 import Irreps, act, random_rotations
from dreibein.recipes.study.config import Scales, StudyConfig
from dreibein.recipes.study.names import ENERGY_TARGETS
from dreibein.systems import FIELDS
from dreibein.systems.files import atomic_path

POSES_NAME = "poses.json"
SIDES = ("train", "test")
Array = np.ndarray[Any, Any]


def turn(table: Table, rotations: Array, targets: Mapping[str, Target]) -> Table:
    """Frames with all their tensors turned, each by its own rotation [F, 3, 3].

    Args:
        table: Frames.
        rotations: One for each.
        targets: What labels are that are no field of the package.
    """
    of_atoms = rotations[table.owner]
    columns = {}
    for name, column in table.columns.items():
        matrices = of_atoms if column.per_atom else rotations
        values = _turned(name, column.values, matrices, targets.get(name))
        columns[name] = Column(values, column.mask, column.per_atom)
    return replace(
        table,
        pos=np.einsum("aij,aj->ai", of_atoms, table.pos),
        cell=np.einsum("fij,frj->fri", rotations, table.cell),
        columns=columns,
    )


def _turned(name: str, values: Array, matrices: Array, target: Target | None) -> Array:
    """Rows of one label, each turned by its matrix."""
    if target is not None and target.reduce:
        return values
    if target is not None and target.irreps is not None:
        rows = torch.from_numpy(values.reshape(len(values), -1))
        found = act(Irreps(target.irreps), torch.from_numpy(matrices), rows)
        return np.asarray(found.numpy().reshape(values.shape))
    if name in FIELDS:
        rank = {"1o": 1, "1o x 1o": 2}.get(FIELDS[name].transform, 0)
    else:
        rank = (target.rank or 0) if target is not None else 0
    tensor = values.reshape(len(values), *[3] * rank) if rank else values
    for axis in range(1, rank + 1):
        moved = np.moveaxis(tensor, axis, 1)
        tensor = np.moveaxis(np.einsum("aij,aj...->ai...", matrices, moved), 1, axis)
    return np.ascontiguousarray(tensor).reshape(values.shape)


def write_poses(study: StudyConfig, folder: Path, seed: int = 0) -> dict[str, int]:
    """Write train.h5 and test.h5 in random poses; returns the frames of both.

    `poses.json` keeps the orientation test of the data as they came and as they are written, and
    the scale of each label: for energies and scalars of structures what a number for each element
    leaves, for forces their rms, for others the scatter about the mean.

    Raises:
        ValueError: No test frames, or what `load_splits` refuses.
    """
    record = folder / POSES_NAME
    if record.is_file():
        return {side: int(_record(folder)[side]["frames"]) for side in SIDES}
    labels = dict.fromkeys((*study.of_energy, *(n for n in study.heads() if n != "u0")))
    if "energy" in study.target:
        labels["energy"] = None
    splits = load_splits(study.data.model_copy(update={"labels": list(labels)}))
    if splits.test is None:
        raise ValueError("a study needs test frames: add --test COUNT, or test sources")
    found: dict[str, Any] = {}
    for number, (side, dataset) in enumerate((("train", splits.train), ("test", splits.test))):
        generator = torch.Generator().manual_seed(2 * seed + number)
        turns = random_rotations(len(dataset), generator=generator).double().numpy()
        columns = dict(dataset.table().columns)
        kept = {name: columns[name] for name in labels}
        if "u0" in study.heads():
            kept["u0"] = kept.pop("energy")
        table = replace(dataset.table(), columns=kept)
        turned = StructureDataset([turn(table, turns, study.heads())], dataset.provenance)
        write_hdf5(turned, folder / f"{side}.h5")
        found[side] = {
            "frames": len(dataset),
            "sources": _names(dataset),
            "orientation": _plain(examine_orientation(dataset[k] for k in range(len(dataset)))),
            "orientation_after": _plain(examine_orientation(turned[k] for k in range(len(turned)))),
        }
        if side == "train":
            names = (*study.of_energy, *study.heads())
            found["scales"] = {name: _scale(turned, name, study) for name in names}
    with atomic_path(record) as path:
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return {side: found[side]["frames"] for side in SIDES}


def posed_data(folder: Path, size: int | None = None) -> DataConfig:
    """What a piece learns from: `size` training frames of the study."""
    source = str((folder / "train.h5").resolve())
    return DataConfig(sources=[source], train=size, validation=None, test=None)


def posed_test(folder: Path) -> DataConfig:
    """The test frames of the study."""
    return DataConfig(sources=[str((folder / "test.h5").resolve())], validation=None)


def label_scales(folder: Path) -> Scales:
    """The scale of each label in its unit, from the training frames."""
    return {name: float(value) for name, value in _record(folder)["scales"].items()}


def _record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / POSES_NAME).read_text(encoding="utf-8"))
    return found


def _scale(dataset: StructureDataset, name: str, study: StudyConfig) -> float:
    table = dataset.table()
    column = table.columns[name]
    values = column.values[column.mask]
    target = study.heads().get(name)
    counted = name == "energy" or (
        target is not None and target.scope == "structure" and target.rank == 0
    )
    if counted and (target is None or target.pool == "sum"):
        counts = table.compositions()[0][column.mask].astype(float)
        values = values.reshape(-1)
        residual = values - counts @ np.linalg.lstsq(counts, values, rcond=None)[0]
        return float(np.sqrt(np.mean(residual**2))) or 1.0
    if name in ENERGY_TARGETS:
        return float(np.sqrt(np.mean(values**2))) or 1.0
    return label_scatter(dataset, name) or 1.0


def _names(dataset: StructureDataset) -> list[str]:
    return [str(source["name"]) for source in dataset.provenance.get("sources", [])]


def _plain(orientation: Orientation) -> dict[str, float]:
    return {"statistic": orientation.statistic, "probability": orientation.probability}
