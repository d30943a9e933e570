"""Screened repulsion of nuclei at short distances (Ziegler, Biersack, Littmark)."""

from collections.abc import Sequence
from typing import Literal

import torch
from ase import units
from ase.data import covalent_radii
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from dreibein.nn.terms.term import COULOMB, Surroundings, SwitchName, Term, switch

# length in Å, power of Z, factors, rates
SCREENINGS: dict[str, tuple[float, float, tuple[float, ...], tuple[float, ...]]] = {
    "universal": (
        0.88534 * units.Bohr,
        0.23,
        (0.18175, 0.50986, 0.28022, 0.02817),
        (3.1998, 0.94229, 0.4029, 0.20162),
    ),
    "rounded": (
        0.8854 * 0.529177210903,
        0.23,
        (0.1818, 0.5099, 0.2802, 0.02817),
        (3.2, 0.9423, 0.4029, 0.2016),
    ),
    "soft": (
        0.4543 / 1.8897261258369282,
        0.3,
        (0.1818, 0.5099, 0.2802, 0.02817),
        (3.2, 0.9423, 0.4029, 0.2016),
    ),
}


class ZBLConfig(BaseModel):
    """Options of the ZBL repulsion."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    term: Literal["zbl"] = "zbl"
    cutoff: float | Literal["covalent"] = Field(
        "covalent",
        description="where it ends, in Å; 'covalent': at the sum of both covalent radii, so that "
        "bonds at rest are hardly touched",
    )
    inner: float = Field(
        0.0, ge=0, lt=1, description="part of the cutoff up to which it is not switched off at all"
    )
    switch: SwitchName = Field("polynomial", description="how it goes to zero at the cutoff")
    screening: Literal["universal", "rounded", "soft"] = Field(
        "universal",
        description="'universal': ZBL 1985; 'rounded': the same, four digits (torchmd-net's "
        "prior); 'soft': length 0.4543 a0 / (Z_i^0.3 + Z_j^0.3) (MACE, TensorNet2)",
    )
    strength: float = Field(1.0, gt=0, description="factor of the whole term")


class ZBL(Term):
    """E = sum_{i<j} k Z_i Z_j / r · phi(r / a_ij) · switch(r / c_ij), k = e^2 / (4 pi eps0).

    phi(x) = sum_k f_k exp(-b_k x), a_ij = l / (Z_i^p + Z_j^p) with l = 0.88534 a0 and p = 0.23:
    the universal screening function of J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping
    and Range of Ions in Solids (Pergamon, 1985), with digits as in LAMMPS's pair_style zbl.

    Args:
        config: Options.
        elements: Atomic numbers that occur.

    >>> from dreibein.nn.terms import ZBL, ZBLConfig
    >>> ZBL(ZBLConfig(), (1, 6)).cutoff
    1.52
    """

    hops = 1
    lengths: Tensor
    reach: Tensor

    def __init__(self, config: ZBLConfig, elements: Sequence[int]) -> None:
        super().__init__(elements)
        self.config = config
        length, power, self.factors, self.rates = SCREENINGS[config.screening]
        powers = torch.tensor(self.elements, dtype=torch.float64) ** power
        self.table("lengths", length / (powers.unsqueeze(1) + powers))
        if config.cutoff == "covalent":
            radii = torch.tensor([covalent_radii[z] for z in self.elements], dtype=torch.float64)
            self.table("reach", radii.unsqueeze(1) + radii)
        else:
            self.table(
                "reach", torch.full((len(self.elements),) * 2, float(config.cutoff)).double()
            )

    @property
    def cutoff(self) -> float:  # type: ignore[override]
        """Range of the neighbor list in Å."""
        return round(float(self.reach.max()), 6)

    def describe(self) -> str:
        """Name and what matters of it, in a few words."""
        return f"zbl ({self.config.screening} screening, to {self.cutoff:g} Å)"

    def forward(self, around: Surroundings) -> Tensor:
        """Energy of each atom [N] in eV, float64."""
        sender, receiver, r = around.within(self.cutoff)
        rows = self.rows(around.z)
        j, i = rows.index_select(0, sender), rows.index_select(0, receiver)
        x = r / self.lengths[i, j]
        screening = sum(f * torch.exp(-b * x) for f, b in zip(self.factors, self.rates))
        z = around.z.double()
        product = z.index_select(0, sender) * z.index_select(0, receiver)
        inner = self.config.inner
        t = (r / self.reach[i, j] - inner) / (1.0 - inner)
        pairs = product / r * screening * switch(t, self.config.switch)
        return self.config.strength * COULOMB * around.to_atoms(pairs, receiver)
