"""Dynamics of ethanol in OpenMM: energy conserved in NVE, temperature kept by Langevin.

The model is small, seeded and untrained, so the numbers mean nothing but the agreement. With a
model of yours:

    python examples/md_openmm.py --model runs/ethanol/model.safetensors
"""

import argparse
import tempfile
from pathlib import Path

import openmm
import torch
from ase import Atoms
from ase.build import molecule
from openmm import unit

from dreibein.models import TensorNetConfig, build_potential, save_model
from dreibein.simulate import Calculator, openmm_system


def untrained_model(folder: Path) -> Path:
    """A model file with seeded random weights."""
    torch.manual_seed(0)
    config = TensorNetConfig(channels=16, layers=1, num_radial=8, cutoff=4.5)
    potential = build_potential(config, elements=(1, 6, 8), scale=1.0, dtype=torch.float64)
    path = folder / "model.safetensors"
    save_model(potential, path)
    return path


def run(model: Path, atoms: Atoms, steps: int, temperature: float | None) -> None:
    """Run NVE, or Langevin dynamics where a temperature is named, and print energies."""
    timestep = 0.5 * unit.femtoseconds
    if temperature is None:
        integrator = openmm.VerletIntegrator(timestep)
    else:
        integrator = openmm.LangevinMiddleIntegrator(temperature, 10 / unit.picosecond, timestep)
        integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(openmm_system(model, atoms), integrator, platform)
    context.setPositions(atoms.positions * unit.angstrom)
    context.setVelocitiesToTemperature(300, 1)
    degrees = 3 * len(atoms) * unit.MOLAR_GAS_CONSTANT_R
    print("step  potential/eV  total/eV  temperature/K")
    for step in range(0, steps + 1, max(steps // 5, 1)):
        integrator.step(step - context.getStepCount())
        state = context.getState(energy=True)
        potential, kinetic = state.getPotentialEnergy(), state.getKineticEnergy()
        # kJ/mol divided by Avogadro's number
        energies = [
            (e / unit.AVOGADRO_CONSTANT_NA).value_in_unit(unit.elementary_charge * unit.volt)
            for e in (potential, potential + kinetic)
        ]
        kelvin = (2 * kinetic / degrees).value_in_unit(unit.kelvin)
        print(f"{step:4d}  {energies[0]:12.6f}  {energies[1]:8.6f}  {kelvin:6.1f}")


def main() -> None:
    """Compare the first energy with ASE, then run both ensembles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="model file [an untrained one]")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    atoms = molecule("CH3CH2OH")
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or untrained_model(Path(folder))
        atoms.calc = Calculator(model)
        print(f"ASE: {atoms.get_potential_energy():.6f} eV")
        print("NVE")
        run(model, atoms, options.steps, None)
        print("Langevin, 300 K")
        run(model, atoms, options.steps, 300.0)


if __name__ == "__main__":
    main()
