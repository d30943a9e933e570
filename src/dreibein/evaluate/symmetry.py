"""Measured: the energy stays and forces and stress turn along, for every symmetry of space."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.evaluate.probes import Probe, doubled, has_stress, permuted, shifted, turned

SHIFT_RANGE = 50.0  # Å, per direction
COPIES = 4  # random elements of each group, per frame
VACUUM_GAP = 2.0  # Å beyond the cutoff between the two copies of the extensivity check


@dataclass(frozen=True)
class Change:
    """A changed structure and what forces and stress must become."""

    structure: Data
    forces: Callable[[Tensor], Tensor]
    stress: Callable[[Tensor], Tensor]


def _same(x: Tensor) -> Tensor:
    return x


def random_rotation(generator: torch.Generator) -> Tensor:
    """A proper rotation [3, 3], uniform over SO(3), float64."""
    gaussian = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    q, r = torch.linalg.qr(gaussian)
    q = q * r.diagonal().sign()
    return q * torch.linalg.det(q)


def rotation(structure: Data, generator: torch.Generator) -> Change:
    """`x -> R x`, so F -> R F and stress -> R stress Rᵀ."""
    return _turn(structure, random_rotation(generator))


def reflection(structure: Data, generator: torch.Generator) -> Change:
    """`x -> Q x` with det Q = −1."""
    return _turn(structure, -random_rotation(generator))


def _turn(structure: Data, matrix: Tensor) -> Change:
    return Change(
        turned(structure, matrix), lambda f: f @ matrix.T, lambda s: matrix @ s @ matrix.T
    )


def translation(structure: Data, generator: torch.Generator) -> Change:
    """`x -> x + t`: nothing changes."""
    vector = SHIFT_RANGE * (2 * torch.rand(3, dtype=torch.float64, generator=generator) - 1)
    return Change(shifted(structure, vector), _same, _same)


def permutation(structure: Data, generator: torch.Generator) -> Change:
    """The atoms in another order: the forces follow."""
    order = torch.randperm(len(structure.z), generator=generator)
    return Change(permuted(structure, order), lambda f: f[order], _same)


SYMMETRIES: dict[str, Callable[[Data, torch.Generator], Change]] = {
    "rotation": rotation,
    "reflection": reflection,
    "translation": translation,
    "permutation": permutation,
}


def measure_symmetry(
    probe: Probe, structures: Sequence[Data], symmetry: str, *, seed: int = 0
) -> dict[str, float]:
    """Largest relative error of energy, forces and (periodic) stress under one symmetry.

    Energies are compared relative to sum_i |E_i|, forces to the largest force of the frame, stress
    to its largest entry.

    Args:
        probe: The potential in the precision to measure.
        structures: Real frames.
        symmetry: A key of `SYMMETRIES`.
        seed: Of the random elements of the group.
    """
    generator = torch.Generator().manual_seed(seed)
    worst: dict[str, float] = {}
    for structure in structures:
        compute = ("energy", "energies", "forces", "stress")[: 4 if has_stress(structure) else 3]
        changes = [SYMMETRIES[symmetry](structure, generator) for _ in range(COPIES)]
        base, *found = probe([structure, *(c.structure for c in changes)], compute)
        sizes = {"energy": float(base["energies"].abs().sum())}
        for change, result in zip(changes, found, strict=True):
            expected = {
                "energy": base["energy"],
                "forces": change.forces(base["forces"]),
                **({"stress": change.stress(base["stress"])} if "stress" in base else {}),
            }
            for name, value in expected.items():
                error = relative_error(result[name], value, sizes.get(name))
                worst[name] = max(worst.get(name, 0.0), error)
    return worst


def relative_error(value: Tensor, expected: Tensor, size: float | None = None) -> float:
    """`max |value − expected| / size`, by default of max |expected|; absolute where that is zero.

    >>> relative_error(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]))
    0.25
    """
    error = float((value - expected).abs().max())
    size = float(expected.abs().max()) if size is None else size
    return error / size if size > 0.0 else error


def measure_extensivity(probe: Probe, structures: Sequence[Data]) -> float | None:
    """Largest |E(two copies) − 2 E| / sum_i |2 E_i|; None when every frame is charged.

    A charge belongs to the whole structure, so only neutral frames can be doubled.
    """
    neutral = [s for s in structures if "charge" not in s or float(s.charge) == 0.0]
    if not neutral:
        return None
    gap = probe.potential.cutoff + VACUUM_GAP
    once = probe(neutral, ("energy", "energies"))
    twice = probe.energies([doubled(s, gap) for s in neutral])
    return max(
        relative_error(t, 2 * o["energy"], 2 * float(o["energies"].abs().sum()))
        for t, o in zip(twice, once, strict=True)
    )
