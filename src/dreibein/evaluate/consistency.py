"""Measured: forces and stress are the derivatives of the energy, by central differences."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.evaluate.probes import Probe, has_stress, moved, strained
from dreibein.systems.cells import from_voigt, to_voigt, volume

FORCE_STEP = 1e-3  # Å
STRAIN_STEP = 2e-4
# Five-point rule: f' = (f(−2h) − 8 f(−h) + 8 f(h) − f(2h)) / 12h, error of order h⁴.
STENCIL = ((-2.0, 1.0 / 12.0), (-1.0, -8.0 / 12.0), (1.0, 8.0 / 12.0), (2.0, -1.0 / 12.0))
MAX_COMPONENTS = 12  # force components per frame
ATOM_BUDGET = 10_000  # atoms evaluated per frame, which bounds the components of large frames


def force_error(probe: Probe, structures: Sequence[Data], *, seed: int = 0) -> float:
    """Largest |F − (−dE/dx)| in eV/Å over randomly chosen components of each frame.

    Args:
        probe: The potential in float64.
        structures: Real frames.
        seed: Of the choice of components.
    """
    generator = torch.Generator().manual_seed(seed)
    worst = 0.0
    for structure in structures:
        atoms = len(structure.z)
        count = min(MAX_COMPONENTS, 3 * atoms, max(3, ATOM_BUDGET // (len(STENCIL) * atoms)))
        chosen = torch.randperm(3 * atoms, generator=generator)[:count].tolist()
        copies = []
        for component in chosen:
            direction = torch.zeros(3, dtype=torch.float64)
            direction[component % 3] = FORCE_STEP
            copies += [moved(structure, component // 3, k * direction) for k, _ in STENCIL]
        slopes = _slopes(probe, copies, FORCE_STEP)
        forces = probe([structure], ("forces",))[0]["forces"].reshape(-1)
        worst = max(worst, float((forces[chosen] + slopes).abs().max()))
    return worst


def stress_error(probe: Probe, structures: Sequence[Data]) -> float | None:
    """Largest |stress − dE/dε / V| in eV/Å³ over the six strains of each periodic frame.

    None when no frame is periodic in all three directions.
    """
    worst: float | None = None
    for structure in structures:
        if not has_stress(structure):
            continue
        units = from_voigt(torch.eye(6, dtype=torch.float64))  # shear entries twice: xy and yx
        copies = [strained(structure, k * STRAIN_STEP * unit) for unit in units for k, _ in STENCIL]
        slopes = _slopes(probe, copies, STRAIN_STEP)
        slopes[3:] *= 0.5
        stress = probe([structure], ("stress",))[0]["stress"]
        error = float((to_voigt(stress) - slopes / volume(structure.cell[0])).abs().max())
        worst = max(worst or 0.0, error)
    return worst


def _slopes(probe: Probe, copies: Sequence[Data], step: float) -> Tensor:
    """Derivative of the energy for each group of `STENCIL` copies."""
    energies = probe.energies(copies).reshape(-1, len(STENCIL))
    energies = energies - energies[:, :1]  # the stencil sums to zero: spares 4 digits
    weights = torch.tensor([w for _, w in STENCIL], dtype=torch.float64)
    return energies @ weights / step
