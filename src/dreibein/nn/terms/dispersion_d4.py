"""Grimme's dispersion D4 of molecules and crystals, evaluated by its own library, dftd4."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from ase import units
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from dreibein.nn.terms.term import Surroundings, Term

DAMPING = ("s6", "s8", "a1", "a2")
STEP = 1e-4  # Å, of the largest coordinate in differences for second derivatives
MISSING = 'the term dispersion_d4 is evaluated by the package dftd4: pip install "dreibein[d4]"'

Array = np.ndarray[Any, Any]
Slopes = Callable[[Array, Array], tuple[float, Array, Array]]
"""Energy, its gradient by positions and by cell vectors, from both; eV and Å."""


class DispersionD4Config(BaseModel):
    """Options of D4(BJ-EEQ-ATM)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    term: Literal["dispersion_d4"] = "dispersion_d4"
    functional: str | None = Field(
        None, description="whose parameters are taken, such as pbe, b3lyp or wb97m"
    )
    damping: dict[Literal["s6", "s8", "a1", "a2"], float] | None = Field(
        None, description="the parameters themselves (a2 in Bohr), instead of a functional"
    )
    three_body: float = Field(
        1.0, ge=0, description="s9, the factor of the three-body energy; 0 leaves it out"
    )


class DispersionD4(Term):
    """E = -sum_{i<j} sum_{n = 6, 8} s_n C_n / (r^n + (a1 sqrt(C8 / C6) + a2)^n) + s9 E_ATM.

    C6 come from reference polarizabilities, interpolated by numbers of neighbors and by partial
    charges of electronegativity equilibration, which add up to the total charge. E. Caldeweyher
    et al., J. Chem. Phys. 150, 154122 (2019); crystals: Phys. Chem. Chem. Phys. 22, 8499 (2020).
    Energies and gradients are those of the library, on the CPU; the atoms of a structure share its
    energy alike. Parameters are kept with the model; the package is needed to evaluate it.

    Args:
        config: Options.
        elements: Atomic numbers that occur.
    """

    damping: Tensor

    def __init__(self, config: DispersionD4Config, elements: Sequence[int]) -> None:
        super().__init__(elements)
        if (config.functional is None) == (config.damping is None):
            raise ValueError("the term dispersion_d4 needs either a functional or its damping")
        if config.damping is not None and set(config.damping) != set(DAMPING):
            raise ValueError(f"damping of dispersion_d4 needs {', '.join(DAMPING)}")
        self.config = config
        try:
            damping = _damping(config)
        except ImportError:  # a stored model brings its own
            damping = [torch.nan] * len(DAMPING)
        self.table("damping", damping)

    def describe(self) -> str:
        """Name and what matters of it, in a few words."""
        whose = self.config.functional or "given damping"
        body = ", with three-body energy" if self.config.three_body else ""
        return f"dispersion_d4 ({whose}, BJ{body})"

    def forward(self, around: Surroundings) -> Tensor:
        """Energy of each atom [N] in eV, float64.

        Raises:
            ImportError: dftd4 is not installed, or was not when the model was made.
        """
        if self.damping.isnan().any():
            raise ImportError(MISSING)
        values = dict(zip(DAMPING, self.damping.tolist(), strict=True))
        library = _library(values | {"s9": self.config.three_body})
        sizes = torch.bincount(around.batch, minlength=around.num_structures).tolist()
        atoms = zip(around.z.split(sizes), around.pos.split(sizes), strict=True)
        found = []
        for k, (z, pos) in enumerate(atoms):
            slopes = library(z, around.pbc[k], float(around.total_charge[k]))
            energy: Tensor = _Energy.apply(pos.double(), around.cell[k].double(), slopes)
            found.append((energy / len(z)).expand(len(z)))
        return torch.cat(found)


class _Energy(torch.autograd.Function):
    """E(x, h) of positions x and cell vectors h, with the library's gradient."""

    @staticmethod
    def forward(ctx: Any, pos: Tensor, cell: Tensor, slopes: Slopes) -> Tensor:
        ctx.slopes = slopes
        ctx.save_for_backward(pos, cell)
        return pos.new_tensor(slopes(*_arrays(pos, cell))[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        by_pos, by_cell = _Gradient.apply(*ctx.saved_tensors, ctx.slopes)
        return gradient * by_pos, gradient * by_cell, None


class _Gradient(torch.autograd.Function):
    """dE/dx and dE/dh; their slopes along (v, w) are central differences of both along it."""

    @staticmethod
    def forward(ctx: Any, pos: Tensor, cell: Tensor, slopes: Slopes) -> tuple[Tensor, Tensor]:
        ctx.slopes = slopes
        ctx.save_for_backward(pos, cell)
        _, by_pos, by_cell = slopes(*_arrays(pos, cell))
        return pos.new_tensor(by_pos), cell.new_tensor(by_cell)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor, None]:
        pos, cell = ctx.saved_tensors
        largest = float(torch.maximum(v.abs().max(), w.abs().max()))
        if largest == 0.0:
            return torch.zeros_like(pos), torch.zeros_like(cell), None
        step = STEP / largest
        up = ctx.slopes(*_arrays(pos + step * v, cell + step * w))
        down = ctx.slopes(*_arrays(pos - step * v, cell - step * w))
        found = [(a - b) / (2.0 * step) for a, b in zip(up[1:], down[1:], strict=True)]
        return pos.new_tensor(found[0]), cell.new_tensor(found[1]), None


def _arrays(*tensors: Tensor) -> tuple[Array, ...]:
    return tuple(tensor.detach().cpu().numpy() for tensor in tensors)


def _library(damping: dict[str, float]) -> Callable[[Tensor, Tensor, float], Slopes]:
    """What makes the energy and its slopes of one structure.

    Raises:
        ImportError: dftd4 is not installed.
    """
    try:
        from dftd4.interface import DampingParam, DispersionModel
    except ImportError as error:
        raise ImportError(MISSING) from error
    parameters = DampingParam(**damping)

    def of_structure(z: Tensor, pbc: Tensor, charge: float) -> Slopes:
        numbers, periodic = z.cpu().numpy(), pbc.reshape(3).cpu().numpy()

        def slopes(pos: Array, cell: Array) -> tuple[float, Array, Array]:
            lattice = {"lattice": cell / units.Bohr, "periodic": periodic}
            model = DispersionModel(
                numbers, pos / units.Bohr, charge, **(lattice if periodic.any() else {})
            )
            found = model.get_dispersion(parameters, grad=True)
            by_pos = found["gradient"] * (units.Hartree / units.Bohr)
            by_cell = np.zeros((3, 3))
            if periodic.any():  # dE/dstrain = sum_i x_i g_i^T + h^T dE/dh
                strain = found["virial"] * units.Hartree - pos.T @ by_pos
                by_cell = np.linalg.solve(cell.T, strain)
            return float(found["energy"]) * units.Hartree, by_pos, by_cell

        return slopes

    return of_structure


def _damping(config: DispersionD4Config) -> list[float]:
    """s6, s8, a1 and a2.

    Raises:
        ImportError: dftd4 is not installed, and a functional is asked for.
        ValueError: A functional that it does not know.
    """
    if config.damping is not None:
        return [config.damping[name] for name in DAMPING]  # type: ignore[index]
    try:
        from dftd4.parameters import get_damping_param
    except ImportError as error:
        raise ImportError(MISSING) from error
    try:
        found = get_damping_param(str(config.functional))
    except KeyError as error:
        raise ValueError(
            f"dispersion_d4 has no parameters of the functional '{config.functional}': "
            "give its damping as {s6: ..., s8: ..., a1: ..., a2: ...}"
        ) from error
    return [float(found[name]) for name in DAMPING]
