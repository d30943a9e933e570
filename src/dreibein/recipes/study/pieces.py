"""Every training of a study in a process of its own; what is finished is not done again."""

import json
import logging
import multiprocessing
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import yaml

from dreibein.data import Splits, load_data, load_splits, with_neighbors
from dreibein.evaluate import evaluate_potential, metric_name
from dreibein.evaluate.errors import MEV, relative_name
from dreibein.recipes.run_folder import LAST_CHECKPOINT
from dreibein.recipes.study.config import Piece, StudyConfig
from dreibein.recipes.study.costs import Cost, write_costs
from dreibein.recipes.study.names import ENERGY_TARGETS
from dreibein.recipes.study.poses import label_scales, posed_data, posed_test, write_poses
from dreibein.recipes.study.report import write_study
from dreibein.recipes.study.tables import PIECE_NAME
from dreibein.recipes.training import train_run
from dreibein.systems.files import atomic_path

Progress = Callable[[int, int, str], None]
CONFIG_NAME = "study.yaml"
PIECES = "pieces"
POLL = 0.2  # s between looks at the processes
logger = logging.getLogger(__name__)


def run_study(
    study: StudyConfig,
    folder: Path,
    *,
    processes: int = 1,
    max_seconds: float | None = None,
    progress: Progress | None = None,
) -> Path:
    """Run what is missing of a study and write its table, figures and page.

    Args:
        study: All choices.
        folder: Of the study; one that holds an unfinished study of the same choices goes on.
        processes: Trainings at a time, each in a process with one thread.
        max_seconds: Start no training after so long.
        progress: Called with pieces done, pieces altogether and the name of the last.

    Returns:
        Path of the page.

    Raises:
        ValueError: Another study is in the folder, or a piece failed (its own words).
    """
    folder.mkdir(parents=True, exist_ok=True)
    _keep_config(study, folder)
    frames = write_poses(study, folder)
    if any(size > frames["train"] for size in study.sizes):
        raise ValueError(f"a size of {max(study.sizes)} exceeds the {frames['train']} frames")
    pieces = study.pieces(frames["train"])
    costs = {cost.choice: cost for cost in write_costs(study, folder)}
    splits = {size: load_splits(posed_data(folder, size)) for size in {p.size for p in pieces}}
    todo = [piece for piece in pieces if not (_folder(folder, piece) / PIECE_NAME).is_file()]
    started = time.monotonic()
    running: dict[Piece, BaseProcess] = {}
    done = len(pieces) - len(todo)
    report = progress or (lambda done, total, note: None)
    report(done, len(pieces), "")
    # a fork saves seconds of imports, and is safe while no thread of torch has run
    context: Any = multiprocessing.get_context("fork" if torch.get_num_threads() == 1 else "spawn")
    if todo and max_seconds != 0:
        _find_neighbors(splits, study.cutoff)
    while todo or running:
        late = max_seconds is not None and time.monotonic() - started > max_seconds
        while todo and len(running) < processes and not late:
            piece = todo.pop(0)
            given = (study, piece, folder, costs[piece.choice], splits[piece.size])
            running[piece] = context.Process(target=run_piece, args=given)
            running[piece].start()
        if late and not running:
            break
        time.sleep(POLL)
        for piece in [piece for piece, process in running.items() if not process.is_alive()]:
            running.pop(piece).join()
            _require_result(folder, piece)
            done += 1
            report(done, len(pieces), piece.name)
    return write_study(study, folder, pieces)


def run_piece(study: StudyConfig, piece: Piece, folder: Path, cost: Cost, splits: Splits) -> None:
    """Train one piece, as wide and long as planned, and write what came out as piece.json."""
    here = _folder(folder, piece)
    logging.getLogger("dreibein").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    try:
        resume = (here / LAST_CHECKPOINT).is_file()
        if not resume and here.exists():
            shutil.rmtree(here)
        started = time.process_time()
        scales = label_scales(folder)
        config = study.run(piece, posed_data(folder, piece.size), scales, cost.width, cost.steps)
        run = train_run(config, folder=here, resume=here if resume else None, splits=splits)
        seconds = time.process_time() - started
        tests = with_neighbors(load_data(posed_test(folder)), run.potential.cutoff)
        metrics = evaluate_potential(run.potential, tests, batch_size=32).metrics
        for name, scale in scales.items():
            factor = MEV if name in ENERGY_TARGETS else 1.0
            rmse = metrics[metric_name(name, "rmse", run.potential.target_units.get(name))]
            metrics[relative_name(name)] = rmse / factor / scale
        record = {
            **piece.model_dump(),
            "features": cost.features,
            "parameters": sum(p.numel() for p in run.potential.parameters()),
            "steps": run.fit.steps,
            "train_seconds": round(seconds, 2),
            "peak_mib": _peak_mib(),
            "metrics": metrics,
        }
        with atomic_path(here / PIECE_NAME) as path:
            path.write_text(json.dumps(record, indent=1), encoding="utf-8")
    except Exception:
        here.mkdir(parents=True, exist_ok=True)
        (here / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        raise


def _find_neighbors(splits: Mapping[int, Splits], cutoff: float) -> None:
    """Neighbor lists once for all processes that are forked from this one."""
    for divided in splits.values():
        frames = with_neighbors(divided.train, cutoff)
        for k in range(len(frames)):
            frames[k]


def _keep_config(study: StudyConfig, folder: Path) -> None:
    """Write the choices, or refuse a folder with others; only seeds may be more or fewer."""
    path = folder / CONFIG_NAME
    values = study.model_dump(mode="json")
    if path.is_file():
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
        if StudyConfig.model_validate(before | {"seeds": study.seeds}) != study:
            raise ValueError(f"{path} has other choices: repeat those, or give another folder")
    with atomic_path(path) as side:
        side.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _folder(folder: Path, piece: Piece) -> Path:
    return folder / PIECES / piece.name


def _require_result(folder: Path, piece: Piece) -> None:
    here = _folder(folder, piece)
    if not (here / PIECE_NAME).is_file():
        error = here / "error.txt"
        words = error.read_text(encoding="utf-8").strip().splitlines() if error.is_file() else []
        last = words[-1] if words else "it was killed"
        raise ValueError(f"the training {piece.name} failed: {last} (see {error})")


def _peak_mib() -> float | None:
    """Largest memory of this process in MiB, from /proc; None elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM:")), None)
