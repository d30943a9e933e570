"""Targets turn as they say, and add up as they must."""

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.nn import Potential
from dreibein.nn.targets import Target
from dreibein.o3 import Irreps, act
from dreibein.testing.probing import bare, connected, mode, relative, require
from dreibein.testing.symmetries import random_rotation, turned

TARGET_TOLERANCE = 1e-12
FLOOR = 1e-12  # a target that vanishes by symmetry is compared with nothing smaller
COPIES = 3


def turned_target(target: Target, matrix: Tensor, value: Tensor) -> Tensor:
    """A target's value [rows, ...] after x -> Q x: each index by Q, irreps by their matrices."""
    if target.irreps is not None:
        reps = Irreps(target.irreps)
        return act(reps, matrix, value.reshape(-1, reps.dim)).reshape(value.shape)
    for axis in range(value.ndim - len(target.shape), value.ndim):
        value = torch.tensordot(value, matrix, dims=([axis], [1])).movedim(-1, axis)
    return value


def assert_targets_turn(
    potential: Potential,
    structure: Data,
    *,
    mirrored: bool = True,
    tolerance: float = TARGET_TOLERANCE,
    seed: int = 0,
) -> dict[str, float]:
    """T(Qx) = Q T(x) for every target, rotations Q and (where `mirrored`) reflections.

    Args:
        potential: In float64, with targets.
        structure: Molecule or crystal.
        mirrored: Whether det Q = −1 too; not of a chiral network.
        tolerance: Relative to the largest component.
        seed: Of the rotations.

    Returns:
        The largest relative error of each target.

    Raises:
        AssertionError: With the target and the error.
    """
    expected = _targets(potential, structure)
    worst = dict.fromkeys(expected, 0.0)
    for copy in range(COPIES):
        for sign in (1.0, -1.0) if mirrored else (1.0,):
            matrix = sign * random_rotation(seed + copy)
            found = _targets(potential, turned(structure, matrix))
            for name, head in potential.targets.items():
                value = turned_target(head.target, matrix, expected[name])
                error = relative(found[name], value, FLOOR)
                law = f"{name} under {'rotation' if sign > 0 else 'reflection'}"
                worst[name] = max(worst[name], require(error, tolerance, law))
    return worst


def assert_charges_add_up(
    potential: Potential, structure: Data, *, tolerance: float = 1e-12
) -> float:
    """The charges of atoms add up to the total charge; returns the largest difference in e.

    Raises:
        AssertionError: With the difference.
    """
    worst = 0.0
    for charge in (0.0, 1.0, -2.0):
        changed = bare(structure)
        changed.charge = torch.tensor([charge], dtype=torch.float64)
        found = _compute(potential, changed, ("charges",))["charges"]
        worst = max(worst, abs(float(found.sum()) - charge))
    return require(worst, tolerance, "sum of charges minus total charge")


def assert_dipole_has_no_origin(
    potential: Potential, structure: Data, *, tolerance: float = 1e-10
) -> float:
    """D(x + t) = D(x), also of ions, whose dipole is taken about the center of mass.

    Returns:
        The largest relative difference.

    Raises:
        AssertionError: With the difference.
    """
    expected = _compute(potential, structure, ("dipole",))["dipole"]
    step = torch.tensor([30.0, -7.0, 11.0], dtype=torch.float64)
    moved = _compute(potential, bare(structure, pos=structure.pos + step), ("dipole",))["dipole"]
    return require(relative(moved, expected, FLOOR), tolerance, "dipole under translation")


def _targets(potential: Potential, structure: Data) -> dict[str, Tensor]:
    return _compute(potential, structure, tuple(potential.targets))


def _compute(potential: Potential, structure: Data, names: tuple[str, ...]) -> dict[str, Tensor]:
    found = connected(structure, potential)
    found.charge = structure.charge if "charge" in structure else found.charge
    with mode(potential, training=False):
        return {n: v.cpu() for n, v in potential(found, compute=names).items()}
