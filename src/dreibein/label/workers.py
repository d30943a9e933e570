"""Worker processes: one thread each, started afresh, gone when their parent is gone."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import wait

import numpy as np
from ase import Atoms

from dreibein.label.calculations import Array, ConvergenceError, Labels, hessian_of
from dreibein.label.config import LabelConfig
from dreibein.label.methods import Level, make_method
from dreibein.label.sampling import Trajectory, advance

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of spawned single-thread processes; an error in the block ends them at once.

    The thread count stands in the environment before they start: the libraries read it when they
    are loaded, and a sum over two threads would not be the same sum.
    """
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    others = set(multiprocessing.active_children())
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_worker
    )
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent has been killed; a pool's workers would wait for it forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def carry_on(
    trajectory: Trajectory, config: LabelConfig, sampler: Level, seconds: float
) -> Trajectory:
    """Carry a trajectory on for some seconds, in a worker.

    Raises:
        ValueError: The method refuses the structure it starts from.
    """
    try:
        calculation = make_method(*sampler).calculation(trajectory.atoms)
    except ConvergenceError as error:
        raise ValueError(f"{sampler.method} refuses the starting structure: {error}") from error
    return advance(trajectory, config, calculation, seconds)


def label_frames(
    frames: list[tuple[Atoms, Array]], theory: Level, hessian: bool = False
) -> list[Labels | str]:
    """Label structures at positions [N, 3] in Å, in a worker; a failure gives its reason."""
    level = make_method(*theory)
    found: list[Labels | str] = []
    for atoms, positions in frames:
        try:
            calculation = level.calculation(atoms)
            labels = calculation.labels(positions)
            if hessian:
                labels = replace(labels, hessian=hessian_of(calculation, positions))
        except ConvergenceError as error:
            found.append(str(error))
            continue
        finite = np.isfinite(labels.energy) and np.isfinite(labels.forces).all()
        found.append(labels if finite else "energy or forces are not finite")
    return found
