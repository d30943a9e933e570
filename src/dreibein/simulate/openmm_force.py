"""A potential as a force of OpenMM.

OpenMM hands positions in nm to a Python function and takes energy in kJ/mol and forces in
kJ/mol/nm from it (`openmm.PythonForce`). Its barostats are Monte Carlo moves of box and atoms, so
they need energies alone.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from dreibein.simulate.calculator import charge_and_spin
from dreibein.simulate.engines import (
    has_standard_box,
    import_engine,
    is_periodic,
    make_evaluator,
)
from dreibein.simulate.evaluator import DEFAULT_SKIN, Evaluator
from dreibein.systems.units import conversion_factor

if TYPE_CHECKING:
    import openmm

    from dreibein.simulate.engines import PotentialOrPath

_NM = conversion_factor("nm", "Å")
_KJ_PER_MOL = conversion_factor("eV", "kJ/mol")


def openmm_force(
    potential: "PotentialOrPath",
    atoms: Atoms,
    *,
    particles: Sequence[int] | None = None,
    skin: float = DEFAULT_SKIN,
    backend: str = "auto",
) -> "openmm.PythonForce":
    """The potential as an `openmm.PythonForce`.

    Args:
        potential: A potential, frozen or not, or the path of a model file.
        atoms: Numbers, charge and spin (`info`), and whether the box is periodic. Positions and
            cell come from OpenMM at every call.
        particles: Indices in the OpenMM system of these atoms, in their order. [0, 1, 2, …]
        skin: Extra radius in Å of the neighbor list kept between calls.
        backend: "auto" or one of `dreibein.nn.BACKENDS`.

    Returns:
        A force; it cannot be serialized.

    Raises:
        ImportError: OpenMM is missing, or too old.
        ValueError: An unknown element, mixed periodicity, a missing box.
    """
    mm = _openmm()
    periodic = is_periodic(atoms, "OpenMM")
    evaluator = make_evaluator(potential, skin=skin, backend=backend)
    evaluator.check(atoms.numbers)
    force = mm.PythonForce(_computation(evaluator, atoms, periodic))
    force.setName("dreibein")
    force.setUsesPeriodicBoundaryConditions(periodic)
    if particles is not None:
        if len(particles) != len(atoms):
            raise ValueError(f"{len(particles)} particles are named for {len(atoms)} atoms")
        force.setParticles([int(k) for k in particles])
    return force


def openmm_system(
    potential: "PotentialOrPath",
    atoms: Atoms,
    *,
    skin: float = DEFAULT_SKIN,
    backend: str = "auto",
) -> "openmm.System":
    """An `openmm.System` of these atoms: their masses, their box, and the potential alone.

    Raises:
        ValueError: As `openmm_force`; or a box that is not lower triangular with small tilts
            (`standard_box` turns one into that).
    """
    mm = _openmm()
    system = mm.System()
    for mass in atoms.get_masses():
        system.addParticle(float(mass))  # amu
    if is_periodic(atoms, "OpenMM"):
        if not has_standard_box(atoms):
            raise ValueError(
                "OpenMM wants cell vectors that form a lower triangular matrix with tilts of at "
                "most half a diagonal: pass dreibein.simulate.standard_box(atoms)"
            )
        box = np.tril(atoms.cell.array) / _NM
        system.setDefaultPeriodicBoxVectors(*(mm.Vec3(*row) for row in box))
    system.addForce(openmm_force(potential, atoms, skin=skin, backend=backend))
    return system


def _openmm() -> Any:
    """The module, new enough."""
    mm = import_engine("openmm", "openmm")
    if not hasattr(mm, "PythonForce"):
        raise ImportError(
            f"OpenMM {mm.version.version} has no PythonForce: "
            'install a newer one with pip install -U "dreibein[openmm]"'
        )
    return mm


def _computation(
    evaluator: Evaluator, atoms: Atoms, periodic: bool
) -> Callable[..., tuple[float, np.ndarray]]:
    """The function that OpenMM calls: state -> energy in kJ/mol, forces in kJ/mol/nm."""
    numbers, pbc = atoms.numbers.copy(), np.full(3, periodic)
    charge, spin = charge_and_spin(atoms)
    no_box = np.zeros((3, 3))

    # A local function: OpenMM tries to pickle what it gets, model and all, and gives up at once.
    def compute(state: Any) -> tuple[float, np.ndarray]:
        positions = state.getPositions(asNumpy=True)._value * _NM
        box = no_box
        if periodic:
            box = np.array([list(row._value) for row in state.getPeriodicBoxVectors()]) * _NM
        values = evaluator(numbers, positions, box, pbc, charge=charge, spin=spin)
        forces = values["forces"].cpu().numpy() * (_KJ_PER_MOL * _NM)
        return float(values["energy"]) * _KJ_PER_MOL, forces

    return compute
