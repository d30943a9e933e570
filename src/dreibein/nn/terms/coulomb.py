"""Electrostatic energy of charges on atoms: direct, with a reaction field, or by Ewald's sum."""

import math
from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from dreibein.nn.terms.term import COULOMB, Surroundings, Term, by_symbol
from dreibein.ops.ewald import reciprocal_potential, wave_numbers

DEFAULT_RANGE = {"direct": 0.0, "reaction_field": 10.0, "ewald": 8.0, "pme": 6.0}


class CoulombConfig(BaseModel):
    """Options of the electrostatic energy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    term: Literal["coulomb"] = "coulomb"
    charges: Literal["network", "structure"] | dict[str, float] = Field(
        "network",
        description="'network': predicted (TensorNet with charge_channels); 'structure': the "
        "structures carry `charges`; or one charge for each element, in e",
    )
    method: Literal["direct", "reaction_field", "ewald", "pme"] = Field(
        "direct",
        description="'direct': all pairs, not periodic; 'reaction_field': pairs within the cutoff, "
        "a dielectric beyond; 'ewald': exact, periodic in three directions; 'pme': on a mesh",
    )
    cutoff: float | None = Field(
        None,
        gt=0,
        description="range of the pairs in Å: 10 of reaction_field, 8 of ewald, 6 of pme; direct "
        "has none",
    )
    permittivity: float = Field(
        math.inf, gt=1, description="relative one of the dielectric beyond (reaction_field)"
    )
    accuracy: float = Field(
        1e-10, gt=0, lt=1, description="of ewald: what both sums leave out, relative"
    )
    damping: float | None = Field(
        None,
        gt=0,
        description="below this distance in Å the energy of a pair is taken back, smoothly to 0 at "
        "r = 0: factor 1 - e exp(-1 / (1 - (r / damping)^2)) (AIMNet2, TensorNet2: 4.6)",
    )
    fade: tuple[float, float] | None = Field(
        None,
        description="no interaction below the first distance in Å, the full one above the second, "
        "(1 - cos) / 2 between (torchmd-net's prior)",
    )
    weights: tuple[float, ...] | None = Field(
        None,
        description="of the sets of charges that the network predicts, one for each of its layers "
        "(embedding first) or for each set; the energy is the weighted mean",
    )
    strength: float = Field(1.0, gt=0, description="factor of the whole term")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.method == "direct" and self.cutoff is not None:
            raise ValueError("the method 'direct' has no cutoff: leave it out")
        if self.weights is not None and self.charges != "network":
            raise ValueError("weights are of charges that the network predicts")
        if self.fade is not None and not 0.0 <= self.fade[0] < self.fade[1]:
            raise ValueError(f"fade is {self.fade}: give two increasing distances")
        shortest = max(self.damping or 0.0, self.fade[1] if self.fade else 0.0)
        if self.method in ("ewald", "pme") and shortest > self.range:
            raise ValueError(
                f"damping and fade must end within the cutoff of {self.method}, {self.range:g} Å"
            )
        return self

    @property
    def range(self) -> float:
        """Range of pairs in Å, 0 for all pairs."""
        return DEFAULT_RANGE[self.method] if self.cutoff is None else self.cutoff


class Coulomb(Term):
    """E = k sum_{i<j} q_i q_j f(r) v(r), k = e^2 / (4 pi eps0) = 14.3996 eV Å.

    direct: v = 1 / r. reaction_field: v = 1 / r + a r^2 - b within the cutoff c, a = (p - 1) /
    ((2p + 1) c^3), b = 3p / ((2p + 1) c) for permittivity p (Tironi et al., J. Chem. Phys. 102,
    5451 (1995), as in OpenMM). ewald: v = 1 / r, all periodic images (`dreibein.ops.ewald`); f then
    acts on the nearest pairs. With several sets of charges their weighted mean.

    Args:
        config: Options.
        elements: Atomic numbers that occur.
    """

    def __init__(self, config: CoulombConfig, elements: Sequence[int]) -> None:
        super().__init__(elements)
        self.config = config
        self.cutoff = config.range
        self.needs_charges = config.charges == "network"
        pairs = config.method == "reaction_field" and not self.needs_charges
        self.hops = 1 if pairs else None
        if isinstance(config.charges, dict):
            found = by_symbol(config.charges, self.elements, "coulomb: charges")
            self.table("element_charges", found)
        # erfc(s) and exp(-s^2) fall below the accuracy together
        self.spread = math.sqrt(-math.log(config.accuracy))
        self.width = self.spread / config.range if config.range else 0.0

    def describe(self) -> str:
        """Name and what matters of it, in a few words."""
        config = self.config
        whose = "by element" if isinstance(config.charges, dict) else f"of the {config.charges}"
        reach = f", to {self.cutoff:g} Å" if self.cutoff else ""
        return f"coulomb (charges {whose}, {config.method}{reach})"

    def forward(self, around: Surroundings) -> Tensor:
        """Energy of each atom [N] in eV, float64."""
        charges = self.charges(around)
        if self.config.method in ("ewald", "pme"):
            energies = self._periodic(around, charges)
        else:
            energies = self._pairs(around, charges)
        if energies.shape[1] == 1:
            total = energies.squeeze(1)
        else:
            weights = self._weights(energies)
            total = energies @ weights / weights.sum()
        return self.config.strength * COULOMB * total

    def charges(self, around: Surroundings) -> Tensor:
        """Charges of atoms [N, K] in e.

        Raises:
            ValueError: Structures without charges.
        """
        source = self.config.charges
        if isinstance(source, dict):
            table: Any = self.element_charges
            return table.index_select(0, self.rows(around.z)).unsqueeze(-1)
        found = around.network_charges if source == "network" else around.given_charges
        if found is None:
            what = (
                "the network predicts none (set charge_channels)"
                if source == "network"
                else "the structures carry none: set structure.charges [N] in e"
            )
            raise ValueError(f"the term coulomb needs charges of atoms, but {what}")
        return found.unsqueeze(-1) if found.ndim == 1 else found

    def _weights(self, energies: Tensor) -> Tensor:
        """One weight for each set of charges [K]."""
        sets, given = energies.shape[1], self.config.weights
        if given is None:
            return energies.new_ones(sets)
        if sets % len(given):
            raise ValueError(
                f"the term coulomb has {len(given)} weights, which do not divide the {sets} sets "
                "of charges of the network (layers + 1, times charge_channels)"
            )
        return energies.new_tensor(given).repeat_interleave(sets // len(given))

    def _pairs(self, around: Surroundings, charges: Tensor) -> Tensor:
        """Sums over pairs of one structure, all of them or those within the cutoff [N, K]."""
        if self.cutoff:
            sender, receiver, r = around.within(self.cutoff)
        else:
            sender, receiver, r = _all_pairs(around)
        kernel = 1.0 / r
        if self.config.method == "reaction_field":
            p, c = self.config.permittivity, self.cutoff
            part = 0.5 if math.isinf(p) else (p - 1.0) / (2.0 * p + 1.0)
            rest = 1.5 if math.isinf(p) else 3.0 * p / (2.0 * p + 1.0)
            kernel = kernel + (part / c**3) * r * r - rest / c
        return _sum(around, charges, sender, receiver, self.factor(r) * kernel)

    def factor(self, r: Tensor) -> Tensor:
        """What the energy of a pair at these distances is multiplied by: f(r) of damping, fade."""
        value = torch.ones_like(r)
        if self.config.damping is not None:
            t = (r / self.config.damping).clamp(max=1.0 - 1e-6)
            value = 1.0 - torch.exp(1.0 - 1.0 / (1.0 - t * t))
        if self.config.fade is not None:
            low, high = self.config.fade
            t = ((r - low) / (high - low)).clamp(0.0, 1.0)
            value = value * (0.5 - 0.5 * torch.cos(math.pi * t))
        return value

    def _periodic(self, around: Surroundings, charges: Tensor) -> Tensor:
        """Ewald's sums of each structure [N, K]."""
        if not bool(around.pbc.all()):
            raise ValueError(
                f"the method '{self.config.method}' of the term coulomb is for structures periodic "
                "in three directions; use 'direct' for molecules"
            )
        sender, receiver, r = around.within(self.cutoff)
        near = torch.special.erfc(self.width * r) - 1.0 + self.factor(r)
        energies = _sum(around, charges, sender, receiver, near / r)
        far = []
        for number in range(around.num_structures):
            atoms = (around.batch == number).nonzero().squeeze(-1)
            chosen = charges.index_select(0, atoms), around.pos.index_select(0, atoms)
            potential = self._reciprocal(*chosen, around.cell[number])
            far.append((atoms, 0.5 * chosen[0] * potential))
        for atoms, values in far:
            energies = energies.index_add(0, atoms, values)
        return energies

    def _reciprocal(self, charges: Tensor, pos: Tensor, cell: Tensor) -> Tensor:
        """Potential of the smooth part of one structure [N, K] in e / Å."""
        if self.config.method == "pme":
            from dreibein.nn.terms.mesh import mesh_potential

            return mesh_potential(charges, pos, cell, self.width)
        numbers = wave_numbers(cell, 2.0 * self.width * self.spread)
        return reciprocal_potential(charges, pos, cell, numbers, self.width)


def _sum(
    around: Surroundings, charges: Tensor, sender: Tensor, receiver: Tensor, kernel: Tensor
) -> Tensor:
    """1/2 sum_j q_i q_j v_ij [N, K] over pairs in both directions."""
    heard = kernel.unsqueeze(-1) * charges.index_select(0, sender)
    return charges * around.to_atoms(heard, receiver)


def _all_pairs(around: Surroundings) -> tuple[Tensor, Tensor, Tensor]:
    """Sender, receiver and distance of every pair of different atoms of a structure.

    Raises:
        ValueError: A periodic structure.
    """
    if bool(around.pbc.any()):
        raise ValueError(
            "the method 'direct' of the term coulomb sums over all pairs, which a periodic "
            "structure has no end of: use 'ewald', 'pme' or 'reaction_field'"
        )
    same = around.batch.unsqueeze(0) == around.batch.unsqueeze(1)
    same.fill_diagonal_(False)
    receiver, sender = same.nonzero().T
    offsets = around.pos.index_select(0, sender) - around.pos.index_select(0, receiver)
    return sender, receiver, torch.linalg.vector_norm(offsets, dim=-1)
