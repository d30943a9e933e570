"""Neighbors by the definition: every pair of atoms in every image that can be near."""

import math

import numpy as np
from numpy.typing import NDArray

from dreibein.neighbors.lists import NeighborList
from dreibein.neighbors.sorting import neighbor_list

__all__ = ["search_images"]

# Distances computed at a time.
_BLOCK = 2_000_000


def search_images(
    pos: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> NeighborList:
    """List all (i, j, S) with ``|x_j + S · cell − x_i| < cutoff`` by trying them all.

    With atoms wrapped to fractional coordinates in [0, 1), ``|r_ij| >= (|S_k| − 1) h_k`` where h_k
    is the height of the cell along vector k, so the images ``|S_k| <= floor(cutoff / h_k) + 1``
    are complete.

    Args:
        pos: [N, 3] Å, wrapped or not.
        cell: [3, 3] Å, invertible (`systems.cells.complete_cell`).
        pbc: [3].
        cutoff: Å.
    """
    inverse = np.linalg.inv(cell)
    periods = np.floor(pos @ inverse).astype(np.int64) * pbc
    wrapped = pos - periods @ cell
    # Columns of the inverse are the face normals divided by the heights.
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    reach = [math.floor(cutoff / h) + 1 if p else 0 for h, p in zip(heights, pbc)]
    axes = [np.arange(-n, n + 1) for n in reach]
    images = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    edges = [
        _near(wrapped, block, cell, cutoff)
        for block in np.array_split(images, 1 + len(images) * len(pos) ** 2 // _BLOCK)
    ]
    sender, receiver, shift = (np.concatenate(parts) for parts in zip(*edges))
    shift = shift + periods[receiver] - periods[sender]
    return neighbor_list(
        sender, receiver, shift, num_atoms=len(pos), mirror=False, repeats=bool(pbc.any())
    )


def _near(
    pos: NDArray[np.float64],
    images: NDArray[np.int64],
    cell: NDArray[np.float64],
    cutoff: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return sender, receiver and shift of the pairs near each other in some images."""
    vectors = (pos[None, :] - pos[:, None]) + (images @ cell)[:, None, None]  # [S, i, j, 3]
    near = np.square(vectors).sum(-1) < cutoff * cutoff
    itself = np.flatnonzero(~images.any(axis=1))
    near[itself[:, None], np.arange(len(pos)), np.arange(len(pos))] = False
    image, receiver, sender = np.nonzero(near)
    return sender, receiver, images[image]
