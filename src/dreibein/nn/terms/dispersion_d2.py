"""Grimme's dispersion of 2006 (D2): one coefficient and one radius for each element."""

from collections.abc import Sequence
from typing import Literal

import torch
from ase import units
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from dreibein.nn.terms.term import Surroundings, SwitchName, Term, switch

C6_UNIT = units.J / units.mol * units.nm**6
"""J nm^6 / mol in eV Å^6."""

# C6 in J nm^6 / mol and van der Waals radius in Å of H ... Xe: S. Grimme, J. Comput. Chem. 27,
# 1787 (2006), table 1
_TABLE = (
    (0.14, 1.001), (0.08, 1.012), (1.61, 0.825), (1.61, 1.408), (3.13, 1.485), (1.75, 1.452),
    (1.23, 1.397), (0.70, 1.342), (0.75, 1.287), (0.63, 1.243), (5.71, 1.144), (5.71, 1.364),
    (10.79, 1.639), (9.23, 1.716), (7.84, 1.705), (5.57, 1.683), (5.07, 1.639), (4.61, 1.595),
    (10.8, 1.485), (10.8, 1.474), *(((10.8, 1.562),) * 10), (16.99, 1.650), (17.10, 1.727),
    (16.37, 1.760), (12.64, 1.771), (12.47, 1.749), (12.01, 1.727), (24.67, 1.628),
    (24.67, 1.606), *(((24.67, 1.639),) * 10), (37.32, 1.672), (38.71, 1.804), (38.44, 1.881),
    (31.74, 1.892), (31.50, 1.892), (29.99, 1.881),
)  # fmt: skip


class DispersionD2Config(BaseModel):
    """Options of D2."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    term: Literal["dispersion_d2"] = "dispersion_d2"
    s6: float = Field(
        0.75, gt=0, description="factor of the functional: PBE 0.75, B3LYP 1.05, BLYP 1.2"
    )
    steepness: float = Field(20.0, gt=0, description="d of the damping function")
    cutoff: float = Field(12.0, gt=0, description="where it ends, in Å")
    inner: float = Field(
        0.8, ge=0, lt=1, description="part of the cutoff up to which it is not switched off at all"
    )
    switch: SwitchName = Field("smooth", description="how it goes to zero between these")


class DispersionD2(Term):
    """E = -s6 sum_{i<j} sqrt(C_i C_j) / r^6 / (1 + exp(-d (r / (R_i + R_j) - 1))).

    S. Grimme, J. Comput. Chem. 27, 1787 (2006), doi 10.1002/jcc.20495.

    Args:
        config: Options.
        elements: Atomic numbers that occur, H to Xe.

    Raises:
        ValueError: An element without a coefficient.
    """

    hops = 1
    coefficients: Tensor
    radii: Tensor

    def __init__(self, config: DispersionD2Config, elements: Sequence[int]) -> None:
        super().__init__(elements)
        beyond = [z for z in self.elements if not 0 < z <= len(_TABLE)]
        if beyond:
            raise ValueError(
                f"the term dispersion_d2 has no coefficient of {chemical_symbols[beyond[0]]}: "
                "it knows H to Xe; use dispersion_d3"
            )
        self.config = config
        self.cutoff = config.cutoff
        self.table("coefficients", [_TABLE[z - 1][0] for z in self.elements])
        self.table("radii", [_TABLE[z - 1][1] for z in self.elements])

    def describe(self) -> str:
        """Name and what matters of it, in a few words."""
        return f"dispersion_d2 (s6 {self.config.s6:g}, to {self.cutoff:g} Å)"

    def forward(self, around: Surroundings) -> Tensor:
        """Energy of each atom [N] in eV, float64."""
        config = self.config
        sender, receiver, r = around.within(self.cutoff)
        rows = self.rows(around.z)
        j, i = rows.index_select(0, sender), rows.index_select(0, receiver)
        c6 = C6_UNIT * (self.coefficients[i] * self.coefficients[j]).sqrt()
        damping = torch.sigmoid(config.steepness * (r / (self.radii[i] + self.radii[j]) - 1.0))
        t = (r / self.cutoff - config.inner) / (1.0 - config.inner)
        pairs = c6 / r**6 * damping * switch(t, config.switch)
        return -config.s6 * around.to_atoms(pairs, receiver)
