"""Forces, virial, stress and Hessian are the derivatives of the energy; action equals reaction.

Derivatives are taken by the five-point rule, error of order step⁴, with neighbors found anew at
every point. Give the potential in float64.
"""

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.nn import Potential
from dreibein.systems import batch_index
from dreibein.systems.cells import from_voigt, volume
from dreibein.systems.cells import strain as strained
from dreibein.testing.probing import (
    FORCE_FLOOR,
    VIRIAL_FLOOR,
    bare,
    connected,
    energies_of,
    mode,
    predict,
    relative,
    require,
)

# f' = (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12 h
STENCIL = ((-2.0, 1.0 / 12.0), (-1.0, -8.0 / 12.0), (1.0, 8.0 / 12.0), (2.0, -1.0 / 12.0))
POSITION_STEP = 1e-3  # Å
STRAIN_STEP = 5e-4


def assert_forces(
    potential: Potential,
    structure: Data,
    *,
    tolerance: float = 1e-6,
    step: float = POSITION_STEP,
) -> float:
    """F = −dE/dx, for every component.

    Args:
        potential: In float64.
        structure: Molecule or crystal.
        tolerance: Relative to the largest force.
        step: Of the differences in Å.

    Returns:
        The relative error.
    """
    directions = torch.eye(structure.pos.numel(), dtype=torch.float64)
    copies = [
        bare(structure, pos=structure.pos + k * step * direction.view_as(structure.pos))
        for direction in directions
        for k, _ in STENCIL
    ]
    expected = -_slopes(energies_of(potential, copies), step).view_as(structure.pos)
    (found,) = predict(potential, [structure], ("forces",))
    error = relative(found["forces"], expected, FORCE_FLOOR)
    return require(error, tolerance, "forces against differences of the energy")


def assert_virial_and_stress(
    potential: Potential,
    structure: Data,
    *,
    tolerance: float = 1e-6,
    step: float = STRAIN_STEP,
) -> float:
    """Virial = −dE/dε and, in a periodic cell, stress = dE/dε / V, for six symmetric strains.

    Args:
        potential: In float64.
        structure: Molecule (virial alone) or crystal.
        tolerance: Relative to the largest entry.
        step: Of the strain.
    """
    units = from_voigt(torch.eye(6, dtype=torch.float64))  # shear has two entries
    copies = [_strained(structure, k * step * unit) for unit in units for k, _ in STENCIL]
    slopes = _slopes(energies_of(potential, copies), step)
    gradient = from_voigt(slopes * torch.tensor([1.0, 1.0, 1.0, 0.5, 0.5, 0.5]))
    (found,) = predict(potential, [structure], ("virial", "stress"))
    error = relative(found["virial"], -gradient, VIRIAL_FLOOR)
    require(error, tolerance, "virial against differences of the energy")
    if bool(structure.pbc.all()):
        size = volume(structure.cell[0])
        stress_error = relative(found["stress"], gradient / size, VIRIAL_FLOOR / float(size))
        require(stress_error, tolerance, "stress against differences of the energy")
        error = max(error, stress_error)
    elif not bool(found["stress"].isnan().all()):
        raise AssertionError("stress of a structure without a volume must be NaN")
    return error


def assert_hessian(
    potential: Potential,
    structure: Data,
    *,
    tolerance: float = 1e-6,
    symmetry_tolerance: float = 1e-10,
    step: float = POSITION_STEP,
) -> float:
    """H = −dF/dx, and H = Hᵀ.

    Args:
        potential: In float64.
        structure: Molecule or crystal.
        tolerance: Relative to the largest entry.
        symmetry_tolerance: Of |H − Hᵀ|, relative to the largest entry.
        step: Of the differences in Å.
    """
    size = structure.pos.numel()
    copies = [
        bare(structure, pos=structure.pos + k * step * direction.view_as(structure.pos))
        for direction in torch.eye(size, dtype=torch.float64)
        for k, _ in STENCIL
    ]
    forces = torch.stack([r["forces"].flatten() for r in predict(potential, copies, ("forces",))])
    expected = -_slopes(forces, step)
    with mode(potential, training=False):
        found = potential(connected(structure, potential), compute=("hessian",))["hessian"]
    found = found.detach().cpu().double().reshape(size, size)
    require(relative(found, found.T, FORCE_FLOOR), symmetry_tolerance, "Hessian is not symmetric")
    error = relative(found, expected, FORCE_FLOOR)
    return require(error, tolerance, "Hessian against differences of the forces")


def assert_no_net_force(
    potential: Potential, structure: Data, *, tolerance: float = 1e-12
) -> float:
    """sum_i F_i = 0, since the energy does not change under translation.

    Args:
        potential: In float64.
        structure: Molecule or crystal.
        tolerance: Relative to the sum of the sizes of the forces.
    """
    (found,) = predict(potential, [structure], ("forces",))
    forces = found["forces"]
    size = max(float(forces.abs().sum()), FORCE_FLOOR)
    return require(float(forces.sum(0).abs().max()) / size, tolerance, "sum of the forces")


def assert_no_torque(potential: Potential, structure: Data, *, tolerance: float = 1e-12) -> float:
    """sum_i x_i × F_i = 0 for a molecule, since the energy does not change under rotation.

    Args:
        potential: In float64.
        structure: Without periodicity.
        tolerance: Relative to the sum of the sizes of the torques.
    """
    if bool(structure.pbc.any()):
        raise ValueError("a periodic structure has no torque: give a molecule")
    (found,) = predict(potential, [structure], ("forces",))
    torques = torch.linalg.cross(structure.pos - structure.pos.mean(0), found["forces"])
    size = max(float(torques.abs().sum()), FORCE_FLOOR)
    return require(float(torques.sum(0).abs().max()) / size, tolerance, "sum of the torques")


def _strained(structure: Data, strain: Tensor) -> Data:
    batch, _ = batch_index(structure)
    pos, cell = strained(structure.pos, structure.cell, strain[None], batch)
    return bare(structure, pos=pos, cell=cell[0])


def _slopes(values: Tensor, step: float) -> Tensor:
    """Derivatives [D, …] from the values [D · 4, …] at the points of the stencil."""
    values = values.unflatten(0, (-1, len(STENCIL)))
    values = values - values[:, :1]  # the rule sums to zero: spares digits
    weights = torch.tensor([weight for _, weight in STENCIL], dtype=torch.float64)
    return torch.einsum("dk...,k->d...", values, weights) / step
