"""Measured: the energy and its first two derivatives when a neighbor crosses the cutoff."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor
from torch_geometric.data import Data

from dreibein.evaluate.probes import Probe, is_periodic, moved, with_atom
from dreibein.neighbors import find_neighbors

MAX_CROSSINGS = 4
SEARCH = 0.5  # Å around the cutoff in which a pair of the frame itself is taken
SCAN_HALF_WIDTH = 0.3  # Å
SCAN_POINTS = 49
STEP = 1e-4  # Å between the points of a finite difference


@dataclass(frozen=True)
class Crossing:
    """One atom on a straight line through the cutoff sphere of another.

    Attributes:
        text: Which atom crosses whose cutoff.
        atom: Index of the moving atom.
        direction: Unit vector of its path [3].
        at: Structure in which the pair is `distance` Å apart.
    """

    text: str
    atom: int
    direction: Tensor
    at: Callable[[float], Data]


@dataclass(frozen=True)
class Curve:
    """E, E' and E'' along a crossing.

    Attributes:
        text: Which atom crosses whose cutoff.
        distance: Å.
        energy: eV, relative to the outermost point.
        slope: eV/Å.
        curvature: eV/Å².
    """

    text: str
    distance: list[float]
    energy: list[float]
    slope: list[float]
    curvature: list[float]


def find_crossings(structures: Sequence[Data], cutoff: float, *, seed: int = 0) -> list[Crossing]:
    """Choose up to four crossings with different element pairs.

    A pair of the frame whose distance is within 0.5 Å of the cutoff is taken where there is one;
    a molecule smaller than that gets an additional atom that leaves it along a straight line.
    """
    crossings: dict[tuple[int, int], Crossing] = {}
    for structure in structures:
        for key, crossing in _pairs_of(structure, cutoff):
            if len(crossings) < MAX_CROSSINGS:
                crossings.setdefault(key, crossing)
    for structure in structures:
        if not is_periodic(structure):
            for key, crossing in _visitors_of(structure, seed):
                if len(crossings) < MAX_CROSSINGS:
                    crossings.setdefault(key, crossing)
    return list(crossings.values())


def _pairs_of(structure: Data, cutoff: float) -> list[tuple[tuple[int, int], Crossing]]:
    """Pairs of the frame, nearest to the cutoff first, one per pair of elements."""
    pairs = find_neighbors(structure.pos, structure.cell[0], structure.pbc[0], cutoff + SEARCH)
    keep = pairs.sender != pairs.receiver  # an atom never leaves its own image
    sender, receiver, shift = pairs.sender[keep], pairs.receiver[keep], pairs.shift[keep]
    vectors = structure.pos[sender] + shift.double() @ structure.cell[0] - structure.pos[receiver]
    distances = vectors.norm(dim=1)
    found: dict[tuple[int, int], Crossing] = {}
    for edge in (distances - cutoff).abs().argsort().tolist():
        if abs(float(distances[edge]) - cutoff) > SEARCH:
            break
        i, j = int(receiver[edge]), int(sender[edge])
        key = (int(structure.z[i]), int(structure.z[j]))
        if key in found or key[::-1] in found:
            continue
        direction, distance = vectors[edge] / distances[edge], float(distances[edge])

        def at(r: float, j: int = j, u: Tensor = direction, d: float = distance) -> Data:
            return moved(structure, j, (r - d) * u)

        symbols = [chemical_symbols[z] for z in key]
        text = f"{symbols[1]} (atom {j}) leaves {symbols[0]} (atom {i})"
        found[key] = Crossing(text, j, direction, at)
    return list(found.items())


def _visitors_of(structure: Data, seed: int) -> list[tuple[tuple[int, int], Crossing]]:
    """An additional atom of each element leaves the outermost atom along a random direction.

    Every other atom of the molecule is farther from it, so only one pair crosses at a time.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for z in structure.z.unique().tolist():
        direction = torch.randn(3, dtype=torch.float64, generator=generator)
        direction = direction / direction.norm()
        i = int((structure.pos @ direction).argmax())

        def at(r: float, z: int = z, u: Tensor = direction, i: int = i) -> Data:
            return with_atom(structure, z, structure.pos[i] + r * u)

        key = (int(structure.z[i]), z)
        text = f"an additional {chemical_symbols[z]} leaves {chemical_symbols[key[0]]} (atom {i})"
        found.append((key, Crossing(text, len(structure.z), direction, at)))
    return found


def measure_jumps(probe: Probe, crossing: Crossing) -> tuple[float, float, float]:
    """Jumps of E, E' and E'' at the cutoff, in eV, eV/Å, eV/Å².

    A jump is the limit from outside minus the limit from inside, each extrapolated to the cutoff
    by a cubic through E and E' at four points within 4·10⁻⁴ Å of it.

    Args:
        probe: The potential in float64.
        crossing: The path.
    """
    cutoff = probe.potential.cutoff
    offsets = np.arange(1, 5)
    value, derivative = _extrapolation(offsets)
    limits = []
    for side in (-STEP, STEP):
        energy, slope = _along(probe, crossing, cutoff + side * offsets)
        limits.append((value @ energy, value @ slope, derivative @ slope / side))
    inside, outside = limits
    energy_jump, slope_jump, curvature_jump = np.abs(np.subtract(outside, inside)).tolist()
    return energy_jump, slope_jump, curvature_jump


def _extrapolation(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights that give value and derivative at 0 of the polynomial through the offsets."""
    inverse = np.linalg.inv(np.vander(offsets, increasing=True).astype(float))
    return inverse[0], inverse[1]


def scan_crossing(probe: Probe, crossing: Crossing) -> Curve:
    """E(r), E'(r) from the forces and E''(r) from their central differences.

    Args:
        probe: The potential in float64.
        crossing: The path.
    """
    cutoff = probe.potential.cutoff
    grid = cutoff + np.linspace(-SCAN_HALF_WIDTH, SCAN_HALF_WIDTH, SCAN_POINTS)
    energy, slope = _along(probe, crossing, grid)
    _, ahead = _along(probe, crossing, grid + STEP)
    _, behind = _along(probe, crossing, grid - STEP)
    return Curve(
        text=crossing.text,
        distance=grid.tolist(),
        energy=(energy - energy[-1]).tolist(),
        slope=slope.tolist(),
        curvature=((ahead - behind) / (2 * STEP)).tolist(),
    )


def _along(probe: Probe, crossing: Crossing, distances: np.ndarray) -> tuple[np.ndarray, ...]:
    """Energy and slope at each distance."""
    structures = [crossing.at(float(r)) for r in distances]
    results = probe(structures, ("energy", "forces"))
    energy = torch.stack([r["energy"] for r in results])
    force = torch.stack([r["forces"][crossing.atom] for r in results])
    return energy.numpy(), -(force @ crossing.direction).numpy()
