"""Targets of bonds: one value for each pair of atoms, from both ends and the direction between.

Bonds stand in rows of atoms: `bonds` [N, K] holds for atom i the partners j of its K slots,
numbered within the structure from 0, and -1 where a slot is empty; a target of bonds is
[N, K, ...], 0 in empty slots. A partner means its nearest image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from dreibein.nn.heads import BLOCKS, TargetHead
from dreibein.nn.targets import Target
from dreibein.o3.coupling import couple_vector
from dreibein.systems.cells import nearest_images
from dreibein.systems.graphs import batch_index, edge_vectors

RADIAL = 16  # Gaussians of the length of a bond
LONGEST = 6.0  # Å, where the last Gaussian sits


@dataclass(frozen=True)
class Bonds:
    """Bonds of a batch of structures.

    Attributes:
        atom: i of each bond [M], rows of the batch.
        partner: j of each bond [M], likewise.
        slot: Column of each bond [M].
        slots: Columns K.
        vectors: From i to j [M, 3] in Å.
    """

    atom: Tensor
    partner: Tensor
    slot: Tensor
    slots: int
    vectors: Tensor

    def spread_out(self, values: Tensor, num_atoms: int) -> Tensor:
        """Values of bonds [M, ...] in rows of atoms [N, K, ...], 0 in empty slots."""
        table = values.new_zeros(num_atoms, self.slots, *values.shape[1:])
        return table.index_put((self.atom, self.slot), values)


def listed_bonds(structures: Data, pos: Tensor) -> Bonds:
    """The bonds that structures list in `bonds` [N, K].

    Raises:
        ValueError: A partner that is no atom of the structure, or the atom itself.
    """
    partners = structures.bonds.reshape(len(structures.z), -1).long()
    batch, count = batch_index(structures)
    sizes = torch.bincount(batch, minlength=count)
    first = (sizes.cumsum(0) - sizes).index_select(0, batch)
    if bool((partners >= sizes.index_select(0, batch)[:, None]).any()):
        raise ValueError(
            f"bonds names partner {int(partners.max())} in a structure of fewer atoms: partners "
            "are numbered from 0 within their structure, and -1 is none"
        )
    atom, slot = (partners >= 0).nonzero().unbind(1)
    partner = partners[atom, slot] + first[atom]
    if bool((partner == atom).any()):
        raise ValueError("bonds makes an atom the partner of itself: correct the list")
    vectors = pos[partner] - pos[atom]
    if bool(structures.pbc.any()):
        owner = batch[atom]
        cell, pbc = structures.cell.index_select(0, owner), structures.pbc.index_select(0, owner)
        vectors = vectors - nearest_images(vectors.detach(), cell, pbc)
    return Bonds(atom, partner, slot, partners.shape[1], vectors)


def near_bonds(structures: Data, pos: Tensor, cutoff: float | None) -> Bonds:
    """All pairs within a cutoff, from the neighbor list, partners of an atom in ascending order.

    Args:
        structures: With `edge_index` and `shift`.
        pos: Positions [N, 3].
        cutoff: In Å; None for all edges of the list.
    """
    batch, _ = batch_index(structures)
    partner, atom = structures.edge_index
    shift = structures.shift
    vectors = edge_vectors(pos, structures.cell, structures.edge_index, shift, batch)
    if cutoff is not None:
        near = torch.linalg.vector_norm(vectors.detach(), dim=1) <= cutoff
        partner, atom, shift, vectors = partner[near], atom[near], shift[near], vectors[near]
    order = torch.arange(len(atom), device=atom.device)
    for key in (shift[:, 2], shift[:, 1], shift[:, 0], partner, atom):
        order = order[torch.argsort(key[order], stable=True)]
    partner, atom, vectors = partner[order], atom[order], vectors[order]
    counts = torch.bincount(atom, minlength=len(batch))
    starts = counts.cumsum(0) - counts
    slot = torch.arange(len(atom), device=atom.device) - starts.index_select(0, atom)
    slots = int(counts.max()) if len(counts) else 0
    return Bonds(atom, partner, slot, slots, vectors)


def bonds_of(structures: Data, pos: Tensor, cutoff: float | None) -> Bonds:
    """Those listed by the structures, else all pairs within the cutoff."""
    if "bonds" in structures:
        return listed_bonds(structures, pos)
    return near_bonds(structures, pos, cutoff)


def partners(structures: Data, cutoff: float | None = None) -> Tensor:
    """Partners [N, K] within their structures, -1 in empty slots: the order of a target's values.

    Args:
        structures: With `bonds`, or with a neighbor list.
        cutoff: In Å, of the target; None for all edges of the list.

    >>> from dreibein.neighbors import attach_neighbors
    >>> from dreibein.systems import make_structure
    >>> water = make_structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    >>> partners(attach_neighbors(water, 5.0), 1.2)
    tensor([[ 1,  2],
            [ 0, -1],
            [ 0, -1]])
    """
    bonds = bonds_of(structures, structures.pos, cutoff)
    batch, count = batch_index(structures)
    sizes = torch.bincount(batch, minlength=count)
    first = (sizes.cumsum(0) - sizes).index_select(0, batch)
    table = torch.full((len(batch), bonds.slots), -1, device=batch.device)
    table[bonds.atom, bonds.slot] = bonds.partner - first[bonds.atom]
    return table


class BondHead(TargetHead):
    """y_ij = mean_ij + spread · net(x_i, x_j, r_ij), the same for j, i unless it is directed.

    With U, W linear maps of the features of both ends and Y_l of the unit vector,

        x_ij,l = U_l x_i,l + W_l x_j,l + g_l(|r_ij|, scalars) Y_l(r_ij / |r_ij|),

    which a readout as that of atoms turns into the target. Undirected targets are the mean of
    y_ij and y_ji; the mean is a share of the element of each end.

    Args:
        name: Of the target, bond_….
        target: Settled.
        features: Channels F of the network's features.
    """

    incoming: Tensor
    second: Tensor
    centers: Tensor

    def __init__(self, name: str, target: Target, features: int) -> None:
        width = target.channels
        super().__init__(name, target, width)
        self.here = nn.ModuleList(nn.Linear(features, width, bias=False) for _ in BLOCKS)
        self.there = nn.ModuleList(nn.Linear(features, width, bias=False) for _ in BLOCKS)
        self.along = nn.Sequential(
            nn.Linear(width + RADIAL, width), nn.SiLU(), nn.Linear(width, len(BLOCKS) * width)
        )
        self.register_buffer("incoming", torch.ones(3, dtype=torch.float64))
        table = torch.tensor(couple_vector(1, 2))
        self.register_buffer("second", table, persistent=False)
        centers = torch.linspace(0.0, LONGEST, RADIAL, dtype=torch.float64)
        self.register_buffer("centers", centers, persistent=False)

    @property
    def constants(self) -> tuple[str, ...]:
        """Buffers that stay in float64."""
        return (*super().constants, "second", "centers")

    @torch.no_grad()
    def measure(self, x: Tensor) -> None:
        """Take the rms lengths of the blocks of features [N, 9, F], so that they come in size 1."""
        for k, part in enumerate(x.double().split(BLOCKS, 1)):
            length = float(part.square().sum(1).mean().sqrt())
            self.incoming[k] = length if length > 0.0 else 1.0

    def forward(self, x: Tensor, structures: Data, pos: Tensor) -> Tensor:
        """The target in float64 [N, K, ...].

        Args:
            x: Features [N, 9, F] of the network.
            structures: With `bonds` [N, K], else a neighbor list.
            pos: Positions [N, 3].
        """
        bonds = bonds_of(structures, pos, self.target.cutoff)
        values = self._values(x, bonds.atom, bonds.partner, bonds.vectors)
        if not self.target.directed:
            back = self._values(x, bonds.partner, bonds.atom, -bonds.vectors)
            values = 0.5 * (values + back)
        ends = structures.z[bonds.atom], structures.z[bonds.partner]
        spread = 0.5 * (self.spread[ends[0]] + self.spread[ends[1]])
        values = (values * spread[:, None] @ self.isometry.T).reshape(-1, *self.target.tensor_shape)
        values = values + self._means(ends[0]) + self._means(ends[1])
        return bonds.spread_out(self._reduced(values), len(structures.z))

    def _values(self, x: Tensor, atom: Tensor, partner: Tensor, vectors: Tensor) -> Tensor:
        """Irreps of bonds [M, components] before mean and spread."""
        scales = self.incoming.to(x.dtype).unbind()
        parts = [part / s for part, s in zip(x.split(BLOCKS, 1), scales, strict=True)]
        ends = [
            here(part).index_select(0, atom) + there(part).index_select(0, partner)
            for here, there, part in zip(self.here, self.there, parts, strict=True)
        ]
        length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        unit = (vectors / length).to(x.dtype)
        step = LONGEST / (RADIAL - 1)
        radial = torch.exp(-((length - self.centers) / step).square()).to(x.dtype)
        weights = self.along(torch.cat([ends[0].squeeze(1), radial], -1)).chunk(len(BLOCKS), -1)
        table = self.second.to(x.dtype)
        square = torch.einsum("aim,na,ni->nm", table, unit, unit)
        shapes = (torch.ones_like(unit[:, :1]), unit, square)
        found = [
            end + shape[:, :, None] * weight[:, None, :]
            for end, shape, weight in zip(ends, shapes, weights, strict=True)
        ]
        return torch.cat([part.double() for part in self.readout(torch.cat(found, 1))], -1)
