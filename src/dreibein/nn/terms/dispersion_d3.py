"""Grimme's dispersion D3 with Becke-Johnson damping, over neighbor lists: periodic or not."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from ase import units
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from dreibein.nn.terms.term import Surroundings, SwitchName, Term, switch

COUNTING_STEEPNESS = 16.0
WEIGHT_STEEPNESS = 4.0
DAMPING = ("s6", "s8", "a1", "a2")


class DispersionD3Config(BaseModel):
    """Options of D3(BJ)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    term: Literal["dispersion_d3"] = "dispersion_d3"
    functional: str | None = Field(
        None, description="whose parameters are taken, such as pbe, b3lyp or wb97m"
    )
    damping: dict[Literal["s6", "s8", "a1", "a2"], float] | None = Field(
        None, description="the parameters themselves (a2 in Bohr), instead of a functional"
    )
    cutoff: float = Field(15.0, gt=0, description="where pairs end, in Å; s-dftd3 takes 31.8")
    counting_cutoff: float = Field(
        10.0, gt=0, description="where the counting of neighbors ends, in Å; s-dftd3 takes 21.2"
    )
    inner: float = Field(
        0.8, ge=0, lt=1, description="part of the cutoffs up to which nothing is switched off"
    )
    switch: SwitchName = Field("smooth", description="how it goes to zero between these")


class DispersionD3(Term):
    """E = -sum_{i<j} sum_{n = 6, 8} s_n C_n / (r^n + (a1 sqrt(C8 / C6) + a2)^n).

    C6 is interpolated between reference systems by the numbers of neighbors, which depend on
    positions, C8 = 3 C6 sqrt(Q_i Q_j). S. Grimme et al., J. Chem. Phys. 132, 154104 (2010);
    S. Grimme, S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011). Pairs only: the three-body
    term is not part of D3(BJ) as most codes apply it. The tables are those of the package tad-dftd3
    and are kept with the model, which then needs the package no more.

    Args:
        config: Options.
        elements: Atomic numbers that occur.
    """

    hops = 2  # a pair's coefficient depends on the neighbors of both
    c6: Tensor
    reference_counts: Tensor
    radii: Tensor
    moments: Tensor
    damping: Tensor

    def __init__(self, config: DispersionD3Config, elements: Sequence[int]) -> None:
        super().__init__(elements)
        if (config.functional is None) == (config.damping is None):
            raise ValueError("the term dispersion_d3 needs either a functional or its damping")
        if config.damping is not None and set(config.damping) != set(DAMPING):
            raise ValueError(f"damping of dispersion_d3 needs {', '.join(DAMPING)}")
        self.config = config
        self.cutoff = max(config.cutoff, config.counting_cutoff)
        self.problem = ""
        try:
            tables = _tables(config, self.elements)
        except ImportError as error:  # a stored model brings its own tables
            self.problem = str(error)
            n = len(self.elements)
            shapes = ((n, n, 7, 7), (n, 7), (n,), (n,), (4,))
            tables = tuple(torch.full(shape, torch.nan) for shape in shapes)
        names = ("c6", "reference_counts", "radii", "moments", "damping")
        for name, values in zip(names, tables, strict=True):
            self.table(name, values)

    def describe(self) -> str:
        """Name and what matters of it, in a few words."""
        whose = self.config.functional or "given damping"
        return f"dispersion_d3 ({whose}, BJ, pairs to {self.config.cutoff:g} Å)"

    def forward(self, around: Surroundings) -> Tensor:
        """Energy of each atom [N] in eV, float64.

        Raises:
            ImportError: tad-dftd3 is not installed, and the tables do not come from a model file.
        """
        if self.problem and bool(self.damping.isnan().any()):
            raise ImportError(self.problem)
        rows = self.rows(around.z)
        weights = self._weights(self._counts(around, rows), rows)
        sender, receiver, r = around.within(self.config.cutoff)
        j, i = rows.index_select(0, sender), rows.index_select(0, receiver)
        # first atoms once for each element of the second ones, then pair by pair
        half = torch.einsum("nuab,na->nub", self.c6[rows], weights)
        c6 = (half[receiver, j] * weights.index_select(0, sender)).sum(-1)
        ratio = 3.0 * self.moments[i] * self.moments[j]
        s6, s8, a1, a2 = self.damping.unbind()
        radius = a1 * ratio.sqrt() + a2
        d = r / units.Bohr
        pairs = s6 / (d**6 + radius**6) + s8 * ratio / (d**8 + radius**8)
        pairs = c6 * pairs * self._switched(r, self.config.cutoff)
        return -units.Hartree * around.to_atoms(pairs, receiver)

    def _switched(self, r: Tensor, cutoff: float) -> Tensor:
        inner = self.config.inner
        return switch((r / cutoff - inner) / (1.0 - inner), self.config.switch)

    def _counts(self, around: Surroundings, rows: Tensor) -> Tensor:
        """Numbers of neighbors [N]: sum_j 1 / (1 + exp(-16 (R_ij / r - 1)))."""
        cutoff = self.config.counting_cutoff
        sender, receiver, r = around.within(cutoff)
        reach = self.radii[rows[receiver]] + self.radii[rows[sender]]
        counts = torch.sigmoid(COUNTING_STEEPNESS * (reach * units.Bohr / r - 1.0))
        return 2.0 * around.to_atoms(counts * self._switched(r, cutoff), receiver)

    def _weights(self, counts: Tensor, rows: Tensor) -> Tensor:
        """Weights of the reference systems [N, 7], exp(-4 (n - n_ref)^2) divided by their sum."""
        reference = self.reference_counts[rows]
        logits = -WEIGHT_STEEPNESS * (counts.unsqueeze(-1) - reference) ** 2
        return torch.softmax(logits.masked_fill(reference < 0.0, -torch.inf), dim=-1)


def _tables(config: DispersionD3Config, elements: Sequence[int]) -> tuple[Tensor, ...]:
    """C6 references, their neighbor numbers, covalent radii, sqrt Q, damping; atomic units.

    Raises:
        ImportError: tad-dftd3 is not installed.
        ValueError: An element or a functional that it does not know.
    """
    try:
        from tad_dftd3.data import R4R2
        from tad_dftd3.param import get_functional_params
        from tad_dftd3.reference import Reference
        from tad_mctc.data.radii import COV_D3
    except ImportError as error:
        raise ImportError(
            "the term dispersion_d3 takes its tables from the package tad-dftd3: "
            'pip install "dreibein[d3]"'
        ) from error
    double: dict[str, Any] = {"dtype": torch.float64}
    reference, rows = Reference(**double), torch.tensor(elements)
    if int(rows.max()) >= len(reference.cn):
        raise ValueError(f"dispersion_d3 knows elements up to {len(reference.cn) - 1}")
    if config.damping is not None:
        damping = [config.damping[name] for name in DAMPING]  # type: ignore[index]
    else:
        try:
            found = get_functional_params(str(config.functional), damping="bj", **double)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"dispersion_d3 has no parameters of the functional '{config.functional}': "
                "give its damping as {s6: ..., s8: ..., a1: ..., a2: ...}"
            ) from error
        damping = [float(found[name]) for name in DAMPING]
    return (
        reference.c6[rows][:, rows],
        reference.cn[rows],
        COV_D3(**double)[rows],
        R4R2(**double)[rows],
        torch.tensor(damping, **double),
    )
