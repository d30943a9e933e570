"""Several potentials as one: their mean, and how much they disagree."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from dreibein.nn.frozen import FrozenPotential
from dreibein.nn.potential import Potential

FORCES_SPREAD = "forces_spread"
"""Output of a committee [N] in eV/Å: sqrt(mean_m |F_m - mean F|^2) of each atom."""


class Committee(Potential):
    """E = mean_m E_m and everything that derives from it, of potentials trained alike.

    Beside the outputs of its members it knows "forces_spread" [N] in eV/Å, the standard deviation
    of each atom's force.

    Args:
        members: At least two, of the same elements and cutoff.

    Raises:
        ValueError: Fewer, or members that differ in elements or cutoff.
    """

    members: Any  # a ModuleList of `Potential`

    def __init__(self, members: Sequence[Potential]) -> None:
        if len(members) < 2:
            raise ValueError(f"a committee has at least 2 members, not {len(members)}")
        first = members[0]
        for k, member in enumerate(members):
            for name in ("elements", "cutoff"):
                found, expected = getattr(member, name), getattr(first, name)
                if found != expected:
                    raise ValueError(
                        f"member {k} of the committee has {name} {found} and the first {expected}"
                    )
        super().__init__(
            first.network,
            reference_energies=first.reference_energies,
            scale=float(first.scale),
            shift=float(first.shift),
            card=first.card,
            terms=first.terms,
        )
        self.members = nn.ModuleList(members)
        self.eval()

    def forward(
        self, structures: Data, compute: Iterable[str] = ("energy", "forces")
    ) -> dict[str, Tensor]:
        """Means over the members, detached.

        Args:
            structures: As for a single potential.
            compute: What its members know, or "forces_spread".
        """
        return _together([member.eval() for member in self.members], structures, tuple(compute))


class FrozenCommittee(FrozenPotential):
    """A committee at its present weights, each member evaluated by its fastest way.

    Args:
        potential: The committee.
        backend: As for `FrozenPotential`.
    """

    def __init__(self, potential: Committee, backend: str = "auto") -> None:
        self.members = [FrozenPotential(member, backend) for member in potential.members]
        self.potential: Potential = potential.eval()
        self.backend = self.members[0].backend
        self._engine = None

    def describe(self) -> str:
        """What runs and why, in one line."""
        return f"{len(self.members)} potentials, {self.members[0].describe()}"

    def __call__(
        self, structures: Data, compute: Iterable[str] = ("energy", "forces")
    ) -> dict[str, Tensor]:
        """What `Committee` returns for the same arguments."""
        return _together(self.members, structures, tuple(compute))


def freeze(potential: Potential, backend: str = "auto") -> FrozenPotential:
    """A potential or a committee at its present weights.

    Args:
        potential: Set to evaluation mode.
        backend: "auto", "reference" or "fused".
    """
    if isinstance(potential, Committee):
        return FrozenCommittee(potential, backend)
    return FrozenPotential(potential, backend)


def _together(
    members: Sequence[Potential | FrozenPotential], structures: Data, compute: tuple[str, ...]
) -> dict[str, Tensor]:
    """Means of what is computed, and the standard deviation of forces."""
    plain = [name for name in compute if name != FORCES_SPREAD]
    if FORCES_SPREAD in compute and "forces" not in plain:
        plain.append("forces")
    found = [member(structures, compute=plain) for member in members]
    results = {name: torch.stack([f[name] for f in found]).mean(0) for name in found[0]}
    if FORCES_SPREAD in compute:
        off = torch.stack([f["forces"] for f in found]) - results["forces"]
        results[FORCES_SPREAD] = off.square().sum(-1).mean(0).sqrt()
    return {name: value for name, value in results.items() if name in compute}
