"""A model by autograd, as an exported program, compiled ahead of time, and by the fused engine.

Energy, forces and virial of aspirin (21 atoms) and water (192 atoms, periodic), one thread,
processor time, lists given: all ways take turns on positions displaced anew, so their ratios hold
on a busy machine. Prints medians and largest differences in forces from the potential in its own
precision. Needs `dreibein[label]` (RDKit), and g++ or clang++ where `--package` is not given.
Run: OMP_NUM_THREADS=1 python benchmarks/exported.py MODEL [--package MODEL.pt2]
The model must know H, C and O; without one an untrained one is made (128 channels, 1 layer).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from dreibein.data import read_structure
from dreibein.models import TensorNetConfig, build_potential, load_model
from dreibein.neighbors import attach_neighbors
from dreibein.nn import FrozenPotential, Potential
from dreibein.simulate import export_potential
from dreibein.simulate.export import frame_arguments, trace_potential
from dreibein.systems import from_ase


def water(side: int = 4) -> Atoms:
    """Molecules on a lattice, turned at random, 1 g/cm³."""
    rng = np.random.default_rng(0)
    shape = np.array([[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])
    positions, spacing = [], 3.104
    for place in np.ndindex(side, side, side):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        positions.append(spacing * np.array(place) + shape @ turn)
    box = side * spacing
    return Atoms("OH2" * side**3, np.concatenate(positions), cell=[box] * 3, pbc=True)


def make_potential(path: Path | None, knots: int) -> Potential:
    """That of a file, or an untrained one; evaluated in plain PyTorch."""
    torch.manual_seed(0)
    config = TensorNetConfig(channels=128, layers=1, knots=knots)
    potential = load_model(path) if path else build_potential(config, elements=(1, 6, 8))
    potential.network.backend = "reference"
    return potential.eval()


def ways(potential: Potential, package: str) -> dict[str, Callable[..., Tensor]]:
    """Name -> function of a structure that returns forces."""
    compiled = torch._inductor.aoti_load_package(package)
    program = trace_potential(potential).module()
    engine = FrozenPotential(potential, "fused")
    wanted = ("energy", "energies", "forces", "virial")
    return {
        "potential, autograd": lambda frame: potential(frame, compute=wanted)["forces"],
        "exported": lambda frame: program(*frame_arguments(frame))[2],
        "exported, --aot": lambda frame: compiled(*frame_arguments(frame))[2],
        "fused engine": lambda frame: engine(frame, compute=wanted)["forces"],
    }


def measure(atoms: Atoms, functions: dict[str, Callable[..., Tensor]], repeat: int) -> None:
    """Print a table."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    errors = dict.fromkeys(functions, 0.0)
    cutoff, rng, edges = 5.0, np.random.default_rng(1), 0
    for turn in range(repeat + 2):
        moved = atoms.copy()
        moved.positions += 0.01 * rng.normal(size=moved.positions.shape)
        frame, found = attach_neighbors(from_ase(moved), cutoff), {}
        edges = frame.edge_index.shape[1]
        for name, function in functions.items():
            start = time.process_time()
            found[name] = function(frame)
            if turn > 1:
                times[name].append(time.process_time() - start)
        right = next(iter(found.values()))
        for name, forces in found.items():
            errors[name] = max(errors[name], float((forces - right).abs().max()))
    print(f"{len(atoms)} atoms, {edges} edges")
    first = statistics.median(next(iter(times.values())))
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(
            f"  {name:<20} {1e3 * middle:8.2f} ms {first / middle:6.2f}x  {errors[name]:.0e} eV/Å"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--package", type=Path, help="made by dreibein export --aot before")
    parser.add_argument("--knots", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    potential = make_potential(options.model, options.knots)
    with tempfile.TemporaryDirectory() as folder:
        package = options.package
        if package is None:
            start = time.perf_counter()
            package = export_potential(potential, Path(folder) / "model.pt2", aot=True)
            print(f"compiled in {time.perf_counter() - start:.0f} s")
        functions = ways(potential, str(package))
        measure(read_structure("CC(=O)Oc1ccccc1C(=O)O"), functions, options.repeat)
        measure(water(), functions, options.repeat)


if __name__ == "__main__":
    main()
