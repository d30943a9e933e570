"""One trajectory in ASE, OpenMM and LAMMPS, and the drift of its energy in each.

    dreibein train --preset small --data ethanol.xyz -o runs/ethanol
    python benchmarks/showcases/same_trajectory.py runs/ethanol ethanol.xyz
    mpirun -n 2 python benchmarks/showcases/same_trajectory.py MODEL si.xyz --ranks forces.npy

Velocity Verlet with a step of 0.25 fs from the same positions and velocities, the network in
float64. Engines know the constants of nature to eight digits; the second table gives each the
masses that make force over mass the same number, so that only rounding is left. The drift is that
of a longer run. With --ranks the forces of one frame are compared with those of one process.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms, units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from dreibein.models import load_model
from dreibein.nn import FrozenPotential
from dreibein.simulate import Calculator, lammps_system, openmm_system
from dreibein.simulate.thermo import fit_drift
from dreibein.systems.units import conversion_factor

STEP_FS = 0.25
COMPARED = (1, 10, 100, 1000)
ALLOWED_DRIFT = 0.01  # meV/atom/ps
KJ_MOL = conversion_factor("kJ/mol", "eV")
# Positions [N, 3] in Å and total energy in eV after so many steps.
Motion = Iterator[tuple[np.ndarray, float]]


def run_ase(potential: FrozenPotential, atoms: Atoms, chunks: list[int], exact: bool) -> Motion:
    """ASE's velocity Verlet."""
    atoms = atoms.copy()
    atoms.calc = Calculator(potential)
    dynamics = VelocityVerlet(atoms, timestep=STEP_FS * units.fs)
    for steps in chunks:
        dynamics.run(steps)
        yield atoms.positions.copy(), atoms.get_total_energy()


def run_openmm(potential: FrozenPotential, atoms: Atoms, chunks: list[int], exact: bool) -> Motion:
    """OpenMM's reference platform, with velocity Verlet spelled out (its own one leaps)."""
    import openmm

    system = openmm_system(potential, atoms)
    # ASE's unit of time in ps, and its acceleration, in OpenMM's units
    time = units.fs / 1e-3
    ratio = (1 / KJ_MOL) / (1e-2 * time**2) if exact else 1.0
    for k, mass in enumerate(atoms.get_masses()):
        system.setParticleMass(k, mass * ratio)
    verlet = openmm.CustomIntegrator(1e-3 * STEP_FS)
    verlet.addUpdateContextState()
    verlet.addComputePerDof("v", "v + 0.5 * dt * f / m")
    verlet.addComputePerDof("x", "x + dt * v")
    verlet.addComputePerDof("v", "v + 0.5 * dt * f / m")
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, verlet, platform)
    context.setPositions(0.1 * atoms.positions)
    context.setVelocities(0.1 * atoms.get_velocities() * time)
    for steps in chunks:
        verlet.step(steps)
        state = context.getState(positions=True, energy=True)
        energy = state.getPotentialEnergy() + state.getKineticEnergy()
        yield 10.0 * state.getPositions(asNumpy=True)._value, energy._value * KJ_MOL


def run_lammps(potential: FrozenPotential, atoms: Atoms, chunks: list[int], exact: bool) -> Motion:
    """LAMMPS's fix nve."""
    if exact:
        atoms = atoms.copy()
        velocities = atoms.get_velocities()
        lammps_acceleration = 1 / 1.0364269e-4  # Å/ps² of 1 eV/Å on 1 amu, in LAMMPS's metal units
        ase_acceleration = (1e3 * units.fs) ** 2
        atoms.set_masses(atoms.get_masses() * lammps_acceleration / ase_acceleration)
        atoms.set_velocities(velocities)
    lmp = lammps_system(potential, atoms)
    lmp.commands_list(
        [f"timestep {1e-3 * STEP_FS}", "fix motion all nve", "thermo_modify lost error"]
    )
    for steps in chunks:
        lmp.command(f"run {steps}")
        positions = np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)
        yield positions, lmp.get_thermo("etotal")
    lmp.close()


ENGINES: dict[str, Callable[..., Motion]] = {
    "ASE": run_ase,
    "OpenMM": run_openmm,
    "LAMMPS": run_lammps,
}


def compare(potential: FrozenPotential, atoms: Atoms, exact: bool) -> None:
    """Print how far positions of the engines are from ASE's after some steps."""
    chunks = np.diff([0, *COMPARED]).tolist()
    paths = {
        name: [x for x, _ in run(potential, atoms, chunks, exact)] for name, run in ENGINES.items()
    }
    print("force over mass the same number" if exact else "as the engines come")
    print(f"  {'steps':>8} " + " ".join(f"{name:>10}" for name in ENGINES if name != "ASE"))
    for k, steps in enumerate(COMPARED):
        off = [np.abs(path[k] - paths["ASE"][k]).max() for n, path in paths.items() if n != "ASE"]
        print(f"  {steps:8d} " + " ".join(f"{d:8.1e} Å" for d in off))


def drifts(potential: FrozenPotential, atoms: Atoms, steps: int) -> None:
    """Print the drift of the total energy in each engine."""
    interval = 10
    times = interval * STEP_FS * 1e-3 * (1 + np.arange(steps // interval))
    print(f"drift of the total energy over {times[-1]:g} ps")
    for name, run in ENGINES.items():
        moved = run(potential, atoms, [interval] * (steps // interval), False)
        energies = np.array([energy for _, energy in moved])
        found = fit_drift(times, energies, len(atoms))
        ripple = 1e3 * energies.std() / len(atoms)
        print(
            f"  {name:7s} {found.value:+.5f} ± {found.error:.5f} meV/atom/ps, "
            f"ripple {ripple:.4f} meV/atom",
            flush=True,
        )
        if abs(found.value) > ALLOWED_DRIFT:
            raise SystemExit(f"{name} drifts by more than {ALLOWED_DRIFT} meV/atom/ps")


def ranks(potential: FrozenPotential, atoms: Atoms, reference: Path) -> None:
    """Write the forces of one process, or compare those of several with them."""
    lmp = lammps_system(potential, atoms)
    lmp.command("run 0")
    forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)
    world, rank = (lmp.extract_setting(f"world_{k}") for k in ("size", "rank"))
    local = lmp.extract_setting("nlocal")
    if world == 1:
        np.save(reference, forces)
    off = np.abs(forces - np.load(reference)).max() / np.abs(forces).max()
    print(
        f"rank {rank} of {world} owns {local} of {len(atoms)} atoms; forces differ from one "
        f"process by {off:.1e} of the largest ({np.abs(forces).max():.3f} eV/Å)",
        flush=True,
    )
    lmp.close()
    if off > 1e-6:
        raise SystemExit("the ranks do not agree")


def main() -> None:
    """Compare, then measure drifts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("structure", type=Path, help="first frame of a file that ASE reads")
    parser.add_argument("--steps", type=int, default=20_000, help="of the run for the drift")
    parser.add_argument("--temperature", type=float, default=300.0, help="of the velocities, K")
    parser.add_argument("--backend", default="fused")
    parser.add_argument("--ranks", type=Path, metavar="FILE", help="compare forces with this file")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    potential = FrozenPotential(load_model(given.model, dtype=torch.float64), given.backend)
    atoms = ase.io.read(given.structure, index=0)
    if given.ranks:
        return ranks(potential, atoms, given.ranks)
    rng = np.random.default_rng(0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=given.temperature, rng=rng)
    print(f"{atoms.get_chemical_formula()}, {potential.describe()}, {STEP_FS} fs")
    for exact in (False, True):
        compare(potential, atoms, exact)
    drifts(potential, atoms, given.steps)
    return None


if __name__ == "__main__":
    main()
