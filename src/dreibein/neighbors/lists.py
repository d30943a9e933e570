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

import numpy as np
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
        vectors = pos.index_select(0, self.sender) - pos.index_select(0, self.receiver)
        if not bool(self.shift.any()):
            return vectors
        return vectors + self.shift.to(pos.dtype) @ cell.reshape(3, 3).to(pos.dtype)

    def select(self, keep: Tensor) -> "NeighborList":
        """Return the edges where ``keep`` [E] is true, in the same order."""
        mask = keep.numpy()  # numpy compresses twice as fast as torch
        kept = np.flatnonzero(mask)
        edge_index = np.empty((2, len(kept)), dtype=np.int64)
        for row, edges in zip(edge_index, self.edge_index.numpy()):
            np.compress(mask, edges, out=row)
        return NeighborList(
            torch.from_numpy(edge_index),
            torch.from_numpy(np.compress(mask, self.shift.numpy(), axis=0)),
            torch.from_numpy(np.searchsorted(kept, self.row_ptr.numpy())),
        )
