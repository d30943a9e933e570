"""A structure's results do not depend on its company."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.nn import Potential
from dreibein.testing.probing import (
    ENERGY_FLOOR,
    FORCE_FLOOR,
    energy_error,
    predict,
    relative,
    require,
)

TOLERANCE = 1e-12


def assert_batch_equals_single(
    potential: Potential, structures: Sequence[Data], *, tolerance: float = TOLERANCE
) -> float:
    """A batch gives what its structures give one by one.

    Args:
        potential: In float64.
        structures: Of different sizes, molecules and crystals together.
        tolerance: Relative, of energies, forces and virials.
    """
    compute = ("energy", "energies", "forces", "virial")
    together = predict(potential, structures, compute)
    worst = 0.0
    for structure, found in zip(structures, together, strict=True):
        (alone,) = predict(potential, [structure], compute)
        for name in compute:
            error = _error(name, found, alone)
            worst = max(worst, require(error, tolerance, f"{name} in a batch and alone"))
    return worst


def assert_order_of_structures(
    potential: Potential, structures: Sequence[Data], *, tolerance: float = TOLERANCE, seed: int = 0
) -> float:
    """The order of the structures in a batch does not matter.

    Args:
        potential: In float64.
        structures: Of different sizes.
        tolerance: Relative, of energies and forces.
        seed: Of the other order.
    """
    compute = ("energy", "forces")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(structures), generator=generator).tolist()
    first = predict(potential, structures, compute)
    second = predict(potential, [structures[k] for k in order], compute)
    worst = 0.0
    for k, found in zip(order, second, strict=True):
        for name in compute:
            error = _error(name, found, first[k])
            worst = max(worst, require(error, tolerance, f"{name} in another order of the batch"))
    return worst


def _error(name: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    if name == "energy":
        return energy_error(found, expected)
    floor = ENERGY_FLOOR if name == "energies" else FORCE_FLOOR
    return relative(found[name], expected[name], floor)
