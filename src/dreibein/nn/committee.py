"""Several potentials as one: their mean, and how much they disagree."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from dreibein.nn.frozen import FrozenPotential
from dreibein.nn.potential import Potential
from dreibein.nn.uncertainty import ENERGY_UNCERTAINTY, FORCES_UNCERTAINTY, UNCERTAINTIES
from dreibein.systems.fields import FIELDS

FORCES_SPREAD = "forces_spread"
"""Output of a committee [N] in eV/Å: sqrt(mean_m |F_m - mean F|^2) of each atom."""
ENERGY_SPREAD = "energy_spread"
"""Output of a committee [B] in eV: sqrt(mean_m (E_m - mean E)^2)."""
SPREADS = {"energy": ENERGY_SPREAD, "forces": FORCES_SPREAD}
CALIBRATED = {"energy": ENERGY_UNCERTAINTY, "forces": FORCES_UNCERTAINTY}


def spread_name(name: str) -> str:
    """Output of a committee that says how much its members disagree on a target.

    >>> spread_name("dipole")
    'dipole_spread'
    """
    return f"{name}_spread"


class Committee(Potential):
    """E = mean_m E_m and everything that derives from it, of potentials trained alike.

    Beside the outputs of its members it knows "forces_spread" [N] in eV/Å, the standard deviation
    of each atom's force, "energy_spread" [B] in eV, and of each target as "dipole_spread"
    sqrt(mean_m |T_m - mean T|^2) [rows]; and, once calibrated, those of energy and forces times a
    factor as "energy_uncertainty" and "forces_uncertainty".

    Args:
        members: At least two, of the same elements and cutoff.

    Raises:
        ValueError: Fewer, or members that differ in elements or cutoff.

    Attributes:
        factors: What the spread of "energy" and "forces" is multiplied by, where that is known.
    """

    members: Any  # a ModuleList of `Potential`

    def __init__(self, members: Sequence[Potential]) -> None:
        if len(members) < 2:
            raise ValueError(f"a committee has at least 2 members, not {len(members)}")
        first = members[0]
        for k, member in enumerate(members):
            for name in ("elements", "cutoff", "heads"):
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
            card={k: v for k, v in first.card.items() if k != "uncertainty"},
            terms=first.terms,
            targets=dict(first.targets.items()),
        )
        self.members = nn.ModuleList(members)
        self.factors: dict[str, float] = {}
        self.eval()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Those of its members, spreads, and uncertainties where they are calibrated."""
        own = [name for name in super().outputs if name not in UNCERTAINTIES]
        return (*own, *self.spreads.values(), *self.uncertainties.values())

    @property
    def spreads(self) -> dict[str, str]:
        """What its members may disagree on -> output."""
        energies = SPREADS if self.has_energy else {}
        return {**energies, **{name: spread_name(name) for name in self.targets}}

    @property
    def uncertainties(self) -> dict[str, str]:
        """What is given with its standard deviation: label -> output."""
        return {name: CALIBRATED[name] for name in self.factors}

    def forward(
        self, structures: Data, compute: Iterable[str] = ("energy", "forces")
    ) -> dict[str, Tensor]:
        """Means over the members, detached.

        Args:
            structures: As for a single potential.
            compute: What its members know, or of spreads and uncertainties.
        """
        members = [member.eval() for member in self.members]
        return _together(members, structures, tuple(compute), self)


class FrozenCommittee(FrozenPotential):
    """A committee at its present weights, each member evaluated by its fastest way.

    Args:
        potential: The committee.
        backend: As for `FrozenPotential`.
        memory: As for `FrozenPotential`; members are evaluated one after the other.
    """

    def __init__(
        self, potential: Committee, backend: str = "auto", *, memory: float | None = None
    ) -> None:
        self.members = [
            FrozenPotential(member, backend, memory=memory) for member in potential.members
        ]
        self.memory = memory
        self._committee = potential
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
        return _together(self.members, structures, tuple(compute), self._committee)


def freeze(
    potential: Potential, backend: str = "auto", *, memory: float | None = None
) -> FrozenPotential:
    """A potential or a committee at its present weights.

    Args:
        potential: Set to evaluation mode.
        backend: "auto" or one of `dreibein.nn.BACKENDS`.
        memory: Bytes that an evaluation may take, see `FrozenPotential`; None for no limit.
    """
    if isinstance(potential, Committee):
        return FrozenCommittee(potential, backend, memory=memory)
    return FrozenPotential(potential, backend, memory=memory)


def _together(
    members: Sequence[Potential | FrozenPotential],
    structures: Data,
    compute: tuple[str, ...],
    committee: Committee,
) -> dict[str, Tensor]:
    """Means of what is computed, standard deviations, and these times their factors."""
    spreads, factors = committee.spreads, committee.factors
    beside = {*spreads.values(), *CALIBRATED.values()}
    spread = [n for n in spreads if spreads[n] in compute or CALIBRATED.get(n) in compute]
    plain = list(dict.fromkeys([*(name for name in compute if name not in beside), *spread]))
    found = [member(structures, compute=plain) for member in members]
    results = {name: torch.stack([f[name] for f in found]).mean(0) for name in found[0]}
    for name in spread:
        square = (torch.stack([f[name] for f in found]) - results[name]).square()
        for _ in range(_components(name, committee)):
            square = square.sum(-1)
        results[spreads[name]] = square.mean(0).sqrt()
        if CALIBRATED.get(name) in compute:
            if name not in factors:
                raise ValueError(
                    f"this ensemble's spread of the {name} is not calibrated: run dreibein "
                    "calibrate on its folder"
                )
            results[CALIBRATED[name]] = factors[name] * results[spreads[name]]
    return {name: value for name, value in results.items() if name in compute}


def _components(name: str, committee: Committee) -> int:
    """Axes of one value: 1 of a vector."""
    if name in SPREADS:
        return len(FIELDS[name].shape)
    return len(committee.targets[name].target.shape)
