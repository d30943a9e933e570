"""The reciprocal part of an Ewald sum, for any cell, differentiable in charges, atoms and cell.

Potential at atom i of charges with Gaussians of width 1 / (sqrt(2) a) around them, in e / Å:

    phi_i = (4 pi / V) sum_{k != 0} exp(-k^2 / 4 a^2) / k^2 · Re(exp(i k x_i) conj S(k))
            - 2 a q_i / sqrt(pi) - pi Q / (V a^2),        S(k) = sum_j q_j exp(i k x_j)

with the self-interaction and a uniform background that makes the cell neutral taken off. The
surroundings of the crystal are a conductor (P. P. Ewald, Ann. Phys. 369, 253 (1921)).
"""

import math

import torch
from torch import Tensor

from dreibein.systems.cells import volume

__all__ = ["reciprocal_potential", "wave_numbers"]


def wave_numbers(cell: Tensor, largest: float) -> Tensor:
    """Integers n [K, 3], one of each pair n, -n, with |k| <= largest for k = 2 pi n · cell^-T.

    Args:
        cell: [3, 3] Å, rows.
        largest: 1 / Å.
    """
    cell = cell.detach()
    reach = (largest * cell.norm(dim=1) / (2.0 * math.pi)).floor().to(torch.int64).tolist()
    axes = [torch.arange(-m, m + 1, device=cell.device) for m in reach]
    axes[0] = axes[0][reach[0] :]
    n = torch.cartesian_prod(*axes)
    half = (n[:, 0] > 0) | ((n[:, 0] == 0) & ((n[:, 1] > 0) | ((n[:, 1] == 0) & (n[:, 2] > 0))))
    n = n[half]
    k = _vectors(n, cell)
    return n[(k * k).sum(-1) <= largest * largest]


def reciprocal_potential(
    charges: Tensor, pos: Tensor, cell: Tensor, numbers: Tensor, width: float
) -> Tensor:
    """Phi of the equation above [N, C] in e / Å.

    Args:
        charges: [N, C] e, C sets of charges side by side.
        pos: [N, 3] Å.
        cell: [3, 3] Å, rows; periodic in all three directions.
        numbers: Integers [K, 3] of `wave_numbers`.
        width: a in 1 / Å.
    """
    size = volume(cell)
    k = _vectors(numbers, cell)
    square = (k * k).sum(-1)
    # both k and -k, hence 8 pi
    weight = 8.0 * math.pi / size * torch.exp(-square / (4.0 * width * width)) / square
    phase = pos @ k.T
    cosine, sine = torch.cos(phase), torch.sin(phase)  # [N, K]
    waves = cosine @ (weight.unsqueeze(-1) * (cosine.T @ charges))
    waves = waves + sine @ (weight.unsqueeze(-1) * (sine.T @ charges))
    own = 2.0 * width / math.sqrt(math.pi) * charges
    background = math.pi / (width * width * size) * charges.sum(0)
    return waves - own - background


def _vectors(numbers: Tensor, cell: Tensor) -> Tensor:
    """K = 2 pi n · cell^-T [K, 3]."""
    return 2.0 * math.pi * numbers.to(cell.dtype) @ torch.linalg.inv(cell).T
