"""How fast a potential is on one structure, with what memory, by which backend and threads."""

import logging
import os
import pickle
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from dreibein.nn.frozen import backends_of
from dreibein.nn.potential import Potential
from dreibein.simulate.evaluator import DEFAULT_SKIN, Evaluator

logger = logging.getLogger(__name__)

JIGGLE = 0.01  # Å from call to call, so that no call repeats another
WARM_UP = 2  # calls, not counted: tables, compilers and caches
FIRST_SIZE = 256  # atoms at least in the smaller of two memory measurements
FORCES = ("energy", "forces")
STRESS = ("energy", "forces", "stress")
DAY_S, NS_IN_FS = 86_400.0, 1e6
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Memory:
    """Largest resident (CPU) or allocated (CUDA) size, a straight line in the atoms.

    Attributes:
        fixed: Bytes without any atoms: interpreter, libraries, weights.
        per_atom: Bytes an atom adds.
        measured: atoms -> bytes, the two points of the line.
    """

    fixed: float
    per_atom: float
    measured: dict[int, int]

    def at(self, atoms: int) -> float:
        """Bytes for a number of atoms."""
        return float(self.measured.get(atoms, self.fixed + self.per_atom * atoms))

    def largest(self, available: float) -> int:
        """Atoms that fit in a memory of so many bytes."""
        return max(0, int((available - self.fixed) / self.per_atom))


@dataclass(frozen=True)
class Speed:
    """One backend on one structure.

    Attributes:
        backend: Its name.
        atoms: Atoms of the structure.
        threads: Number of threads that was fastest.
        seconds: Median of a call for energy and forces, neighbor list included.
        seconds_by_threads: The same for every number of threads tried.
        seconds_with_stress: Energy, forces and stress at the best number; None without a volume.
        memory: None when it was not measured.
    """

    backend: str
    atoms: int
    threads: int
    seconds: float
    seconds_by_threads: dict[int, float]
    seconds_with_stress: float | None = None
    memory: Memory | None = None

    @property
    def atoms_per_second(self) -> float:
        """Atoms evaluated a second."""
        return self.atoms / self.seconds

    def ns_per_day(self, time_step_fs: float) -> float:
        """Simulated ns a day if a step costs one evaluation and nothing else.

        >>> Speed("reference", 3, 1, 0.0432, {1: 0.0432}).ns_per_day(0.5)
        1.0
        """
        return DAY_S / self.seconds * time_step_fs / NS_IN_FS


def available_backends(potential: Potential) -> tuple[str, ...]:
    """Names of the ways in which an `Evaluator` can run this potential."""
    return backends_of(potential)


def measure_speed(
    potential: Potential,
    atoms: Atoms,
    *,
    backends: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    repeat: int = 20,
    memory: bool = True,
    progress: Progress | None = None,
) -> list[Speed]:
    """Time energy and forces of one structure by every backend and number of threads.

    All combinations take turns call by call, so that other work on the machine meets all alike;
    positions move by 0.01 Å from call to call. Memory is measured in fresh processes at two
    sizes: one or more copies of the structure, and more copies.

    Args:
        potential: Set to evaluation mode.
        atoms: The structure; charge and spin from `atoms.info`.
        backends: Names. [all that the potential has, without "compiled"]
        threads: Numbers of threads to try. [1, 2, 4, … and all cores; 1 on a GPU]
        repeat: Calls of each combination.
        memory: Whether to measure memory.
        progress: Called with (done, total, note).

    Returns:
        One result a backend.

    Raises:
        ValueError: An unknown backend, no calls, an element the potential does not know.
    """
    names = _checked_backends(potential, backends)
    counts = sorted({*(threads or default_threads(potential))})
    if repeat < 1 or counts[0] < 1:
        raise ValueError(f"repeat ({repeat}) and threads ({counts[0]}) must be 1 or more")
    total = repeat + (2 * len(names) if memory else 0)
    report = progress or (lambda done, total, note: None)
    before = torch.get_num_threads()
    try:
        times = _turns(
            potential, atoms, names, counts, repeat, lambda k: report(k, total, "timing")
        )
        found = [_fastest(name, len(atoms), times) for name in names]
        if atoms.pbc.all():
            found = [_with_stress(speed, potential, atoms, repeat) for speed in found]
    finally:
        set_threads(before)
    if not memory:
        return found
    for k, speed in enumerate(found):
        report(repeat + 2 * k, total, f"memory of {speed.backend}")
        measured = measure_memory(potential, atoms, speed.backend, speed.threads)
        found[k] = replace(speed, memory=measured)
    report(total, total, "done")
    return found


def default_threads(potential: Potential) -> list[int]:
    """Powers of two up to the cores this process may use, and all of them; one for a GPU."""
    if potential.device.type != "cpu":
        return [1]
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return sorted({*(2**k for k in range((most or 1).bit_length())), most or 1})


def set_threads(count: int) -> None:
    """Let PyTorch, and numba where it is at work, use so many threads."""
    torch.set_num_threads(count)
    numba = sys.modules.get("numba")
    if numba is not None:
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


def copies_of(atoms: Atoms, count: int, gap: float) -> Atoms:
    """Copies that leave every atom's surroundings as they are: a supercell, or a row of molecules.

    Args:
        atoms: One structure.
        count: Copies, along the first periodic direction or, without any, along x.
        gap: Empty space in Å between molecules.
    """
    if atoms.pbc.any():
        repeats = [1, 1, 1]
        repeats[int(np.argmax(atoms.pbc))] = count
        made = atoms.repeat(repeats)
    else:
        step = float(np.ptp(atoms.positions[:, 0])) + gap
        made = atoms.copy()
        for k in range(1, count):
            moved = atoms.copy()
            moved.positions[:, 0] += k * step
            made += moved
    made.info = dict(atoms.info)
    return made


def measure_memory(potential: Potential, atoms: Atoms, backend: str, threads: int) -> Memory | None:
    """Memory of a call in fresh processes at two sizes; None where such a process fails."""
    few = max(1, -(-FIRST_SIZE // len(atoms)))
    measured = {}
    for count in (few, 3 * few):
        task = (potential, atoms, backend, threads, count)
        done = subprocess.run(
            [sys.executable, "-c", f"from {__name__} import _child; _child()"],
            input=pickle.dumps(task),
            capture_output=True,
        )
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            logger.warning("memory of %s was not measured: %s", backend, " ".join(reason))
            return None
        measured[count * len(atoms)] = int(done.stdout.split()[-1])
    (n1, first), (n2, second) = measured.items()
    slope = max((second - first) / (n2 - n1), 1.0)
    return Memory(first - slope * n1, slope, measured)


def _child() -> None:
    """Evaluate what comes on standard input and print the largest memory in bytes."""
    potential, atoms, backend, threads, count = pickle.load(sys.stdin.buffer)
    set_threads(threads)
    call = _caller(potential, copies_of(atoms, count, potential.cutoff + 1.0), backend)
    for k in range(WARM_UP):
        call(k, FORCES)
    size = torch.cuda.max_memory_allocated() if potential.device.type == "cuda" else _peak_bytes()
    sys.stdout.write(f"\n{size}\n")


def _peak_bytes() -> int:
    """Largest memory of this process.

    On Linux from /proc: `getrusage` counts what the parent held when it made this process.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def _checked_backends(potential: Potential, backends: Sequence[str] | None) -> list[str]:
    there = available_backends(potential)
    known = (*there, "compiled")
    for name in backends or ():
        if name not in known:
            raise ValueError(f"there is no backend '{name}' here; choose from {', '.join(known)}")
    return list(backends or there)


def _caller(potential: Potential, atoms: Atoms, backend: str) -> Callable[[int, Any], None]:
    """Evaluation of the k-th set of positions, as an engine asks for it."""
    evaluator = Evaluator(potential, skin=DEFAULT_SKIN, backend=backend)
    rng = np.random.default_rng(0)
    places = [atoms.positions + JIGGLE * rng.standard_normal((len(atoms), 3)) for _ in range(8)]
    state = (atoms.numbers, atoms.cell.array, np.array(atoms.pbc))
    charge, spin = float(atoms.info.get("charge", 0.0)), int(atoms.info.get("spin", 1))

    def call(k: int, compute: Sequence[str]) -> None:
        numbers, cell, pbc = state
        results = evaluator(
            numbers, places[k % 8], cell, pbc, charge=charge, spin=spin, compute=compute
        )
        results["forces"].cpu()  # on a GPU: until it is done

    return call


def _turns(
    potential: Potential,
    atoms: Atoms,
    names: list[str],
    counts: list[int],
    repeat: int,
    report: Callable[[int], None],
) -> dict[tuple[str, int], list[float]]:
    """Seconds of every call of every (backend, threads)."""
    times: dict[tuple[str, int], list[float]] = {(b, t): [] for b in names for t in counts}
    callers = {name: _caller(potential, atoms, name) for name in names}
    for k in range(-WARM_UP, repeat):
        for (name, count), spent in times.items():
            set_threads(count)
            start = time.perf_counter()
            callers[name](k, FORCES)
            if k >= 0:
                spent.append(time.perf_counter() - start)
        report(max(k + 1, 0))
    return times


def _fastest(name: str, atoms: int, times: dict[tuple[str, int], list[float]]) -> Speed:
    medians = {t: statistics.median(v) for (b, t), v in times.items() if b == name}
    best = min(medians, key=medians.__getitem__)
    return Speed(name, atoms, best, medians[best], medians)


def _with_stress(speed: Speed, potential: Potential, atoms: Atoms, repeat: int) -> Speed:
    """The same with the time of energy, forces and stress."""
    set_threads(speed.threads)
    call = _caller(potential, atoms, speed.backend)
    seconds = []
    for k in range(-WARM_UP, repeat):
        start = time.perf_counter()
        call(k, STRESS)
        seconds.append(time.perf_counter() - start)
    return replace(speed, seconds_with_stress=statistics.median(seconds[WARM_UP:]))
