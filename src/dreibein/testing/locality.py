"""What is far away does not count, and comes near without a jump."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.nn import Potential
from dreibein.systems import make_structure
from dreibein.testing.probing import (
    FORCE_FLOOR,
    bare,
    connected,
    energy_error,
    mode,
    predict,
    relative,
    require,
)

GAP = 1.0  # Å beyond the cutoff
SCAN_HALF_WIDTH = 0.3  # Å around the cutoff over which a derivative's own variation is taken
STEP = 1e-3  # Å


def together(first: Data, second: Data, offset: Tensor) -> Data:
    """Both molecules in one structure, the second displaced by `offset` [3] Å."""
    return make_structure(
        torch.cat([first.z, second.z]), torch.cat([first.pos, second.pos + offset])
    )


def assert_extensivity(
    potential: Potential,
    first: Data,
    second: Data,
    *,
    tolerance: float = 1e-12,
    force_tolerance: float = 1e-10,
) -> float:
    """E(A + B) = E(A) + E(B) and the forces likewise, for neutral molecules beyond the cutoff.

    Args:
        potential: In float64; short-ranged.
        first: A molecule; a charge is ignored, since it would belong to both.
        second: Another.
        tolerance: Relative, of the energy.
        force_tolerance: Relative to the largest force.
    """
    first, second = (make_structure(part.z, part.pos) for part in (first, second))
    reach = float(first.pos[:, 0].max() - second.pos[:, 0].min())
    offset = torch.tensor([reach + potential.cutoff + GAP, 0.0, 0.0], dtype=torch.float64)
    both = together(first, second, offset)
    a, b, ab = predict(potential, [first, second, both], ("energy", "forces"))
    parts = {
        "energy": a["energy"] + b["energy"],
        "forces": torch.cat([a["forces"], b["forces"]]),
    }
    error = energy_error(ab, parts)
    require(error, tolerance, "energy of two distant molecules")
    force_error = relative(ab["forces"], parts["forces"], FORCE_FLOOR)
    require(force_error, force_tolerance, "forces of distant molecules")
    return error


@dataclass(frozen=True)
class Jumps:
    """Jumps of E, dE/dr and d²E/dr² at the cutoff, each relative to its variation nearby."""

    energy: float
    slope: float
    curvature: float


def cutoff_jumps(
    potential: Potential, structure: Data, z: int, *, step: float = STEP, seed: int = 0
) -> Jumps:
    """Measure E, E' and E'' along a line on which one more atom enters the cutoff of an atom.

    D(h) = f(cutoff + h) − f(cutoff − h) is taken at two steps and extrapolated to h = 0, where
    only a jump is left. The scale is the range of f within 0.3 Å of the cutoff.

    Args:
        potential: In float64.
        structure: A molecule.
        z: Atomic number of the visitor, which leaves the outermost atom radially.
        step: Of the differences in Å.
        seed: Of the direction.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(3, dtype=torch.float64, generator=generator)
    direction = direction / direction.norm()
    outermost = structure.pos[int((structure.pos @ direction).argmax())]
    offsets = [step, -step, step / 2, -step / 2, *_grid()]
    values = [
        _along(potential, structure, z, outermost + (potential.cutoff + x) * direction, direction)
        for x in offsets
    ]
    energy, slope, curvature = torch.tensor(values, dtype=torch.float64).T
    return Jumps(*(_jump(f) for f in (energy, slope, curvature)))


def assert_smooth_at_cutoff(
    potential: Potential,
    structure: Data,
    z: int,
    *,
    order: int = 2,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Jumps:
    """E, and its derivatives up to `order`, do not jump when an atom crosses the cutoff.

    Args:
        potential: In float64.
        structure: A molecule.
        z: Atomic number of the atom that crosses.
        order: 0 the energy, 1 the forces too, 2 the curvature too.
        tolerance: Of a jump, relative to the variation of the same quantity within 0.3 Å.
        seed: Of the direction.

    Returns:
        All three relative jumps.
    """
    jumps = cutoff_jumps(potential, structure, z, seed=seed)
    for name in ("energy", "slope", "curvature")[: order + 1]:
        require(getattr(jumps, name), tolerance, f"jump of the {name} at the cutoff")
    return jumps


def _grid() -> list[float]:
    return torch.linspace(-SCAN_HALF_WIDTH, SCAN_HALF_WIDTH, 13).tolist()


def _jump(f: Tensor) -> float:
    """Jump from the values at ±h, ±h/2 and the grid; zero where f is constant."""
    wide, narrow = f[0] - f[1], f[2] - f[3]
    variation = float(f[4:].max() - f[4:].min())
    return abs(float(2.0 * narrow - wide)) / variation if variation > 0.0 else 0.0


def _along(
    potential: Potential, structure: Data, z: int, pos: Tensor, direction: Tensor
) -> tuple[float, ...]:
    """E, u · dE/dx and u · d²E/dx² · u of the added atom, by differentiating twice."""
    added = bare(
        structure,
        z=torch.cat([structure.z, torch.tensor([z])]),
        pos=torch.cat([structure.pos, pos[None]]),
    )
    graph = connected(added, potential)
    graph.pos = graph.pos.requires_grad_()
    with mode(potential, training=True):
        found = potential(graph, compute=("energy", "forces"))
        slope = -(found["forces"][-1] * direction.to(graph.pos)).sum()
        curvature = torch.zeros(())
        if slope.requires_grad:
            (gradient,) = torch.autograd.grad(slope, graph.pos)
            curvature = (gradient[-1] * direction.to(graph.pos)).sum()
    return tuple(float(value.detach()) for value in (found["energy"], slope, curvature))
