"""Neighbors by linked cells, O(N): vesin finds each pair once, this package mirrors and sorts.

Half a list, mirrored and sorted by counting, costs little more than vesin's whole list unsorted,
and is symmetric by construction.
"""

import numpy as np
from numpy.typing import NDArray

from dreibein.neighbors.lists import NeighborList
from dreibein.neighbors.sorting import neighbor_list
from dreibein.neighbors.trees import search_tree

__all__ = ["search_cells"]

# Atoms this many cells away are wrapped first: vesin counts cells in 32 bits, and small shifts
# sort faster.
_FAR = 4
# vesin limits its grid to 100,000 cells by scaling the three numbers of cells alike. Where one of
# them falls below one the process dies of a division by zero (0.5.8 to 0.6.2). It rounds down
# three times, so four is safe.
_GRID = 100_000
_THIN = 4
# A grid with many more cells than atoms takes longer to walk than a tree takes to grow.
_EMPTY_CELLS = 10_000
_CELLS_PER_ATOM = 20
# vesin refuses cutoffs (Å) up to this.
_SHORTEST = 1e-6
# Where nothing is periodic vesin's time grows as (cutoff / 1 Å)^3: 1 s for a molecule at 1000 Å.
_WIDEST = 100.0

_Floats = NDArray[np.float64]
_Flags = NDArray[np.bool_]


def search_cells(pos: _Floats, cell: _Floats, pbc: _Flags, cutoff: float) -> NeighborList:
    """List all (i, j, S) with ``|x_j + S · cell − x_i| < cutoff`` by vesin.

    Structures for which vesin has no good grid, micrometers long and thin or almost empty, are
    given to `search_tree`.

    Args:
        pos: [N, 3] Å, wrapped or not.
        cell: [3, 3] Å, invertible, non-periodic vectors orthonormal and normal to the others.
        pbc: [3].
        cutoff: Å.
    """
    from vesin import NeighborList as Search  # loads a compiled library

    inverse = np.linalg.inv(cell)
    widths = np.where(pbc, 1.0 / np.linalg.norm(inverse, axis=0), np.ptp(pos @ inverse, axis=0))
    boundless = cutoff > _WIDEST and not pbc.any()
    if cutoff <= _SHORTEST or boundless or _has_no_grid(widths, cutoff, len(pos)):
        return search_tree(pos, cell, pbc, cutoff)
    periods = np.floor(pos @ inverse) * pbc
    far = bool((np.abs(periods) > _FAR).any())
    if far:
        pos = pos - periods @ cell
    search = Search(cutoff=cutoff, full_list=False)
    # The arrays are views of memory that lives as long as `search`; the sort copies them.
    pairs, shift = search.compute(pos, cell, pbc, "PS", copy=False)
    receiver, sender = pairs[:, 0].view(np.int64), pairs[:, 1].view(np.int64)
    if far:
        whole = periods.astype(np.int64)
        shift = shift + whole[receiver] - whole[sender]
    # Two images of one atom are both near only if a lattice vector is shorter than 2 cutoff, and
    # a lattice vector that leaves the plane of face k is at least as long as height k.
    repeats = bool((widths[pbc] <= 2.0 * cutoff).any())
    return neighbor_list(sender, receiver, shift, num_atoms=len(pos), mirror=True, repeats=repeats)


def _has_no_grid(widths: _Floats, cutoff: float, num_atoms: int) -> bool:
    """Tell whether the grid would be almost empty, or some direction would get no cell at all."""
    cells = np.maximum(widths / cutoff, 1.0) + 2.0  # margin for the box that vesin draws
    total = float(np.prod(cells))
    if total > _EMPTY_CELLS + _CELLS_PER_ATOM * num_atoms:
        return True
    return total > _GRID and bool((cells * (_GRID / total) ** (1 / 3) < _THIN).any())
