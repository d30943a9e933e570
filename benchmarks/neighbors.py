"""Time of a sorted neighbor list against vesin alone, on liquid water.

    OMP_NUM_THREADS=1 python benchmarks/neighbors.py

Columns: vesin's full list, unsorted, without copying it out; `find_neighbors`, sorted with row
pointers, median and fastest; the median ratio of the two; the same with a skin when nothing has to
be searched. Seconds are CPU time on one thread; the repeats of the first two are interleaved, so
that other work on the machine falls on both alike.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from ase.build import molecule
from scipy.spatial.transform import Rotation
from vesin import NeighborList as Vesin

from dreibein.neighbors import SkinNeighbors, find_neighbors

DENSITY = 0.997  # g/cm³
MOLAR_MASS = 18.015  # g/mol
PER_ANGSTROM3 = 0.602214076  # (mol/cm³) in 1/Å³


def water(num_atoms: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Molecules turned at random on a jittered lattice, numbered in no spatial order."""
    rng = np.random.default_rng(seed)
    count = num_atoms // 3
    edge = (count * MOLAR_MASS / (DENSITY * PER_ANGSTROM3)) ** (1 / 3)
    grid = int(np.ceil(count ** (1 / 3)))
    sites = np.stack(np.meshgrid(*[np.arange(grid)] * 3, indexing="ij"), -1).reshape(-1, 3)
    sites = rng.permutation(sites)[:count] + 0.1 * rng.standard_normal((count, 3))
    shape = molecule("H2O").positions
    shape -= shape.mean(axis=0)
    turns = Rotation.random(count, random_state=seed).as_matrix()
    pos = sites[:, None] * (edge / grid) + np.einsum("ak,mkl->mal", shape, turns)
    return torch.from_numpy(pos.reshape(-1, 3)), torch.eye(3, dtype=torch.float64) * edge


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(num_atoms: int, cutoff: float, skin: float, repeats: int) -> str:
    pos, cell = water(num_atoms)
    pbc = torch.ones(3, dtype=torch.bool)

    def vesin_alone() -> None:
        search = Vesin(cutoff=cutoff, full_list=True)
        search.compute(pos.numpy(), cell.numpy(), True, "PS", copy=False)

    columns: dict[str, Callable[[], object]] = {
        "vesin": vesin_alone,
        "find_neighbors": lambda: find_neighbors(pos, cell, pbc, cutoff),
    }
    times: dict[str, list[float]] = {name: [] for name in columns}
    for _ in range(repeats):
        for name, work in columns.items():
            times[name].append(seconds(work))
    vesin, ours = (statistics.median(times[name]) for name in columns)
    ratio = statistics.median(
        b / a for a, b in zip(times["vesin"], times["find_neighbors"], strict=True)
    )
    pairs = len(find_neighbors(pos, cell, pbc, cutoff))
    best = min(times["find_neighbors"])
    reuse = SkinNeighbors(cutoff, skin)
    reuse(pos, cell, pbc)
    reused = statistics.median(seconds(lambda: reuse(pos, cell, pbc)) for _ in range(repeats))
    return (
        f"{len(pos):8d} {pairs:9d} {vesin:9.4f} {ours:15.4f} {best:9.4f} {ratio:6.2f} {reused:9.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, nargs="+", default=[3_000, 24_000, 100_000])
    parser.add_argument("--cutoff", type=float, default=5.0, help="Å")
    parser.add_argument("--skin", type=float, default=0.5, help="Å")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"water, cutoff {options.cutoff} Å, skin {options.skin} Å, CPU seconds on one thread")
    print("   atoms     pairs     vesin  find_neighbors   fastest  ratio    reused")
    for count in options.atoms:
        print(measure(count, options.cutoff, options.skin, options.repeats), flush=True)


if __name__ == "__main__":
    main()
