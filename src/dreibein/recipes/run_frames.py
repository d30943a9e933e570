"""The frames of a run, read again from the data of its configuration."""

import json
from pathlib import Path

from dreibein.data import Splits, StructureDataset, load_splits
from dreibein.recipes.config_file import load_config
from dreibein.recipes.run_folder import CONFIG_NAME, SPLITS_NAME

INSTEAD = "the data to evaluate on after the model"


def same_splits(splits: Splits, folder: Path) -> bool:
    """Whether data and split are those that the run in `folder` recorded."""
    saved = json.loads((folder / SPLITS_NAME).read_text(encoding="utf-8"))
    return bool(saved == json.loads(json.dumps(splits.record())))


def run_splits(folder: str | Path, instead: str = INSTEAD) -> Splits:
    """Frames of a run, divided as they were.

    Args:
        folder: Of the run.
        instead: What to name where it has none, for messages.

    Raises:
        ValueError: No folder of a run, or data that have changed.
    """
    folder = Path(folder)
    if not (folder / CONFIG_NAME).is_file():
        raise ValueError(f"{folder} is not the folder of a run: name {instead}")
    splits = load_splits(load_config(folder / CONFIG_NAME).data)
    if not same_splits(splits, folder):
        raise ValueError(
            f"the data or their split are not those of {folder / SPLITS_NAME}: name {instead}"
        )
    return splits


def held_out_frames(folder: str | Path) -> StructureDataset:
    """The test frames of a run.

    Raises:
        ValueError: No folder of a run, a run without test frames, or data that have changed.
    """
    splits = run_splits(folder)
    if splits.test is None:
        raise ValueError(f"the run in {folder} kept no test frames: name {INSTEAD}")
    return splits.test
