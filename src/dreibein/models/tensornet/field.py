"""TensorNet's energy in an applied electric field."""

import math

import torch
from torch import Tensor, nn

from dreibein.models.tensornet.edges import edge_tensors
from dreibein.models.tensornet.packing import BLOCKS

TERMS_OF_ORDER = {0: 0, 1: 1, 2: 3, 3: 5, 4: 7}
"""Terms of a polynomial in the field up to each order."""


class FieldEnergy(nn.Module):
    """Energy of each atom in a field F, a polynomial with equivariant coefficients.

    Of the last tensors X, mixed within I, A and S, channel c offers the vector a_c (part A, which
    turns as a polar vector) and the symmetric matrix M_c (parts I and S). With t = a · F and
    q = F · M F,

        E_i(F) - E_i(0) = -sum_c (g1 t + g2 q + g3 t^2 + g4 t q + g5 t^3 + g6 q^2 + g7 t^4),

    cut off at the order asked for; the gates g(||I||^2, ||A||^2, ||S||^2) [c] are an MLP. So
    g1 a is the atom's dipole, the terms of second order its polarizability, the others its
    hyperpolarizabilities; at F = 0 the energy is that of the network without a field, and two
    derivatives by F cost no pass through its layers.

    Args:
        channels: F.
        order: Highest power of the field, 1 to 4.
    """

    def __init__(self, channels: int, order: int) -> None:
        super().__init__()
        self.channels, self.terms = channels, TERMS_OF_ORDER[order]
        self.weight = nn.Parameter(torch.empty(3, channels, channels))  # [block, out, in]
        self.norm = nn.LayerNorm(3 * channels)
        self.gates = nn.Sequential(
            nn.Linear(3 * channels, channels),
            nn.SiLU(),
            nn.Linear(channels, self.terms * channels),
        )
        bound = 1.0 / math.sqrt(channels)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor, norms: Tensor, field: Tensor) -> Tensor:
        """Energies [N].

        Args:
            x: Tensors after the last layer [N, 9, F].
            norms: Their ||I||^2, ||A||^2, ||S||^2 [N, 3 F].
            field: Applied field at each atom [N, 3] in V/Å.
        """
        trace, vector, matrix = x.split(BLOCKS, dim=1)
        square = edge_tensors(field)[:, 4:].unsqueeze(-1)  # F F^T without its trace
        length = (field * field).sum(-1, keepdim=True) / math.sqrt(3.0)
        t = (vector * field.unsqueeze(-1)).sum(1) @ self.weight[1].T
        q = (trace[:, 0] * length) @ self.weight[0].T + (matrix * square).sum(1) @ self.weight[2].T
        powers = (t, q, t * t, t * q, t * t * t, q * q, (t * t).square())[: self.terms]
        gates = self.gates(self.norm(norms)).unflatten(-1, (self.terms, self.channels))
        return -(gates * torch.stack(powers, dim=1)).sum((1, 2))
