"""Time and memory of energy, forces and stress of large boxes of water.

    python benchmarks/large_system.py                 1,536 to 98,304 atoms, one thread
    python benchmarks/large_system.py --threads 2

An untrained TensorNet of 128 channels, 1 layer, 5 Å in float32, through `Evaluator` as dynamics
calls it: "first" includes the neighbor search (and loading kernels), "later" moves atoms by 0.01 Å.
Peak memory is that of the process so far, the part before the first box stated beside.
"""

import argparse
import resource
import time

import numpy as np
import torch

from dreibein.models import TensorNetConfig, build_potential
from dreibein.simulate import Evaluator

GIB_IN_KIB = 2**20
VOLUME = 29.9  # Å³ of a molecule at 1 g/cm³


def water(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, positions and cell of side³ molecules, turned at random, on a cubic lattice."""
    rng = np.random.default_rng(0)
    step = VOLUME ** (1 / 3)
    oxygen = step * np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    u, v = rng.normal(size=(2, len(oxygen), 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v -= (v * u).sum(1, keepdims=True) * u
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    angle = np.deg2rad(104.5)
    first, second = oxygen + 0.957 * u, oxygen + 0.957 * (np.cos(angle) * u + np.sin(angle) * v)
    positions = np.stack([oxygen, first, second], 1).reshape(-1, 3)
    return np.tile([8, 1, 1], len(oxygen)), positions, side * step * np.eye(3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sides", type=int, nargs="+", default=[8, 15, 32])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    config = TensorNetConfig(channels=128, layers=1)
    potential = build_potential(config, elements=(1, 8), dtype=torch.float32)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB_IN_KIB
    print(f"{arguments.threads} threads, {start:.2f} GiB before the first box")
    wanted, everywhere = ("energy", "forces", "stress"), np.array([True] * 3)
    for side in arguments.sides:
        numbers, positions, cell = water(side)
        evaluator = Evaluator(potential)
        times = []
        for k in range(4):
            moved = positions + 0.01 * np.random.default_rng(k).normal(size=positions.shape)
            began = time.perf_counter()
            evaluator(numbers, moved, cell, everywhere, compute=wanted)
            times.append(time.perf_counter() - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB_IN_KIB
        later = min(times[1:])
        print(
            f"{len(numbers):7d} atoms: first {times[0]:6.2f} s, later {later:7.3f} s, "
            f"{1e6 * later / len(numbers):5.1f} µs an atom, peak {peak:.2f} GiB"
        )


if __name__ == "__main__":
    main()
