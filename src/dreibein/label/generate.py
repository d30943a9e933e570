"""Labeled frames of a molecule or a cell: sampled, labeled, written; same seed, same bytes."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from dreibein.label.calculations import Array, Labels, Method
from dreibein.label.config import LabelConfig
from dreibein.label.differences import difference_level, fingerprint, labeled_frames, subtract
from dreibein.label.frames import Frame, frames_of_trajectory, single_point_frame, write_frames
from dreibein.label.methods import Level, is_xtb, make_method
from dreibein.label.partial import (
    PartialResults,
    discard_partial,
    partial_folder,
    refuse_other_settings,
)
from dreibein.label.sampling import MAX_RESTARTS, Trajectory, begin
from dreibein.label.structures import bare, frames_of_file, starting_structures
from dreibein.label.summary import LabelSummary, correlations, label_statistics
from dreibein.label.trained import TrainedMethod
from dreibein.label.workers import available_cores, carry_on, label_frames, worker_pool
from dreibein.label.xtb import XTB_METHODS

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]

FORMAT = "dreibein-labels/1"
# A trajectory is kept, and may change worker, this often. Has no influence on results.
_PART_S = 2.0


@dataclass(frozen=True)
class _Plan:
    """A run that is checked and ready: its methods, its structures, and what fixes its result.

    Attributes:
        level: What workers make the labels' method of.
        driver: What they make the sampler of.
        dear: Labels that those of the method are taken from, where a difference is wanted.
        theory: Level of theory of the result.
    """

    config: LabelConfig
    level: Level
    method: Method
    driver: Level | None
    sampler: Method | None
    structures: list[Atoms]
    dear: list[Labels]
    theory: str
    settings: dict[str, Any]


def generate_labels(
    config: LabelConfig,
    output: str | Path,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> LabelSummary:
    """Sample frames by molecular dynamics (or take those of a file), label them, write extxyz.

    Same settings, same bytes on the same machine, whatever the number of workers and however often
    the run was killed: work is cut into seeded trajectories and groups of frames that know nothing
    of processes, and each finished part is kept in `<output>.partial`. Called again with the same
    settings it goes on from there; beside the file, `<output>.json` tells how it was made.

    Args:
        config: What to sample and how to label it.
        output: extxyz file to write; its folder must exist.
        workers: Processes of one thread each; by default one a core.
        overwrite: Replace an output, or results begun, of other settings.
        progress: Called with frames sampled plus frames labeled, their total, and a note.

    Raises:
        ValueError: A setting is wrong, or the output belongs to other settings; says how.
        OSError: The output cannot be written, or a worker died.
        ImportError: A package is missing; names the extra.
    """
    started = time.monotonic()
    output = Path(output)
    if workers is not None and workers < 1:
        raise ValueError(f"the number of workers must be at least 1, not {workers}")
    _check_place(output)
    plan = _plan(config)
    found = _finished(output, plan.settings, overwrite)
    if found is not None:
        logger.info("%s stands already", output)
        return LabelSummary(output=output, seconds=time.monotonic() - started, **found)
    partial = PartialResults(output, plan.settings, overwrite=overwrite)
    try:
        statistics = _run(plan, partial, output, workers or available_cores(), progress)
        sidecar = {
            "format": FORMAT,
            "sha256": _hash(output),
            "settings": plan.settings,
            "summary": statistics,
        }
        _write_sidecar(output, sidecar)
        partial.remove()
    finally:
        partial.close()
    seconds = time.monotonic() - started
    return LabelSummary(output=output, seconds=seconds, **statistics)


def _check_place(output: Path) -> None:
    """Refuse, before anything is computed, an output that could not be written in the end."""
    if output.suffix not in (".extxyz", ".xyz"):
        raise ValueError(f"{output}: labels are written as extxyz; end the name with .extxyz")
    if output.is_dir():
        raise IsADirectoryError(f"{output} is a folder; name a file in it")
    if not output.parent.is_dir():
        raise NotADirectoryError(f"{output.parent} is no folder; make it, or name another output")


def _plan(config: LabelConfig) -> _Plan:
    """Check methods and structures, before any process starts."""
    level = Level(config.method, config.correction)
    method = make_method(*level)
    if isinstance(method, TrainedMethod):
        raise ValueError(
            f"{config.method} is a trained model, whose labels `dreibein predict` computes: name "
            "it as the sampler, and a method of quantum chemistry to label what it visits"
        )
    sampler = driver = None
    theory, dear = method.name, list[Labels]()
    if config.difference:
        labeled, dear, high = labeled_frames(config)
        structures = [bare(atoms, config) for atoms in labeled]
        theory = difference_level(high, method.name)
    elif config.single_points:
        structures = frames_of_file(config)
    else:
        own = config.sampler is None and is_xtb(config.method)
        driver = level if own else Level(config.sampler or XTB_METHODS[0])
        sampler = make_method(*driver)
        structures = starting_structures(config)
    checked = set()
    for k, atoms in enumerate(structures):
        kind = (*sorted(set(atoms.numbers)), int(atoms.numbers.sum()), *atoms.pbc, *_state(atoms))
        if kind in checked:
            continue
        checked.add(kind)
        try:
            for checking in filter(None, (method, sampler)):
                checking.check(atoms)
        except ValueError as error:
            where = f"frame {k} of {config.structure}" if config.single_points else config.structure
            raise ValueError(f"{where}: {error}") from error
    packages = dict.fromkeys([*method.packages, *(sampler.packages if sampler else ()), "ase"])
    # the model is told by its hash in the method's name, not by its place
    settings: dict[str, Any] = config.model_dump(exclude={"correction", "difference"}) | {
        "method": theory,
        "sampler": sampler.name if sampler else None,
        "structure_sha256": _fingerprint(structures),
        "versions": {name: _version(name) for name in ("dreibein", *packages, "numpy")},
    }
    if dear:
        settings["labels_sha256"] = fingerprint(dear)
    return _Plan(config, level, method, driver, sampler, structures, dear, theory, settings)


def _run(
    plan: _Plan, partial: PartialResults, output: Path, workers: int, progress: Progress | None
) -> dict[str, Any]:
    """Everything between a checked plan and a written file; returns what the summary says."""
    config, trajectories = plan.config, []
    with _pool_or_sentence(workers) as pool:
        if plan.sampler is None:
            frames = [single_point_frame(atoms, plan.theory) for atoms in plan.structures]
            total, before = len(frames), 0
        else:
            total, before = 2 * config.frames, config.frames
            trajectories = _sample(pool, plan, partial, lambda n: _say(progress, n, total, plan))
            names = plan.method.name, plan.sampler.name
            frames = [
                frame
                for t in trajectories
                for frame in frames_of_trajectory(t, t.index % len(plan.structures), config, *names)
            ]
        labels = _label(
            pool, plan, partial, frames, lambda n: _say(progress, before + n, total, plan)
        )
    if plan.dear:
        labels = [subtract(dear, found) for dear, found in zip(plan.dear, labels, strict=True)]
    good = [found for found in labels if isinstance(found, Labels)]
    failed = {k: found for k, found in enumerate(labels) if isinstance(found, str)}
    if not good:
        raise ValueError(f"no frame could be labeled with {plan.method.name}: {failed[0]}")
    for k, reason in failed.items():
        logger.warning("frame %d is left out: %s", k, reason)
    write_frames(output, frames, labels)
    return _statistics(plan, trajectories, good, sorted(failed))


def _statistics(
    plan: _Plan, trajectories: list[Trajectory], labels: list[Labels], failed: list[int]
) -> dict[str, Any]:
    config = plan.config
    rho, time_fs = correlations(trajectories, config.steps_per_interval, config.timestep_fs)
    breaks = [reason for trajectory in trajectories for reason in trajectory.breaks]
    return {
        "method": plan.theory,
        "sampler": plan.sampler.name if plan.sampler else None,
        "frames": len(labels),
        "failed": failed,
        "conformers": len(plan.structures) if trajectories else None,
        "trajectories": len(trajectories) or None,
        "restarts_bonds": breaks.count("bonds"),
        "restarts_convergence": breaks.count("convergence"),
        "broken_frames": sum(trajectory.broken_frames for trajectory in trajectories),
        **label_statistics(labels),
        "energy_autocorrelation": rho,
        "correlation_time_fs": time_fs,
    }


def _sample(
    pool: ProcessPoolExecutor,
    plan: _Plan,
    partial: PartialResults,
    report: Callable[[int], None],
) -> list[Trajectory]:
    """All trajectories, each carried on in parts by whichever worker is free."""
    driver = plan.driver
    assert driver is not None
    found: dict[int, Trajectory] = {}
    for index in range(plan.config.num_trajectories):
        atoms = plan.structures[index % len(plan.structures)]
        found[index] = partial.load_trajectory(index, atoms) or begin(index, atoms, plan.config)
    running: dict[Future[Trajectory], int] = {}

    def submit(index: int) -> None:
        trajectory = found[index]
        if trajectory.hopeless:
            raise ValueError(_hopeless(trajectory, plan))
        if not trajectory.done:
            job = pool.submit(carry_on, trajectory, plan.config, driver, _PART_S)
            running[job] = index

    for index in found:
        submit(index)
    report(_progress(found, plan.config))
    while running:
        for job in wait(running, return_when=FIRST_COMPLETED).done:
            index = running.pop(job)
            found[index] = job.result()
            partial.save_trajectory(found[index])
            submit(index)
        report(_progress(found, plan.config))
    return [found[index] for index in sorted(found)]


def _progress(found: dict[int, Trajectory], config: LabelConfig) -> int:
    """Frames sampled, where equilibration counts as its share of them."""
    share = sum(
        t.wanted * min(t.interval / (config.equilibration_intervals + t.wanted), 1.0)
        if not t.done
        else t.wanted
        for t in found.values()
    )
    return int(share)


def _label(
    pool: ProcessPoolExecutor,
    plan: _Plan,
    partial: PartialResults,
    frames: Sequence[Frame],
    report: Callable[[int], None],
) -> list[Labels | str]:
    """Labels of all frames, in groups that do not depend on the number of workers."""
    size = plan.method.frames_per_task
    groups = range(0, len(frames), size)
    found: dict[int, list[Labels | str]] = {}
    running: dict[Future[list[Labels | str]], int] = {}
    for group, first in enumerate(groups):
        known = partial.load_labels(group)
        if known is not None:
            found[group] = known
            continue
        part: list[tuple[Atoms, Array]] = [
            (frame.atoms, frame.atoms.positions) for frame in frames[first : first + size]
        ]
        job = pool.submit(label_frames, part, plan.level, plan.config.hessian)
        running[job] = group
    report(sum(map(len, found.values())))
    while running:
        for job in wait(running, return_when=FIRST_COMPLETED).done:
            group = running.pop(job)
            found[group] = job.result()
            partial.save_labels(group, found[group])
        report(sum(map(len, found.values())))
    return [labels for group in sorted(found) for labels in found[group]]


@contextmanager
def _pool_or_sentence(workers: int) -> Iterator[ProcessPoolExecutor]:
    try:
        with worker_pool(workers) as pool:
            yield pool
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a worker process died, perhaps for want of memory; run the same command again to go "
            "on from there, with fewer workers if need be"
        ) from error


def _say(progress: Progress | None, done: int, total: int, plan: _Plan) -> None:
    if progress is not None:
        sampling = plan.sampler is not None and done < plan.config.frames
        note = f"dynamics, {plan.sampler.name}" if sampling and plan.sampler else plan.method.name
        progress(done, total, note)


def _hopeless(trajectory: Trajectory, plan: _Plan) -> str:
    reasons = {
        "bonds": "its bonds changed; lower the temperature, or keep broken frames",
        "convergence": "its electronic structure did not converge; check the start, charge and "
        "spin, or shorten the time step",
    }
    return (
        f"{plan.config.structure}: trajectory {trajectory.index} was started {MAX_RESTARTS + 1} "
        f"times at {plan.config.temperature_k:g} K and each time {reasons[trajectory.breaks[-1]]}"
    )


def _finished(output: Path, settings: dict[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """What the sidecar of an output with these settings says; refuses an output of others."""
    if not output.exists():
        return None
    sidecar, begun = _sidecar(output), partial_folder(output).exists()
    if not sidecar.exists():
        if begun or overwrite:
            return None
        raise ValueError(f"{output} exists already: name another output, or overwrite it")
    stored = json.loads(sidecar.read_text(encoding="utf-8"))
    same = stored["settings"] == json.loads(json.dumps(settings))
    whole = stored["sha256"] == _hash(output)
    if same and whole:
        discard_partial(output, settings)
        return dict(stored["summary"])
    if not (begun or overwrite):
        refuse_other_settings(f"{output} was made", stored["settings"], settings)
        raise ValueError(f"{output} was changed after it was made: name another, or overwrite it")
    return None


def _sidecar(output: Path) -> Path:
    return output.with_name(f"{output.name}.json")


def _write_sidecar(output: Path, content: dict[str, Any]) -> None:
    from dreibein.systems.files import atomic_path

    with atomic_path(_sidecar(output)) as side:
        side.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fingerprint(structures: Sequence[Atoms]) -> str:
    """Hash of all that a run reads of its structures."""
    digest = hashlib.sha256()
    for atoms in structures:
        for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(repr((*_state(atoms), atoms.info.get("config_type"))).encode())
    return digest.hexdigest()


def _state(atoms: Atoms) -> tuple[float, int]:
    return atoms.info["charge"], atoms.info["spin"]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
