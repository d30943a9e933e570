"""Checkpoints: whole or absent, never code, with a format that can be upgraded."""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins.io import CheckpointIO

from dreibein.systems.files import atomic_path

FORMAT = 1
KIND = "dreibein training checkpoint"

# UPGRADES[k] turns a checkpoint of format k into one of format k + 1
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


class AtomicCheckpointIO(CheckpointIO):
    """Writes to the side, flushes to disk, renames; reads with `weights_only=True`, always.

    What stood at the path survives every error, a full disk included. Lightning hands every
    save and load to this class, so its own default of loading arbitrary pickles is never used.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write one checkpoint.

        Raises:
            OSError: In one sentence, when the disk is full or the folder cannot be written.
        """
        path = Path(path)
        # through memory: torch's own writer turns a full disk into an abort without a reason
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as side, open(side, "wb") as file:
                file.write(buffer.getbuffer())
        except OSError as error:
            kept = "; the previous one is intact" if path.exists() else ""
            raise OSError(
                f"cannot write the checkpoint {path}: {error.strerror or error}{kept}: make room, "
                f"then continue with: dreibein train --resume {path.parent.parent}"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read one checkpoint; see `read_checkpoint`."""
        return read_checkpoint(path, map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete one checkpoint if it is there."""
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint, brought to today's format; never executes code.

    Raises:
        OSError: No such file.
        ValueError: Not a checkpoint of this package, damaged, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        state = torch.load(path, map_location=map_location, weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged or not a checkpoint of dreibein: use another one, or train again"
        ) from error
    if not isinstance(state, dict) or state.get("kind") != KIND:
        raise ValueError(f"{path} is not a training checkpoint of dreibein")
    if state["format"] > FORMAT:
        raise ValueError(
            f"{path} has checkpoint format {state['format']}, this version reads up to {FORMAT}: "
            f"update dreibein (the file was written by {state['version']})"
        )
    for version in range(state["format"], FORMAT):
        state = UPGRADES[version](state)
    return state


def link_or_copy(source: Path, target: Path) -> None:
    """Let `target` be the same file as `source` without writing it twice, where links exist."""
    side = target.with_name(f".{target.name}-link")
    side.unlink(missing_ok=True)
    try:
        os.link(source, side)
        os.replace(side, target)
        side.unlink(missing_ok=True)  # renaming onto another link of the same file does nothing
    except OSError:  # file systems without hard links
        with atomic_path(target) as copy:
            shutil.copyfile(source, copy)
