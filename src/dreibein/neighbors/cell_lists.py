"""Neighbors by linked cells, O(N): vesin finds each pair once, this package mirrors and sorts.

Half a list, mirrored and sorted by counting, costs less than vesin's whole list unsorted, and is
symmetric by construction.
"""

import numpy as np
from numpy.typing import NDArray

from dreibein.neighbors.lists import NeighborList
from dreibein.neighbors.sorting import neighbor_list

__all__ = ["search_cells"]

# Atoms this many cells away are wrapped first: vesin counts cells in 32 bits, and small shifts
# sort faster.
_FAR = 4


def search_cells(
    pos: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> NeighborList:
    """List all (i, j, S) with ``|x_j + S · cell − x_i| < cutoff`` by vesin.

    Args:
        pos: [N, 3] Å, wrapped or not.
        cell: [3, 3] Å, invertible (`systems.cells.complete_cell`).
        pbc: [3].
        cutoff: Å.
    """
    from vesin import NeighborList as Search  # loads a compiled library

    inverse = np.linalg.inv(cell)
    periods = np.floor(pos @ inverse) * pbc
    far = bool((np.abs(periods) > _FAR).any())
    if far:
        pos = pos - periods @ cell
    search = Search(cutoff=cutoff, full_list=False)
    # The arrays are views of memory that lives as long as `search`: copied by the sort.
    pairs, shift = search.compute(pos, cell, pbc, "PS", copy=False)
    receiver, sender = pairs[:, 0].view(np.int64), pairs[:, 1].view(np.int64)
    if far:
        whole = periods.astype(np.int64)
        shift = shift + whole[receiver] - whole[sender]
    # Two images of one atom are both near only if a lattice vector is shorter than 2 cutoff, and
    # a lattice vector that leaves the plane of face k is at least as long as height k.
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    repeats = bool((heights[pbc] <= 2.0 * cutoff).any())
    return neighbor_list(sender, receiver, shift, num_atoms=len(pos), mirror=True, repeats=repeats)
