"""The contract of every neighbor list in this package.

Edge e points from sender j to receiver i and stands for the vector

    r_ij = x_j + S · cell − x_i        (cell vectors are rows, S is ``shift[e]``)

The list holds every (i, j, S) with ``|r_ij| < cutoff``, computed in float64, except (i, i, 0): all
periodic images along the periodic directions, an atom's own images among them. S refers to the
positions as given, which need not lie inside the cell. The list is symmetric: with (i, j, S) it has
(j, i, −S). It is ordered by receiver, then sender, then S (first component first), so two searches
of one structure give one list, whatever the backend. A pair whose distance equals the cutoff is not
listed; within rounding of it (some 1e-14 of cell or positions) it may fall on either side.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NeighborList"]


@dataclass(frozen=True)
class NeighborList:
    """Pairs within a cutoff: ``r_ij = x_j + S · cell − x_i``, sorted by receiver, sender and S.

    All tensors are int64 on the CPU.

    Attributes:
        edge_index: [2, E]; row 0 the sender j, row 1 the receiver i.
        shift: [E, 3] whole cells S.
        row_ptr: [N + 1]; the edges of receiver i are ``row_ptr[i]:row_ptr[i + 1]``.
    """

    edge_index: Tensor
    shift: Tensor
    row_ptr: Tensor

    @property
    def sender(self) -> Tensor:
        """[E] atom j from which the edge starts."""
        return self.edge_index[0]

    @property
    def receiver(self) -> Tensor:
        """[E] atom i at which the edge ends, ascending."""
        return self.edge_index[1]

    def __len__(self) -> int:
        """Return the number of directed edges."""
        return self.edge_index.shape[1]

    def vectors(self, pos: Tensor, cell: Tensor) -> Tensor:
        """``r_ij = x_j + S · cell − x_i``.

        Args:
            pos: [N, 3] Å.
            cell: [3, 3] or [1, 3, 3] Å.

        Returns:
            [E, 3] Å, differentiable.
        """
        offset = self.shift.to(pos.dtype) @ cell.reshape(3, 3).to(pos.dtype)
        return pos.index_select(0, self.sender) - pos.index_select(0, self.receiver) + offset

    def select(self, keep: Tensor) -> "NeighborList":
        """Return the edges where ``keep`` [E] is true, in the same order."""
        kept = torch.nonzero(keep).squeeze(1)
        row_ptr = torch.searchsorted(kept, self.row_ptr)
        return NeighborList(
            self.edge_index.index_select(1, kept), self.shift.index_select(0, kept), row_ptr
        )
