"""Neighbors by a tree: as slow for a box of any length as for a short one.

Linked cells need a grid over all of space, which a chain of atoms micrometers long, or a molecule
that has lost an atom, does not permit. scipy's k-d tree adapts to where the atoms are.
"""

import numpy as np
from numpy.typing import NDArray

from dreibein.neighbors.lists import NeighborList
from dreibein.neighbors.reference import images_within, wrapped
from dreibein.neighbors.sorting import neighbor_list

__all__ = ["search_tree"]

# Images of atoms computed at a time.
_BLOCK = 500_000

_Floats = NDArray[np.float64]
_Integers = NDArray[np.int64]


def search_tree(pos: _Floats, cell: _Floats, pbc: NDArray[np.bool_], cutoff: float) -> NeighborList:
    """List all (i, j, S) with ``|x_j + S · cell − x_i| < cutoff`` by a k-d tree over the images.

    Args:
        pos: [N, 3] Å, wrapped or not.
        cell: [3, 3] Å, invertible (`systems.cells.complete_cell`).
        pbc: [3].
        cutoff: Å.
    """
    from scipy.spatial import cKDTree  # slow to import and seldom needed

    inside, periods = wrapped(pos, cell, pbc)
    wide = cutoff * (1.0 + 1e-9)  # the tree only proposes
    images = images_within(cell, pbc, cutoff)
    blocks = np.array_split(images, 1 + len(images) * len(pos) // _BLOCK)
    parts = [_images_inside(inside, block, cell, wide) for block in blocks]
    atom, shift, points = (np.concatenate(part) for part in zip(*parts))
    found = cKDTree(inside).sparse_distance_matrix(cKDTree(points), wide, output_type="ndarray")

    receiver, sender, shift = found["i"], atom[found["j"]], shift[found["j"]]
    vectors = (inside[sender] - inside[receiver]) + shift @ cell
    near = np.square(vectors).sum(-1) < cutoff * cutoff
    near &= (sender != receiver) | shift.any(axis=1)
    sender, receiver, shift = sender[near], receiver[near], shift[near]
    shift = shift + periods[receiver] - periods[sender]
    return neighbor_list(
        sender, receiver, shift, num_atoms=len(pos), mirror=False, repeats=bool(pbc.any())
    )


def _images_inside(
    pos: _Floats, images: _Integers, cell: _Floats, margin: float
) -> tuple[_Integers, _Integers, _Floats]:
    """Return atom, shift and place of the images not farther than a margin outside the atoms."""
    points = pos + (images @ cell)[:, None]  # [S, N, 3]
    inside = (points >= pos.min(axis=0) - margin) & (points <= pos.max(axis=0) + margin)
    image, atom = np.nonzero(inside.all(axis=-1))
    return atom, images[image], points[image, atom]
