"""One frame through each engine: what `measure_parity` calls, again and again."""

import importlib.metadata
import importlib.util
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.socketio import SocketIOCalculator

from dreibein.neighbors import attach_neighbors
from dreibein.nn.frozen import FrozenPotential
from dreibein.simulate.calculator import Calculator
from dreibein.simulate.export import frame_arguments, trace_potential
from dreibein.simulate.ipi_driver import ipi_driver
from dreibein.simulate.lammps_fix import lammps_system
from dreibein.simulate.openmm_force import openmm_system
from dreibein.systems import from_ase
from dreibein.systems.cells import from_voigt
from dreibein.systems.units import conversion_factor

_NM = conversion_factor("nm", "Å")
_KJ_PER_MOL = conversion_factor("kJ/mol", "eV")
_BAR = conversion_factor("bar", "eV/Å^3")


@dataclass(frozen=True)
class Frame:
    """Results at one frame.

    Attributes:
        energy: eV.
        forces: [N, 3] in eV/Å.
        stress: [3, 3] in eV/Å³, tension positive; None without a volume or from an engine that
            knows no virial.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None


@dataclass(frozen=True)
class ParityEngine:
    """An engine that can be asked.

    Attributes:
        name: As printed.
        package: Distribution that brings it.
        module: What is imported of it.
        open: (potential, atoms) -> context manager of a function that evaluates the frame anew.
        exact_only: Whether only autograd in float64 is asked, since making it takes long.
    """

    name: str
    package: str
    module: str
    open: Callable[[FrozenPotential, Atoms], Any]
    exact_only: bool = False

    @property
    def installed(self) -> bool:
        """Whether its package is there; it may still fail to load."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str | None:
        """Version of its package."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None


@contextmanager
def _ase(potential: FrozenPotential, atoms: Atoms) -> Iterator[Callable[[], Frame]]:
    atoms = atoms.copy()
    atoms.calc = calculator = Calculator(potential)
    calculator.always = ("forces", "stress") if atoms.pbc.all() else ("forces",)

    def evaluate() -> Frame:
        calculator.reset()
        return _frame(atoms)

    yield evaluate


@contextmanager
def _openmm(potential: FrozenPotential, atoms: Atoms) -> Iterator[Callable[[], Frame]]:
    import openmm

    # the only platform that adds forces up in double precision everywhere
    platform = openmm.Platform.getPlatformByName("Reference")
    system = openmm_system(potential, atoms)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    positions = atoms.positions / _NM

    def evaluate() -> Frame:
        context.setPositions(positions)
        state = context.getState(energy=True, forces=True)
        forces = state.getForces(asNumpy=True)._value * (_KJ_PER_MOL / _NM)
        return Frame(state.getPotentialEnergy()._value * _KJ_PER_MOL, forces, None)

    yield evaluate


@contextmanager
def _lammps(potential: FrozenPotential, atoms: Atoms) -> Iterator[Callable[[], Frame]]:
    resting = atoms.copy()
    resting.set_momenta(np.zeros((len(atoms), 3)))  # the pressure is that of the forces alone
    lmp = lammps_system(potential, resting)

    def evaluate() -> Frame:
        lmp.command("run 0")
        forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)
        pressure = [lmp.get_thermo(k) for k in ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")]
        stress = _matrix(np.array(pressure) * -_BAR) if atoms.pbc.all() else None
        return Frame(lmp.get_thermo("pe"), forces, stress)

    try:
        yield evaluate
    finally:
        lmp.close()


@contextmanager
def _ipi(potential: FrozenPotential, atoms: Atoms) -> Iterator[Callable[[], Frame]]:
    """The driver of i-PI in a thread, ASE's server of the same protocol at the other end."""
    name = f"dreibein_{uuid.uuid4().hex}"
    driver = threading.Thread(
        target=ipi_driver,
        args=(potential, atoms),
        kwargs={"address": name, "port": None},
        daemon=True,
    )
    driver.start()
    served = atoms.copy()
    served.calc = server = SocketIOCalculator(unixsocket=name)

    def evaluate() -> Frame:
        server.reset()
        return _frame(served)

    try:
        yield evaluate
    finally:
        server.close()
        driver.join()


@contextmanager
def _exported(potential: FrozenPotential, atoms: Atoms) -> Iterator[Callable[[], Frame]]:
    """The program that `dreibein export` writes, with a neighbor search of ours."""
    program = trace_potential(potential.potential).module()
    structure = from_ase(atoms)

    def evaluate() -> Frame:
        near = attach_neighbors(structure, potential.potential.cutoff)
        energy, _, forces, virial = program(*frame_arguments(near))
        stress = -virial.numpy() / atoms.get_volume() if atoms.pbc.all() else None
        return Frame(float(energy), forces.numpy(), stress)

    yield evaluate


ENGINES = (
    ParityEngine("ASE", "ase", "ase", _ase),
    ParityEngine("OpenMM", "openmm", "openmm", _openmm),
    ParityEngine("LAMMPS", "lammps", "lammps", _lammps),
    ParityEngine("i-PI", "ase", "ase", _ipi),
    ParityEngine("exported", "torch", "torch", _exported, exact_only=True),
)


def _frame(atoms: Atoms) -> Frame:
    """What the calculator of some atoms says."""
    stress = None
    if atoms.pbc.all():
        stress = _matrix(atoms.get_stress())
    return Frame(float(atoms.get_potential_energy()), atoms.get_forces(), stress)


def _matrix(voigt: np.ndarray) -> np.ndarray:
    """Six components xx yy zz yz xz xy as a matrix."""
    import torch

    return from_voigt(torch.from_numpy(np.array(voigt))).numpy()
