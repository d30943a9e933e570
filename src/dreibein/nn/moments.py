"""Moments of charges about the center of mass: from charges and dipoles of atoms.

With d_i = r_i - r_0 and r_0 the center of mass,

    dipole          D = sum_i q_i d_i + mu_i,                                sum_i q_i = Q
    second moment   M = sum_i q_i d_i d_i^T + mu_i d_i^T + d_i mu_i^T + theta_i
    quadrupole      (3 M - tr M) / 2
    spatial extent  <r^2> = sum_i n_i |d_i|^2 + 2 m_i . d_i + s_i,           sum_i n_i = Z - Q

where n_i = z_i + what is learned are the electrons of an atom, Z all nuclear charges. The last
term of each line is the head's tensor; the charges and vectors before it are its sources.
"""

import torch
from torch import Tensor

from dreibein.nn.targets import Target
from dreibein.o3 import Irrep

SCALAR, VECTOR = Irrep(0, 1), Irrep(1, -1)
OF_QUADRUPOLES = ("quadrupole", "second_moment")
EXTENT = "spatial_extent"


def sources_of(name: str, target: Target) -> tuple[Irrep, ...]:
    """What an atom gives to a moment beside its own tensor; nothing where it is no moment.

    >>> from dreibein.nn.targets import Target
    >>> sources_of("dipole", Target(rank=1, scope="structure"))
    (Irrep(l=0, p=1),)
    """
    if name in (*OF_QUADRUPOLES, EXTENT):
        return (SCALAR, VECTOR)
    charged = target.charges or (name == "dipole" and target.charges is None)
    return (SCALAR,) if charged else ()


def from_center(masses: Tensor, pos: Tensor, batch: Tensor, count: int) -> Tensor:
    """Positions from the center of mass of each structure [N, 3] in Å.

    Args:
        masses: Of atoms [N].
        pos: Positions [N, 3].
        batch: Structure of each atom [N].
        count: Structures.
    """
    total = masses.new_zeros(count).index_add(0, batch, masses)
    moment = pos.new_zeros(count, 3).index_add(0, batch, masses[:, None] * pos)
    return pos - (moment / total[:, None]).index_select(0, batch)


def moments_of_atoms(name: str, charges: Tensor, vectors: Tensor | None, places: Tensor) -> Tensor:
    """Share of each atom in a moment, without its own tensor [N, ...].

    Args:
        name: Of the target.
        charges: [N] in the moment's unit over Å or Å^2.
        vectors: Dipoles of atoms [N, 3]; not of the dipole, whose own tensor they are.
        places: Positions from the center [N, 3].
    """
    if vectors is None:
        return charges[:, None] * places
    if name == EXTENT:
        return charges * places.square().sum(1) + 2.0 * (vectors * places).sum(1)
    mixed = vectors[:, :, None] * places[:, None, :]
    second = charges[:, None, None] * places[:, :, None] * places[:, None, :] + mixed + mixed.mT
    return traceless(second) if name == "quadrupole" else second


def traceless(second: Tensor) -> Tensor:
    """(3 M - tr M) / 2 of matrices [..., 3, 3]."""
    trace = second.diagonal(dim1=-2, dim2=-1).sum(-1)
    eye = torch.eye(3, dtype=second.dtype, device=second.device)
    return 1.5 * second - 0.5 * trace[..., None, None] * eye


def known_extent(z: Tensor, places: Tensor) -> Tensor:
    """z_i |d_i|^2 [N] in Å^2: the spatial extent of electrons that sit on neutral atoms."""
    return z.double() * places.square().sum(1)


def neutralized(
    charges: Tensor, total: Tensor | None, batch: Tensor, count: int, unit: float = 1.0
) -> Tensor:
    """Charges [N] moved by (Q - sum q) / N in each structure, so that they add up to Q.

    Args:
        charges: Of atoms, in the unit that `unit` counts.
        total: Q of each structure [B] in e; None for neutral ones.
        batch: Structure of each atom [N].
        count: Structures.
        unit: How many of the charges' unit one e is.
    """
    wanted = charges.new_zeros(count) if total is None else unit * total.to(charges)
    sums = charges.new_zeros(count).index_add(0, batch, charges)
    atoms = torch.bincount(batch, minlength=count).clamp(min=1)
    return charges + ((wanted - sums) / atoms).index_select(0, batch)
