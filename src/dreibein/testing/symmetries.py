"""Turn, mirror, shift, permute: the energy stays, and forces and stress go along.

Give the potential in float64 (`potential.double()`); every law returns the largest relative error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.nn import Potential
from dreibein.systems.cells import volume
from dreibein.testing.probing import (
    ENERGY_FLOOR,
    FORCE_FLOOR,
    VIRIAL_FLOOR,
    available,
    bare,
    energy_error,
    predict,
    relative,
    require,
)

ENERGY_TOLERANCE = 1e-12
FORCE_TOLERANCE = 1e-10
COPIES = 3  # random elements of the group


@dataclass(frozen=True)
class Change:
    """A changed structure, and what forces and stress must become there."""

    structure: Data
    forces: Callable[[Tensor], Tensor] = lambda forces: forces
    stress: Callable[[Tensor], Tensor] = lambda stress: stress


def random_rotation(seed: int = 0) -> Tensor:
    """A proper rotation [3, 3], uniform over SO(3), float64.

    >>> round(float(torch.linalg.det(random_rotation(seed=5))), 12)
    1.0
    """
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))
    q = q * r.diagonal().sign()
    return q * torch.linalg.det(q)


def turned(structure: Data, matrix: Tensor) -> Data:
    """X -> Q x for atoms and cell vectors, Q [3, 3] orthogonal."""
    return bare(structure, pos=structure.pos @ matrix.T, cell=structure.cell[0] @ matrix.T)


def assert_rotation(
    potential: Potential,
    structure: Data,
    *,
    tolerance: float = ENERGY_TOLERANCE,
    force_tolerance: float = FORCE_TOLERANCE,
    seed: int = 0,
) -> float:
    """E(Rx) = E(x), F(Rx) = R F(x), stress(Rx) = R stress(x) Rᵀ for proper rotations R.

    Args:
        potential: In float64.
        structure: Molecule or crystal; its cell turns along.
        tolerance: Relative, of the energy.
        force_tolerance: Relative to the largest force, and of the virial to its largest entry.
        seed: Of the rotations.

    Returns:
        The relative error of the energy.
    """
    changes = [_turn(structure, random_rotation(seed + k)) for k in range(COPIES)]
    return _compare(potential, structure, changes, "rotation", (tolerance, force_tolerance))


def assert_reflection(
    potential: Potential,
    structure: Data,
    *,
    tolerance: float = ENERGY_TOLERANCE,
    force_tolerance: float = FORCE_TOLERANCE,
    seed: int = 0,
) -> float:
    """E(Qx) = E(x), F(Qx) = Q F(x), stress(Qx) = Q stress(x) Qᵀ with det Q = −1.

    Of a chiral network (SO(3) only) `assert_chiral` is true instead.

    Args:
        potential: In float64.
        structure: Molecule or crystal.
        tolerance: Relative, of the energy.
        force_tolerance: Relative to the largest force, and of the virial to its largest entry.
        seed: Of the reflections.
    """
    changes = [_turn(structure, -random_rotation(seed + k)) for k in range(COPIES)]
    return _compare(potential, structure, changes, "reflection", (tolerance, force_tolerance))


def assert_chiral(
    potential: Potential, structure: Data, *, least: float = 1e-9, seed: int = 0
) -> float:
    """E(Qx) differs from E(x) for a reflection Q: the declaration "chiral" is no empty one.

    Args:
        potential: In float64.
        structure: One that is not its own mirror image.
        least: The smallest relative difference that counts.
        seed: Of the reflection.
    """
    mirrored = turned(structure, -random_rotation(seed))
    one, other = predict(potential, [structure, mirrored])
    measured = relative(other["energy"], one["energy"], ENERGY_FLOOR)
    if not measured >= least:
        raise AssertionError(
            f"energy of the mirror image: differs by {measured:.1e}, "
            f"a chiral potential by at least {least:.1e}"
        )
    return measured


def assert_translation(
    potential: Potential,
    structure: Data,
    *,
    tolerance: float = ENERGY_TOLERANCE,
    force_tolerance: float = FORCE_TOLERANCE,
    distance: float = 10.0,
    seed: int = 0,
) -> float:
    """E(x + t) = E(x), and forces and stress likewise.

    Args:
        potential: In float64.
        structure: Molecule or crystal.
        tolerance: Relative, of the energy.
        force_tolerance: Relative to the largest force, and of the virial to its largest entry.
        distance: Largest shift along each direction in Å; a position x carries a rounding error
            of 1e-16 x, which is no fault of the potential.
        seed: Of the shifts.
    """
    generator = torch.Generator().manual_seed(seed)
    shifts = 2.0 * torch.rand(COPIES, 3, dtype=torch.float64, generator=generator) - 1.0
    changes = [Change(bare(structure, pos=structure.pos + distance * shift)) for shift in shifts]
    return _compare(potential, structure, changes, "translation", (tolerance, force_tolerance))


def assert_permutation(
    potential: Potential,
    structure: Data,
    *,
    tolerance: float = ENERGY_TOLERANCE,
    force_tolerance: float = FORCE_TOLERANCE,
    seed: int = 0,
) -> float:
    """E does not depend on the order of the atoms, and the forces follow it.

    Args:
        potential: In float64.
        structure: Molecule or crystal.
        tolerance: Relative, of the energy.
        force_tolerance: Relative to the largest force, and of the virial to its largest entry.
        seed: Of the permutations.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(structure.z), generator=generator) for _ in range(COPIES)]
    changes = [_reorder(structure, order) for order in orders]
    return _compare(potential, structure, changes, "permutation", (tolerance, force_tolerance))


def _turn(structure: Data, matrix: Tensor) -> Change:
    return Change(
        turned(structure, matrix), lambda f: f @ matrix.T, lambda s: matrix @ s @ matrix.T
    )


def _reorder(structure: Data, order: Tensor) -> Change:
    copy = bare(structure, z=structure.z[order], pos=structure.pos[order])
    return Change(copy, lambda forces: forces[order])


def _compare(
    potential: Potential,
    structure: Data,
    changes: Sequence[Change],
    law: str,
    tolerances: tuple[float, float],
) -> float:
    """Require what must stay and what must turn; return the relative error of the energy."""
    compute = available(structure)
    base, *results = predict(potential, [structure, *(c.structure for c in changes)], compute)
    worst = 0.0
    for change, found in zip(changes, results, strict=True):
        error = energy_error(found, base)
        worst = max(worst, require(error, tolerances[0], f"energy under {law}"))
        error = relative(found["forces"], change.forces(base["forces"]), FORCE_FLOOR)
        require(error, tolerances[1], f"forces under {law}")
        if "stress" in compute:
            floor = VIRIAL_FLOOR / float(volume(structure.cell[0]))
            error = relative(found["stress"], change.stress(base["stress"]), floor)
            require(error, tolerances[1], f"stress under {law}")
    return worst
