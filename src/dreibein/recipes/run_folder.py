"""The folder of a run: its name, its log, its records."""

import json
import logging
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from dreibein import __version__
from dreibein.data import DataConfig
from dreibein.data.load import expand
from dreibein.models.storage import MODEL_NAME
from dreibein.recipes.config import RunConfig
from dreibein.systems.files import atomic_path

CONFIG_NAME = "config.yaml"
SPLITS_NAME = "splits.json"
LAST_CHECKPOINT = Path("checkpoints", "last.ckpt")
PACKAGES = ("torch", "numpy", "torch_geometric", "lightning", "ase", "vesin", "safetensors")


def new_folder(name: str, folder: str | Path | None) -> Path:
    """Make the folder of a new run: the one given, or `runs/<date>_<time>_<name>`.

    Raises:
        ValueError: A run is there already.
    """
    if folder is None:
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        path = Path("runs", f"{stamp}_{name}")
        for k in range(2, 1000):
            if not path.exists():
                break
            path = Path("runs", f"{stamp}_{name}-{k}")
    else:
        path = Path(folder)
        for part in (LAST_CHECKPOINT, Path(MODEL_NAME)):
            if (path / part).exists():
                raise ValueError(
                    f"{path} already holds a run ({part}): continue it with dreibein train "
                    f"--resume {path}, or choose another folder"
                )
    path.mkdir(parents=True, exist_ok=True)
    return path


def run_to_resume(folder: str | Path) -> Path:
    """The folder of a run that can go on.

    Raises:
        ValueError: There is no run, or none with a checkpoint.
    """
    path = Path(folder)
    if not (path / CONFIG_NAME).is_file():
        raise ValueError(f"{path} is not the folder of a run: it has no {CONFIG_NAME}")
    if not (path / LAST_CHECKPOINT).is_file():
        raise ValueError(
            f"{path} has no checkpoint to continue from ({LAST_CHECKPOINT}): the run ended before "
            "its first epoch did, so start it anew"
        )
    return path


class _QuietFile(logging.FileHandler):
    """A log file that a full disk cannot turn into pages of tracebacks."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Drop the line."""


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Within the context everything that the package logs is also appended to a file."""
    root = logging.getLogger("dreibein")
    file = _QuietFile(path, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = root.level
    root.addHandler(file)
    if root.getEffectiveLevel() > logging.INFO:
        root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(file)
        root.setLevel(level)
        file.close()


def write_config(config: RunConfig, folder: Path) -> None:
    """Write the resolved configuration; `dreibein train` reads it again."""
    values = config.model_dump(mode="json")
    with atomic_path(folder / CONFIG_NAME) as side:
        side.write_text(
            yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )


def write_json(values: Mapping[str, Any], path: Path) -> None:
    """Write a record, whole or not at all."""
    with atomic_path(path) as side:
        side.write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")


def absolute_sources(config: RunConfig) -> RunConfig:
    """The configuration with files named so that they are found from any folder."""
    whole: dict[str, Any] = {"data": _absolute_data(config.data)}
    if config.finetune is not None:
        start: dict[str, Any] = {"model": str(Path(config.finetune.model).resolve())}
        replay = config.finetune.replay
        if replay is not None and replay.data is not None:
            old = {"data": _absolute_data(replay.data)}
            start["replay"] = replay.model_copy(update=old)
        whole["finetune"] = config.finetune.model_copy(update=start)
    return config.model_copy(update=whole)


def _absolute_data(data: DataConfig) -> DataConfig:
    changes: dict[str, Any] = {"sources": _absolute(data.sources)}
    for side in ("validation", "test"):
        portion = getattr(data, side)
        if isinstance(portion, list):
            changes[side] = _absolute(portion)
    return data.model_copy(update=changes)


def _absolute(sources: list[str]) -> list[str]:
    return [str(Path(name).resolve()) if Path(name).exists() else name for name in expand(sources)]


def circumstances() -> dict[str, Any]:
    """When, with what and by which command: for the card and the provenance."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": {"dreibein": __version__, "python": platform.python_version()}
        | {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
