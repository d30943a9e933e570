"""Every architecture by autograd, compiled by torch, and by its engine, in dynamics of a molecule.

Energy and forces of aspirin (21 atoms, displaced by 0.01 Å from call to call, neighbor lists kept
as in dynamics) by untrained networks of default size in float32; the ways take turns, so their
ratios hold on a busy machine. Prints the time of compiling, medians of a call, and the largest
difference in forces from autograd. On the CPU or, with `--device cuda`, on a GPU, where programs
are replayed as CUDA graphs. Needs `dreibein[label]` (RDKit), and on a CPU g++ or clang++.
Run: OMP_NUM_THREADS=1 python benchmarks/compiled.py
"""

import argparse
import statistics
import time
import warnings

import numpy as np
import torch
from ase import Atoms

from dreibein.data import read_structure
from dreibein.models import build_potential, parse_config
from dreibein.nn import FrozenPotential, Potential, backends_of
from dreibein.simulate import Evaluator

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
NETWORKS = ("tensornet", "locaformer", "localized", "local_field", "tensor_field")


def make(name: str, device: str) -> Potential:
    """An untrained network, with tables of filters where it can have them."""
    torch.manual_seed(0)
    more = {"knots": 128} if name == "tensornet" else {}
    config = parse_config({"architecture": name, **more})
    return build_potential(config, elements=(1, 6, 8)).to(device)


def measure(potential: Potential, atoms: Atoms, repeat: int) -> None:
    """Print a line for each way."""
    names = [*backends_of(potential), "compiled"]
    callers = {n: Evaluator(FrozenPotential(potential, n), alarms="off") for n in names}
    rng, box = np.random.default_rng(0), (np.zeros((3, 3)), np.zeros(3, dtype=bool))
    places = [atoms.positions + 0.01 * rng.normal(size=atoms.positions.shape) for _ in range(8)]
    first: dict[str, float] = {}
    times: dict[str, list[float]] = {name: [] for name in names}
    errors = dict.fromkeys(names, 0.0)
    for turn in range(repeat + 3):
        forces = {}
        for name in list(callers):
            start = time.perf_counter()
            try:
                found = callers[name](atoms.numbers, places[turn % len(places)], *box)
            except ValueError as error:
                print(f"  {name:10s} {error}")
                del callers[name], times[name]
                continue
            forces[name] = found["forces"].cpu()
            spent = time.perf_counter() - start
            first.setdefault(name, spent)
            if turn > 2:
                times[name].append(1e3 * spent)
        for name, value in forces.items():
            errors[name] = max(errors[name], float((value - forces["reference"]).abs().max()))
    base = statistics.median(times["reference"])
    for name, spent in times.items():
        middle = statistics.median(spent)
        print(
            f"  {name:10s} {middle:8.2f} ms {base / middle:6.1f}x, first call {first[name]:5.1f} s,"
            f" forces within {errors[name]:.0e} eV/Å",
            flush=True,
        )


def main() -> None:
    """Read options, print tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=30)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    atoms = read_structure(ASPIRIN)
    for name in options.networks:
        print(name, flush=True)
        measure(make(name, options.device), atoms, options.repeat)


if __name__ == "__main__":
    main()
