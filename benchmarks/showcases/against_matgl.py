"""An imported MatPES potential beside matgl's own calculator, in one process.

    PYTHON_OF_MATGL benchmarks/showcases/against_matgl.py FOLDER_OF_THE_MODEL --repeats 5

Needs an environment with matgl and this package (`benchmarks/peers/run.py --peers matgl` makes
one). Silicon cells of 8 to 512 atoms, moved a little from call to call; energy, forces and stress
through both ASE calculators in turns, medians of the wall times; the largest differences of forces.
Both are in float32. matgl searches its neighbors in every call, ours are kept with a skin.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import ase.build
import numpy as np
import torch
from ase import Atoms

from dreibein.models import import_matgl
from dreibein.simulate import Calculator


def evaluated(calculator: Any, atoms: Atoms) -> tuple[float, np.ndarray]:
    """Seconds, and the forces in eV/Å."""
    atoms = atoms.copy()
    atoms.calc = calculator
    begin = time.perf_counter()
    forces = atoms.get_forces()
    atoms.get_stress()
    return time.perf_counter() - begin, forces


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="of matgl's model: model.json, state.pt, …")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cells", type=int, nargs="*", default=[1, 2, 4], help="cubes per edge")
    given = parser.parse_args()
    import matgl
    from matgl.ext.ase import PESCalculator

    theirs = PESCalculator(matgl.load_model(given.folder), stress_unit="eV/A3")
    ours = Calculator(import_matgl(given.folder))
    print(
        f"matgl {matgl.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    print("atoms   matgl / ms   ours / ms   ratio   forces differ by / eV/Å")
    for cells in given.cells:
        atoms = ase.build.bulk("Si", cubic=True).repeat(cells)
        rng = np.random.default_rng(0)
        times, differences = [], []
        for k in range(given.repeats + 1):
            moved = atoms.copy()
            moved.positions += 0.05 * rng.standard_normal(moved.positions.shape)
            (slow, expected), (fast, forces) = evaluated(theirs, moved), evaluated(ours, moved)
            differences.append(np.abs(forces - expected).max())
            if k:  # the first call compiles and fills caches
                times.append((slow, fast))
        slow, fast = 1e3 * np.median(times, axis=0)
        row = f"{len(atoms):5} {slow:12.1f} {fast:11.2f} {slow / fast:7.1f}"
        print(f"{row}   {max(differences):.1e}")


if __name__ == "__main__":
    main()
