"""OpenMM gives the numbers of the ASE calculator, conserves energy, and keeps T and p."""

import sys

import ase.units
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from dreibein.nn.potential import Potential
from dreibein.simulate import Calculator
from dreibein.simulate.engines import standard_box
from dreibein.simulate.openmm_force import openmm_force, openmm_system
from dreibein.systems.units import conversion_factor

NM = 10.0  # Å
KJ = conversion_factor("eV", "kJ/mol")
SKEWED = [[2.6, 0.0, 0.0], [0.9, 2.7, 0.0], [0.4, 0.7, 2.9]]  # Å, smaller than the cutoff


@pytest.fixture
def mm():
    return pytest.importorskip("openmm", reason='needs OpenMM: pip install "dreibein[openmm]"')


def make_context(mm, potential, atoms, integrator=None, system=None, platform="Reference"):
    system = system or openmm_system(potential, atoms)
    integrator = integrator or mm.VerletIntegrator(0.001)
    context = mm.Context(system, integrator, mm.Platform.getPlatformByName(platform))
    context.setPositions(atoms.positions / NM)
    return context


def energy_and_forces(context):
    state = context.getState(energy=True, forces=True)
    energy = state.getPotentialEnergy()._value / KJ
    return energy, state.getForces(asNumpy=True)._value / (KJ * NM)


def velocity_verlet(mm, timestep_ps):
    integrator = mm.CustomIntegrator(timestep_ps)
    integrator.addUpdateContextState()
    integrator.addComputePerDof("v", "v+0.5*dt*f/m")
    integrator.addComputePerDof("x", "x+dt*v")
    integrator.addComputePerDof("v", "v+0.5*dt*f/m")
    return integrator


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("kind", ["cluster", "crystal", "skewed", "charged"])
def test_energy_and_forces_are_those_of_ase(mm, potential, cluster, crystal, kind, platform):
    skewed = Atoms("CuAg", [[0.1, 0.0, 0.0], [1.3, 1.4, 1.2]], cell=SKEWED, pbc=True)
    charged = cluster.copy()
    charged.info["charge"] = 1
    atoms = {"cluster": cluster, "crystal": crystal, "skewed": skewed, "charged": charged}[kind]
    atoms.calc = Calculator(potential)
    context = make_context(mm, potential, atoms, platform=platform)
    energy, forces = energy_and_forces(context)
    tight = platform == "Reference"  # the CPU platform adds forces up in single precision
    assert np.abs(forces).max() > 1e-3
    assert energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12 if tight else 1e-6)
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-10 if tight else 1e-5)


def test_positions_out_of_the_box_and_a_new_box_are_seen(mm, potential, crystal):
    context = make_context(mm, potential, crystal)
    energy, _ = energy_and_forces(context)
    crystal.positions[:5] += crystal.cell.array[1]
    context.setPositions(crystal.positions / NM)
    assert energy_and_forces(context)[0] == pytest.approx(energy, rel=1e-12)
    crystal.set_cell(crystal.cell.array * 1.02, scale_atoms=True)
    context.setPeriodicBoxVectors(*(crystal.cell.array / NM))
    context.setPositions(crystal.positions / NM)
    crystal.calc = Calculator(potential)
    assert energy_and_forces(context)[0] == pytest.approx(crystal.get_potential_energy(), rel=1e-12)


def test_pressure_is_that_of_ase(mm, potential, crystal):
    """OpenMM's own -dE/dV, by moving box and atoms, against the trace of the stress."""
    crystal.set_cell(crystal.cell.array * 0.98, scale_atoms=True)
    crystal.calc = Calculator(potential)
    system = openmm_system(potential, crystal)
    barostat = mm.MonteCarloBarostat(1.0, 0.0, 0)
    system.addForce(barostat)
    context = make_context(mm, potential, crystal, system=system)
    context.setVelocities(np.zeros((32, 3)))
    bar = barostat.computeCurrentPressure(context)._value
    expected = -crystal.get_stress()[:3].mean() * conversion_factor("eV/Å^3", "bar")
    assert abs(expected) > 1e4
    assert bar == pytest.approx(expected, rel=1e-4)


def test_nve_is_the_trajectory_of_ase_and_conserves_energy(mm, potential, cluster):
    cluster.calc = Calculator(potential)
    MaxwellBoltzmannDistribution(cluster, temperature_K=300, rng=np.random.default_rng(0))
    context = make_context(mm, potential, cluster, velocity_verlet(mm, 0.002))
    velocities = cluster.get_velocities() * (1e3 * ase.units.fs) / NM  # nm/ps
    context.setVelocities(velocities)

    def total():
        state = context.getState(energy=True)
        return (state.getPotentialEnergy() + state.getKineticEnergy())._value / KJ

    start, energies = total(), []
    VelocityVerlet(cluster, 2 * ase.units.fs).run(100)
    context.getIntegrator().step(100)
    positions = context.getState(positions=True).getPositions(asNumpy=True)._value * NM
    np.testing.assert_allclose(positions, cluster.positions, atol=1e-6)
    for _ in range(20):
        context.getIntegrator().step(10)
        energies.append(total())
    assert np.abs(np.array(energies) - start).max() / len(cluster) < 2e-4


def test_langevin_and_a_barostat_keep_temperature_and_pressure(mm, potential, crystal):
    """A crystal compressed by 10% expands again when the barostat holds no pressure."""
    crystal.set_cell(crystal.cell.array * 0.9, scale_atoms=True)
    system = openmm_system(potential, crystal)
    barostat = mm.MonteCarloBarostat(0.0, 200.0, 5)
    barostat.setRandomNumberSeed(1)
    system.addForce(barostat)
    integrator = mm.LangevinMiddleIntegrator(200.0, 5.0, 0.004)
    integrator.setRandomNumberSeed(1)
    context = make_context(mm, potential, crystal, integrator, system)
    context.setVelocitiesToTemperature(200.0, 1)
    before = context.getState().getPeriodicBoxVolume()._value
    integrator.step(150)
    kinetic = []
    for _ in range(30):
        integrator.step(5)
        kinetic.append(context.getState(energy=True).getKineticEnergy()._value)
    temperature = 2 * np.mean(kinetic) / (96 * 0.0083144626)
    assert 140 < temperature < 260
    assert context.getState().getPeriodicBoxVolume()._value > 1.1 * before


def test_some_particles_of_a_larger_system(mm, potential, cluster):
    """The potential acts on its particles alone, in the order given; another force on the rest."""
    particles = list(range(20, 20 - len(cluster), -1))
    system = mm.System()
    for _ in range(21):
        system.addParticle(12.0)
    system.addForce(openmm_force(potential, cluster, particles=particles))
    context = mm.Context(system, mm.VerletIntegrator(0.001))
    everything = np.zeros((21, 3))
    everything[particles] = cluster.positions / NM
    context.setPositions(everything)
    energy, forces = energy_and_forces(context)
    cluster.calc = Calculator(potential)
    assert energy == pytest.approx(cluster.get_potential_energy(), rel=1e-6)
    np.testing.assert_allclose(forces[particles], cluster.get_forces(), atol=1e-5)
    assert (np.delete(forces, particles, axis=0) == 0).all()
    with pytest.raises(ValueError, match="2 particles are named for 13 atoms"):
        openmm_force(potential, cluster, particles=[0, 1])


def test_errors_are_one_sentence(mm, potential, crystal, cluster):
    with pytest.raises(ValueError, match="Au"):
        openmm_force(potential, Atoms("Au"))
    crystal.pbc = [True, True, False]
    with pytest.raises(ValueError, match="periodic in all directions or none"):
        openmm_force(potential, crystal)
    cluster.pbc = True
    with pytest.raises(ValueError, match="0 of 3 cell vectors"):
        openmm_force(potential, cluster)
    skewed = Atoms("Cu", cell=[[2.0, 0, 0], [1.8, 2.0, 0], [0, 0, 2]], pbc=True)
    with pytest.raises(ValueError, match="standard_box"):
        openmm_system(potential, skewed)
    energy_and_forces(make_context(mm, potential, standard_box(skewed)))


def test_without_openmm_the_extra_is_named(potential, cluster, monkeypatch):
    monkeypatch.setitem(sys.modules, "openmm", None)
    with pytest.raises(ImportError, match=r'pip install "dreibein\[openmm\]"'):
        openmm_force(potential, cluster)


@pytest.mark.parametrize("handed", ["right", "left"])
def test_a_standard_box_is_the_same_crystal(potential, handed):
    rng = np.random.default_rng(3)
    cell = rng.normal(size=(3, 3)) * 2 + 3 * np.eye(3)
    if (np.linalg.det(cell) > 0) != (handed == "right"):
        cell[0] *= -1
    atoms = Atoms("Cu3Ag2", rng.uniform(size=(5, 3)) @ cell, cell=cell, pbc=True)
    atoms.set_momenta(rng.normal(size=(5, 3)))
    standard = standard_box(atoms)
    box = standard.cell.array
    assert (np.triu(box, 1) == 0).all()
    assert abs(box[1, 0]) <= box[0, 0] / 2 + 1e-9
    assert max(abs(box[2, 0]) / box[0, 0], abs(box[2, 1]) / box[1, 1]) <= 0.5 + 1e-9
    for some in (atoms, standard):
        some.calc = Calculator(potential)
    energies = [some.get_potential_energy() for some in (atoms, standard)]
    assert energies[0] == pytest.approx(energies[1], rel=1e-10)
    rotation = np.linalg.lstsq(atoms.get_momenta(), standard.get_momenta(), rcond=None)[0]
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(atoms.get_forces() @ rotation, standard.get_forces(), atol=1e-9)


def test_a_model_file_in_single_precision(mm, cluster, tmp_path):
    from dreibein.models import TensorNetConfig, build_potential, save_model

    torch.manual_seed(0)
    config = TensorNetConfig(channels=8, layers=1, num_radial=6)
    model = build_potential(config, elements=(29, 47), scale=3.0)
    assert isinstance(model, Potential)
    save_model(model, tmp_path / "model.safetensors")
    cluster.calc = Calculator(tmp_path / "model.safetensors")
    system = openmm_system(tmp_path / "model.safetensors", cluster)
    energy, forces = energy_and_forces(make_context(mm, None, cluster, system=system))
    assert energy == pytest.approx(cluster.get_potential_energy(), rel=1e-6)
    np.testing.assert_allclose(forces, cluster.get_forces(), atol=1e-5)
