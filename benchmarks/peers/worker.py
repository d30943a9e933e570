"""One process of a comparison: reads a task (JSON) from its argument, prints its results (JSON).

Started by run.py in the peer's environment; it measures ours and the peer's in turns.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

CALLS = 8  # different frames
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
EXACT_UP_TO = 2000  # atoms; float64 by the reference takes megabytes for each


def main() -> None:
    """Do the task."""
    task = json.loads(sys.argv[1])
    threads = str(task["threads"])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = threads
    limit = int(task["memory_gib"] * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    import torch

    torch.set_num_threads(int(threads))
    kinds = {"inference": inference, "training": training, "memory": memory, "other": other}
    print("\n" + json.dumps(kinds[task["kind"]](task)), flush=True)


class Setting:
    """Case, size, weights and callables of a task."""

    def __init__(self, task: dict[str, Any]) -> None:
        import ours
        import torchmdnet_peer as peer
        from cases import CASES, SIZES

        from dreibein.neighbors import find_neighbors

        self.ours, self.peer, self.task = ours, peer, task
        self.case, self.size = CASES[task["case"]](), SIZES[task["size"]]
        frame = self.case.frames(1, seed=1)[0]
        import torch

        cell = torch.eye(3, dtype=torch.float64) * self.case.cell
        pbc = torch.full((3,), self.case.cell > 0)
        pairs = find_neighbors(torch.from_numpy(frame[0]), cell, pbc, self.size.cutoff)
        self.neighbors = len(pairs) / len(self.case.numbers)
        # room for the list and the self-loops, little more: padded modes pay for all of it
        self.max_neighbors = int(1.05 * self.neighbors) + 3
        self.weights = peer.weights(self.size)
        self.training = task["kind"] == "training"

    def names(self) -> list[str]:
        """Modes asked for, or all."""
        if self.task.get("modes"):
            return list(self.task["modes"])
        ours = [f"ours: {name}" for name in self.ours.modes_for(self.training)]
        return ours + [f"torchmd-net: {m}" for m in self.peer.modes_for(self.case, self.training)]

    def build(self, name: str) -> Callable[..., Any]:
        """Callable of a mode."""
        code, mode = name.split(": ", 1)
        if code == "ours":
            make = self.ours.trainer if self.training else self.ours.evaluator
            return make(self.case, self.size, mode, self.weights)
        make = self.peer.trainer if self.training else self.peer.evaluator
        return make(self.case, self.size, mode, self.max_neighbors)

    def build_all(self, *arguments: Any) -> tuple[dict[str, Callable[..., Any]], dict, dict]:
        """Callables, the results of their first calls, and what failed."""
        found, first, failed = {}, {}, {}
        for name in self.names():
            try:
                run = self.build(name)
                first[name] = run(*arguments)
                found[name] = run
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
        return found, first, failed


def turns(
    calls: dict[str, Callable[[int], object]], task: dict[str, Any]
) -> dict[str, list[float]]:
    """Seconds of every call, taken in turns until each has had its share of the time.

    A turn begins with a call that is not counted: what simulates runs alone, and finds its data in
    the caches rather than another's.
    """
    budget, clock = task["budget"], CLOCKS[task["clock"]]
    times: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(2, 60, 3):
        for name, call in calls.items():
            spent = times[name]
            if len(spent) >= 3 and sum(spent) > budget:
                continue
            call(k - 1)
            for step in range(3):
                start = clock()
                call(k + step)
                spent.append(clock() - start)
        if all(len(t) >= 3 and sum(t) > budget for t in times.values()):
            break
    return times


def inference(task: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of energy + forces in every mode, and how far the forces are from ours."""
    import machine
    import torch

    setting = Setting(task)
    frames = setting.case.frames(CALLS, seed=2)
    calls, first, failed = setting.build_all(frames[0])
    if not first:
        return {"error": "every mode failed: " + "; ".join(failed.values())}
    for run in calls.values():  # the second call may still compile something
        run(frames[1])
    small = setting.case.num_atoms <= EXACT_UP_TO
    reference = exact(setting, frames[0]) if small else next(iter(first.values()))
    agreement = {
        name: {
            "energy": float(np.abs(energy - reference[0]).max()),
            "forces": float(np.abs(forces - reference[1]).max()),
        }
        for name, (energy, forces) in first.items()
        if small
    }
    times = turns(
        {name: lambda k, run=run: run(frames[k % CALLS]) for name, run in calls.items()},
        task,
    )
    size, atoms = setting.size, setting.case.num_atoms
    rates = machine.measure(
        5 * atoms if atoms < 4000 else 20000, size.channels, CLOCKS[task["clock"]]
    )
    return {
        "atoms": atoms,
        "neighbors": setting.neighbors,
        "force_rms": float(np.sqrt((reference[1] ** 2).mean())),
        "ms": {name: [1e3 * t for t in values] for name, values in times.items()},
        "against_float64": agreement,
        "difference": differences(first),
        "failed": failed,
        "rates": rates,
        "floor_ms": 1e3 * machine.floor_seconds(atoms, size.channels, size.layers, rates),
        "torch": torch.__version__,
    }


def differences(first: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Largest difference in forces between each of our modes and the peer's plain or Warp mode."""
    peers = [name for name in first if name.startswith("torchmd-net")]
    if not peers:
        return {}
    there = first[peers[0]][1]
    return {
        name: float(np.abs(forces - there).max())
        for name, (_, forces) in first.items()
        if name != peers[0]
    }


def exact(setting: Setting, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies and forces by the reference in float64 with the same weights."""
    ours = setting.ours
    potential = ours.make(setting.size, setting.weights).double().eval().requires_grad_(False)
    batches = ours.Batches(setting.case, setting.size.cutoff, 0.0)
    results = potential(batches(frame))
    return results["energy"].numpy(), results["forces"].numpy()


def training(task: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of one training step in every mode; losses of the first step agree."""
    import torch

    setting = Setting(task)
    case = setting.case
    generator = torch.Generator().manual_seed(3)
    energies = torch.randn(case.copies, dtype=torch.float64, generator=generator)
    forces = torch.randn(case.num_atoms, 3, dtype=torch.float64, generator=generator)
    frames = case.frames(CALLS, seed=2, width=0.05)
    calls, first, failed = setting.build_all(frames[0], energies, forces)
    if not first:
        return {"error": "every mode failed: " + "; ".join(failed.values())}
    for run in calls.values():
        run(frames[1], energies, forces)
    times = turns(
        {
            name: lambda k, run=run: run(frames[k % CALLS], energies, forces)
            for name, run in calls.items()
        },
        task,
    )
    return {
        "atoms": case.num_atoms,
        "neighbors": setting.neighbors,
        "ms": {name: [1e3 * t for t in values] for name, values in times.items()},
        "first_loss": first,
        "failed": failed,
        "torch": torch.__version__,
    }


def memory(task: dict[str, Any]) -> dict[str, Any]:
    """Growth of the process's largest resident size over that of a call on ethanol."""
    setting = Setting(task)
    (name,) = task["modes"]
    small = Setting(task | {"case": "ethanol"})
    small.build(name)(small.case.frames(1, seed=2)[0])
    run = setting.build(name)
    frames = setting.case.frames(3, seed=2)
    before = peak()
    try:
        for frame in frames:
            run(frame)
    except (RuntimeError, MemoryError) as error:
        return {"failed": str(error).strip().splitlines()[0][:200]}
    return {"mib": (peak() - before) / 2**20, "atoms": setting.case.num_atoms}


def other(task: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of a network of another code, and of ours of that size, in turns."""
    from cases import CASES, SIZES
    from other_peers import evaluator

    from dreibein.models import TensorNetConfig, build_potential
    from dreibein.simulate import Evaluator

    case, size = CASES[task["case"]](), SIZES[task["size"]]
    frames = case.frames(CALLS, seed=2)
    peer = evaluator(task["peer"], case, size)
    config = TensorNetConfig(channels=size.channels, layers=size.layers, cutoff=size.cutoff)
    ours = Evaluator(build_potential(config, elements=(1, 6, 7, 8)).requires_grad_(False))
    cell, pbc = np.eye(3) * case.cell, np.full(3, case.cell > 0)
    runs = {task["peer"]: peer, "ours": lambda x: ours(case.numbers, x[0], cell, pbc)["forces"]}
    for run in runs.values():
        run(frames[0])
        run(frames[1])
    calls = {name: lambda k, run=run: run(frames[k % CALLS]) for name, run in runs.items()}
    times = turns(calls, task)
    return {
        "atoms": case.num_atoms,
        "ms": {name: [1e3 * t for t in values] for name, values in times.items()},
    }


def peak() -> int:
    """Largest resident size so far in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
