"""A crystal is its lattice and atoms, whatever cell describes it."""

from collections.abc import Sequence

import torch
from torch_geometric.data import Data

from dreibein.nn import Potential
from dreibein.systems import make_structure
from dreibein.testing.probing import (
    FORCE_FLOOR,
    bare,
    energy_error,
    predict,
    relative,
    require,
)

ENERGY_TOLERANCE = 1e-12
FORCE_TOLERANCE = 1e-10
# another basis of the same lattice: integers, determinant one
UNIMODULAR = ((1, 1, 0), (0, 1, -1), (1, 1, 1))


def supercell(structure: Data, repeats: Sequence[int]) -> Data:
    """The crystal with `repeats` cells along each vector; all atoms of one cell stay together.

    Args:
        structure: A neutral crystal.
        repeats: Three whole numbers; 1 along directions that are not periodic.
    """
    if bool((torch.tensor(repeats)[~structure.pbc[0]] != 1).any()):
        raise ValueError(f"repeats {tuple(repeats)} copies along a direction that is not periodic")
    cell = structure.cell[0]
    offsets = torch.cartesian_prod(*(torch.arange(float(n)).double() for n in repeats)) @ cell
    return make_structure(
        structure.z.repeat(len(offsets)),
        (offsets[:, None] + structure.pos).reshape(-1, 3),
        cell=cell * torch.tensor(repeats, dtype=torch.float64)[:, None],
        pbc=structure.pbc[0],
    )


def assert_supercell(
    potential: Potential,
    structure: Data,
    *,
    repeats: Sequence[int] | None = None,
    tolerance: float = ENERGY_TOLERANCE,
    force_tolerance: float = FORCE_TOLERANCE,
) -> float:
    """A supercell of n cells has n times the energy, the same forces and the same stress.

    A total charge belongs to the whole structure, so the crystal is taken neutral.

    Args:
        potential: In float64.
        structure: A crystal.
        repeats: Cells along each vector; by default 2, 1, 3 along the periodic ones.
        tolerance: Relative, of the energy.
        force_tolerance: Relative to the largest force.
    """
    if repeats is None:
        repeats = [n if p else 1 for n, p in zip((2, 1, 3), structure.pbc[0].tolist(), strict=True)]
    unit = supercell(structure, (1, 1, 1))
    copies = int(torch.tensor(repeats).prod())
    small, large = predict(potential, [unit, supercell(unit, repeats)], ("energy", "forces"))
    error = energy_error(large | {"energy": large["energy"] / copies}, small)
    require(error, tolerance, f"energy per cell in a supercell of {copies}")
    force_error = relative(large["forces"], small["forces"].repeat(copies, 1), FORCE_FLOOR)
    require(force_error, force_tolerance, f"forces in a supercell of {copies}")
    return error


def assert_lattice_translations(
    potential: Potential,
    structure: Data,
    *,
    tolerance: float = ENERGY_TOLERANCE,
    force_tolerance: float = FORCE_TOLERANCE,
    seed: int = 0,
) -> float:
    """Each atom may stand in any cell: x_i + n_i · cell gives the same energy and forces.

    Args:
        potential: In float64.
        structure: A crystal.
        tolerance: Relative, of the energy.
        force_tolerance: Relative to the largest force.
        seed: Of the whole numbers n_i in −2 … 2.
    """
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randint(-2, 3, structure.pos.shape, generator=generator) * structure.pbc[0]
    moved = bare(structure, pos=structure.pos + whole.double() @ structure.cell[0])
    return _same(potential, structure, moved, "atoms in other cells", (tolerance, force_tolerance))


def assert_cell_choice(
    potential: Potential,
    structure: Data,
    *,
    tolerance: float = ENERGY_TOLERANCE,
    force_tolerance: float = FORCE_TOLERANCE,
) -> float:
    """Another basis of the same lattice gives the same energy and forces.

    Args:
        potential: In float64.
        structure: A crystal, periodic in all three directions.
        tolerance: Relative, of the energy.
        force_tolerance: Relative to the largest force.
    """
    if not bool(structure.pbc.all()):
        raise ValueError("another cell is chosen for crystals periodic in three directions only")
    basis = torch.tensor(UNIMODULAR, dtype=torch.float64)
    skewed = bare(structure, cell=basis @ structure.cell[0])
    return _same(potential, structure, skewed, "another cell", (tolerance, force_tolerance))


def _same(
    potential: Potential,
    structure: Data,
    other: Data,
    law: str,
    tolerances: tuple[float, float],
) -> float:
    one, two = predict(potential, [structure, other], ("energy", "forces"))
    error = energy_error(two, one)
    require(error, tolerances[0], f"energy with {law}")
    force_error: float = relative(two["forces"], one["forces"], FORCE_FLOOR)
    require(force_error, tolerances[1], f"forces with {law}")
    return error
