"""Finite numbers at the edges of the domain, and rounding errors within stated bounds."""

import copy
from collections.abc import Sequence

import torch
from torch_geometric.data import Data

from dreibein.nn import Potential
from dreibein.systems import make_structure
from dreibein.testing.probing import (
    FORCE_FLOOR,
    available,
    bare,
    connected,
    energy_error,
    mode,
    predict,
    relative,
    require,
)


def assert_finite(potential: Potential, structure: Data) -> None:
    """Energy, atomic energies, forces, virial and Hessian contain no NaN and no infinity.

    Args:
        potential: In any precision.
        structure: As strange as it may be.

    Raises:
        AssertionError: Naming the quantity.
    """
    compute = ("energy", "energies", "forces", "virial", "hessian")
    with mode(potential, training=False):
        found = potential(connected(structure, potential), compute=compute)
    for name in compute:
        bad = int((~torch.isfinite(found[name])).sum())
        if bad:
            raise AssertionError(f"{name}: {bad} of {found[name].numel()} values are not finite")


def edge_cases(elements: Sequence[int]) -> dict[str, Data]:
    """Structures at the edges of the domain, by name.

    Args:
        elements: Atomic numbers that the potential knows.

    >>> sorted(edge_cases([1]))[:3]
    ['coincident atoms', 'image on itself', 'linear molecule']
    """
    first, last = elements[0], elements[-1]
    line = torch.tensor([[0.0, 0, 0], [1.1, 0, 0], [2.2, 0, 0]], dtype=torch.float64)
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    return {
        "one atom": make_structure([first], torch.zeros(1, 3)),
        "no neighbors": make_structure([first, last], torch.tensor([[0.0, 0, 0], [100, 0, 0]])),
        "coincident atoms": make_structure(
            [first, last, first], torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 0, 0]])
        ),
        "linear molecule": make_structure([last, first, last], line),
        "tetrahedron": make_structure(
            [first, *[last] * 4], torch.cat([torch.zeros(1, 3), 0.63 * corners])
        ),
        "image on itself": make_structure([first], torch.zeros(1, 3), cell=[1.5, 1.6, 1.7]),
        "wire": make_structure(
            [first], torch.zeros(1, 3), cell=[1.5, 0.0, 0.0], pbc=[True, False, False]
        ),
    }


def assert_edge_cases_are_finite(potential: Potential, elements: Sequence[int]) -> None:
    """One atom, no neighbors, coincident atoms, lines, symmetric sites, tiny cells: finite.

    Args:
        potential: In any precision.
        elements: Atomic numbers that the potential knows.
    """
    for name, structure in edge_cases(elements).items():
        try:
            assert_finite(potential, structure)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


def assert_float32_is_near_float64(
    potential: Potential,
    structure: Data,
    *,
    tolerance: float = 1e-5,
    force_tolerance: float = 1e-4,
) -> float:
    """The network in float32 gives the energy and forces of float64 within the tolerances.

    Args:
        potential: In any precision; it is copied.
        structure: Molecule or crystal.
        tolerance: Of the energy per atom, in eV or, where that is larger, relative to the largest
            force times 1 Å. References of thousands of eV must not hide what the network loses.
        force_tolerance: Relative to the largest force.

    Returns:
        The relative error of the forces.
    """
    compute = ("energy", "forces")
    (exact,) = predict(copy.deepcopy(potential).double(), [structure], compute)
    (single,) = predict(copy.deepcopy(potential).float(), [structure], compute)
    size = max(float(exact["forces"].abs().max()), 1.0) * len(structure.z)
    error = float((single["energy"] - exact["energy"]).abs()) / size
    require(error, tolerance, "energy in float32 against float64")
    error = relative(single["forces"], exact["forces"], FORCE_FLOOR)
    return require(error, force_tolerance, "forces in float32 against float64")


def assert_far_from_origin(
    potential: Potential,
    structure: Data,
    *,
    distance: float = 1000.0,
    tolerance: float = 1e-6,
) -> float:
    """In float32 too, nothing depends on where the structure is: edges are formed in float64.

    Args:
        potential: In any precision; it is copied and taken in float32.
        structure: Molecule or crystal.
        distance: Of the shift along every direction in Å.
        tolerance: Relative, of energy and forces: a rounding of an edge's last float32 digit.
    """
    single = copy.deepcopy(potential).float()
    shifted = bare(structure, pos=structure.pos + distance)
    # each in a call of its own: rows of one batch are not rounded alike by a matrix product
    (here,), (there,) = (
        predict(single, [one], ("energy", "forces")) for one in (structure, shifted)
    )
    error = energy_error(there, here)
    require(error, tolerance, f"energy in float32, {distance:g} Å away")
    error = relative(there["forces"], here["forces"], FORCE_FLOOR)
    return require(error, tolerance, f"forces in float32, {distance:g} Å away")


def assert_deterministic(potential: Potential, structure: Data) -> None:
    """The same input gives the same bits.

    Args:
        potential: In any precision.
        structure: Molecule or crystal.
    """
    compute = available(structure)
    (first,), (second,) = (predict(potential, [structure], compute) for _ in range(2))
    for name in compute:
        if not torch.equal(first[name], second[name]):
            distance = float((first[name] - second[name]).abs().max())
            raise AssertionError(f"{name} differs between two calls by {distance:.1e}")
