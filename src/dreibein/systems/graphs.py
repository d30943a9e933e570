"""What a network sees of a structure: numbers, edge vectors, and who belongs to whom."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch_geometric.data import Data


@dataclass(frozen=True)
class Graph:
    """A batch of structures as a graph whose edges point from sender j to receiver i.

    Attributes:
        z: Atomic numbers [N].
        vectors: r_ij = x_j + S·cell - x_i [E, 3] in Å, in the network's dtype.
        edge_index: [2, E]; row 0 the sender j, row 1 the receiver i.
        batch: Structure of each atom [N].
        num_structures: Number of structures B.
        charge: Total charge of each structure [B] in e, in the network's dtype.
        spin: Spin multiplicity of each structure [B], likewise; None where not stated.
        field: Applied electric field [B, 3] in V/Å, for networks that take one; else None.
    """

    z: Tensor
    vectors: Tensor
    edge_index: Tensor
    batch: Tensor
    num_structures: int
    charge: Tensor
    spin: Tensor | None = None
    field: Tensor | None = None

    @property
    def sender(self) -> Tensor:
        """Index j of each edge [E]."""
        return self.edge_index[0]

    @property
    def receiver(self) -> Tensor:
        """Index i of each edge [E]."""
        return self.edge_index[1]

    @property
    def num_atoms(self) -> int:
        """Number of atoms N."""
        return self.z.shape[0]


def batch_index(structures: Data) -> tuple[Tensor, int]:
    """Structure of each atom [N], and the number of structures; one structure is a batch of one."""
    batch = structures.get("batch")
    if batch is None:
        return torch.zeros_like(structures.z), 1
    return batch, structures.num_graphs


def edge_vectors(
    pos: Tensor, cell: Tensor, edge_index: Tensor, shift: Tensor, batch: Tensor
) -> Tensor:
    """r_ij = x_j + S·cell - x_i in the dtype of `pos`, differentiable in positions and cell.

    Args:
        pos: Positions [N, 3].
        cell: Cells [B, 3, 3], vectors as rows.
        edge_index: [2, E], sender then receiver.
        shift: Integer cell shifts S [E, 3].
        batch: Structure of each atom [N].

    Returns:
        Vectors [E, 3] from receiver to sender.
    """
    sender, receiver = edge_index[0], edge_index[1]
    vectors = pos.index_select(0, sender) - pos.index_select(0, receiver)
    # no device synchronisation for a small saving; a tensor that is traced has no values
    if shift.is_cuda or isinstance(shift, FakeTensor) or bool(shift.any()):
        image = shift.to(pos.dtype)
        if cell.shape[0] == 1:
            return vectors + image @ cell[0]
        cells = cell.index_select(0, batch.index_select(0, receiver))
        return vectors + torch.einsum("es,esc->ec", image, cells)
    return vectors


def within(structures: Data, cutoff: float) -> Data:
    """A shallow copy whose neighbor list has the pairs nearer than a cutoff alone, in their order.

    Args:
        structures: `Data` or `Batch` with neighbors attached.
        cutoff: In Å.
    """
    batch, _ = batch_index(structures)
    with torch.no_grad():
        vectors = edge_vectors(
            structures.pos, structures.cell, structures.edge_index, structures.shift, batch
        )
        near = ((vectors * vectors).sum(-1) < cutoff * cutoff).nonzero().squeeze(-1)
    chosen = copy.copy(structures)
    chosen.edge_index = structures.edge_index.index_select(1, near)
    chosen.shift = structures.shift.index_select(0, near)
    return chosen


def make_graph(
    structures: Data,
    pos: Tensor,
    cell: Tensor,
    dtype: torch.dtype,
    field: Tensor | None = None,
) -> Graph:
    """Graph of structures that carry `edge_index` and `shift`; vectors formed, then cast.

    The difference of two positions is taken in the positions' precision (float64): in float32,
    57 Å from the origin, it would err by 1e-5 Å.

    Args:
        structures: `Data` or `Batch` with neighbors attached.
        pos: Positions [N, 3] to differentiate by.
        cell: Cells [B, 3, 3] to differentiate by.
        dtype: The network's dtype.
        field: Applied electric field [B, 3] in V/Å, where the network takes one.

    Raises:
        ValueError: No neighbors are attached.
    """
    if "edge_index" not in structures:
        raise ValueError(
            "the structure carries no neighbor list; "
            "call dreibein.neighbors.attach_neighbors(structure, potential.cutoff) first"
        )
    batch, num_structures = batch_index(structures)
    vectors = edge_vectors(pos, cell, structures.edge_index, structures.shift, batch)
    if "charge" in structures:
        charge = structures.charge.to(dtype)
    else:
        charge = vectors.new_zeros(num_structures, dtype=dtype)
    return Graph(
        z=structures.z,
        vectors=vectors.to(dtype),
        edge_index=structures.edge_index,
        batch=batch,
        num_structures=num_structures,
        charge=charge,
        spin=structures.spin.to(dtype) if "spin" in structures else None,
        field=None if field is None else field.to(dtype),
    )
