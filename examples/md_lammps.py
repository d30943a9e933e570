"""Dynamics of a crystal in LAMMPS: energy conserved in NVE, temperature and pressure kept in NPT.

The model is small, seeded and untrained, so the numbers mean nothing but the agreement. On several
MPI processes, and with a model of yours that knows copper:

    mpirun -n 2 python examples/md_lammps.py --model model.safetensors
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from dreibein.models import TensorNetConfig, build_potential, save_model
from dreibein.simulate import Calculator, lammps_system


def untrained_model(folder: Path) -> Path:
    """A model file with seeded random weights."""
    torch.manual_seed(0)
    config = TensorNetConfig(channels=16, layers=1, num_radial=8, cutoff=4.5)
    potential = build_potential(config, elements=(29,), scale=1.0, dtype=torch.float64)
    path = folder / "model.safetensors"
    save_model(potential, path)
    return path


def run(model: Path, atoms: Atoms, steps: int, title: str, ensemble: str) -> None:
    """Run an ensemble, in the words of a LAMMPS `fix`, and print what `thermo` knows."""
    lmp = lammps_system(model, atoms)
    lmp.commands_list(["timestep 0.001", f"fix motion all {ensemble}", "run 0"])
    first = lmp.extract_setting("world_rank") == 0
    if first:
        print(f"{title}\nstep  potential/eV  total/eV  temperature/K  volume/Å³")
    interval = max(steps // 5, 1)
    for step in range(0, steps + 1, interval):
        if step > 0:
            lmp.command(f"run {interval}")
        pe, total, kelvin, volume = (lmp.get_thermo(k) for k in ("pe", "etotal", "temp", "vol"))
        if first:
            print(f"{step:4d}  {pe:12.6f}  {total:8.6f}  {kelvin:13.1f}  {volume:9.2f}")
    lmp.close()


def main() -> None:
    """Compare the first energy with ASE, then run both ensembles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="model file [an untrained one]")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    atoms = bulk("Cu", cubic=True).repeat(2)
    rng = np.random.default_rng(0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=rng)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or untrained_model(Path(folder))
        atoms.calc = Calculator(model)
        print(f"ASE: {atoms.get_potential_energy():.6f} eV")
        run(model, atoms, options.steps, "NVE", "nve")
        pressed = "npt temp 300 300 0.1 iso 1 1 1"
        run(model, atoms, options.steps, "NPT, 300 K, 1 bar", pressed)


if __name__ == "__main__":
    main()
