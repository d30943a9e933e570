"""Neighbors by the definition: every pair of atoms in every image that can be near."""

import numpy as np
from numpy.typing import NDArray

from dreibein.neighbors.lists import NeighborList
from dreibein.neighbors.sorting import neighbor_list

__all__ = ["images_within", "search_images", "wrapped"]

# Distances computed at a time.
_BLOCK = 500_000

_Floats = NDArray[np.float64]
_Flags = NDArray[np.bool_]
_Integers = NDArray[np.int64]


def search_images(pos: _Floats, cell: _Floats, pbc: _Flags, cutoff: float) -> NeighborList:
    """List all (i, j, S) with ``|x_j + S · cell − x_i| < cutoff`` by trying them all.

    Args:
        pos: [N, 3] Å, wrapped or not.
        cell: [3, 3] Å, invertible (`systems.cells.complete_cell`).
        pbc: [3].
        cutoff: Å.
    """
    inside, periods = wrapped(pos, cell, pbc)
    images = images_within(cell, pbc, cutoff)
    blocks = np.array_split(images, 1 + len(images) * len(pos) ** 2 // _BLOCK)
    edges = [_near(inside, block, cell, cutoff) for block in blocks]
    sender, receiver, shift = (np.concatenate(parts) for parts in zip(*edges))
    shift = shift + periods[receiver] - periods[sender]
    return neighbor_list(
        sender, receiver, shift, num_atoms=len(pos), mirror=False, repeats=bool(pbc.any())
    )


def wrapped(pos: _Floats, cell: _Floats, pbc: _Flags) -> tuple[_Floats, _Integers]:
    """Return ``x − n · cell`` with fractional coordinates in [0, 1), and n [N, 3]."""
    periods = np.floor(pos @ np.linalg.inv(cell)) * pbc
    return pos - periods @ cell, periods.astype(np.int64)


def images_within(cell: _Floats, pbc: _Flags, cutoff: float) -> _Integers:
    """Return every S [M, 3] that can join two wrapped atoms within the cutoff.

    With fractional coordinates in [0, 1), ``|r_ij| >= (|S_k| − 1) h_k``, where h_k is the height
    of the cell along vector k: ``|S_k| <= floor(cutoff / h_k) + 1`` is complete.
    """
    # The columns of the inverse are the face normals divided by the heights.
    inverse_heights = np.linalg.norm(np.linalg.inv(cell), axis=0)
    reach = (np.floor(cutoff * inverse_heights).astype(int) + 1) * pbc
    axes = [np.arange(-n, n + 1) for n in reach]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _near(
    pos: _Floats, images: _Integers, cell: _Floats, cutoff: float
) -> tuple[_Integers, _Integers, _Integers]:
    """Return sender, receiver and shift of the pairs near each other in some images."""
    vectors = (pos[None, :] - pos[:, None]) + (images @ cell)[:, None, None]  # [S, i, j, 3]
    near = np.square(vectors).sum(-1) < cutoff * cutoff
    home = np.flatnonzero(~images.any(axis=1))
    near[home[:, None], np.arange(len(pos)), np.arange(len(pos))] = False
    image, receiver, sender = np.nonzero(near)
    return sender, receiver, images[image]
