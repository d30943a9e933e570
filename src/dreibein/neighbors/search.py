"""The search for neighbors: checks of the input, choice of the backend."""

import copy
import difflib
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch_geometric.data import Data

from dreibein.neighbors.cell_lists import search_cells
from dreibein.neighbors.lists import NeighborList
from dreibein.neighbors.reference import search_images
from dreibein.neighbors.trees import search_tree
from dreibein.systems.cells import complete_cell

__all__ = ["attach_neighbors", "checked_cutoff", "find_neighbors"]

# Farther out (Å) double precision resolves no more than 1e-4 Å.
_FARTHEST = 1e12

_Floats = NDArray[np.float64]
_BACKENDS: dict[str, Callable[[_Floats, _Floats, NDArray[np.bool_], float], NeighborList]] = {
    "vesin": search_cells,
    "tree": search_tree,
    "reference": search_images,
}


def find_neighbors(
    pos: Tensor | ArrayLike,
    cell: Tensor | ArrayLike | None,
    pbc: Tensor | ArrayLike,
    cutoff: float,
    *,
    backend: str = "vesin",
) -> NeighborList:
    """List all (i, j, S) with ``|x_j + S · cell − x_i| < cutoff``; see `neighbors.lists`.

    Any cell does, however small, skewed or left-handed; atoms may lie outside it. Coincident atoms
    are neighbors at distance zero.

    Args:
        pos: [N, 3] Å, any real dtype, converted to float64.
        cell: [3, 3] or [1, 3, 3] Å, rows; vectors of non-periodic directions are ignored; None or
            zeros for no cell.
        pbc: [3], [1, 3] or one bool.
        cutoff: Å.
        backend: ``"vesin"`` (linked cells, and the tree where they cannot be drawn), ``"tree"``
            (k-d tree over the images) or ``"reference"`` (all pairs in all images).

    Raises:
        ValueError: NaN or infinite positions or cell, a cutoff that is not positive, a missing or
            dependent vector in a periodic direction, an unknown backend.

    >>> pairs = find_neighbors([[0.0, 0.0, 0.0]], 2.0 * np.eye(3), [True, False, False], 3.0)
    >>> pairs.shift.tolist()
    [[-1, 0, 0], [1, 0, 0]]
    """
    search = _BACKENDS.get(backend)
    if search is None:
        near = difflib.get_close_matches(str(backend), _BACKENDS, n=1, cutoff=0.0)
        raise ValueError(
            f"unknown backend {backend!r} for neighbors: use {' or '.join(map(repr, _BACKENDS))}"
            f" (nearest: {near[0]!r})"
        )
    x = _positions(pos)
    periodic = _periodic(pbc)
    box, radius = _cell(cell, periodic), checked_cutoff(cutoff)
    return search(x, box, periodic, radius) if len(x) else _empty()


def attach_neighbors(structure: Data, cutoff: float, *, backend: str = "vesin") -> Data:
    """Return a shallow copy of a structure with ``edge_index`` [2, E] and ``shift`` [E, 3].

    Args:
        structure: one structure with ``pos``, ``cell`` and ``pbc``.
        cutoff: Å.
        backend: see `find_neighbors`.
    """
    if getattr(structure, "num_graphs", 1) != 1:
        raise ValueError(
            f"neighbors belong to one structure, this is a batch of {structure.num_graphs}: attach "
            "them before batching"
        )
    pairs = find_neighbors(structure.pos, structure.cell, structure.pbc, cutoff, backend=backend)
    attached = copy.copy(structure)
    attached.edge_index, attached.shift = pairs.edge_index, pairs.shift
    return attached


def _empty() -> NeighborList:
    none = torch.zeros((0, 3), dtype=torch.int64)
    return NeighborList(none.new_zeros((2, 0)), none, none.new_zeros(1))


def _array(values: Tensor | ArrayLike) -> _Floats:
    if isinstance(values, Tensor):
        values = values.detach().cpu().to(torch.float64).numpy()
    return np.ascontiguousarray(values, dtype=np.float64)


def _positions(pos: Tensor | ArrayLike) -> _Floats:
    x = _array(pos)
    if x.size == 0:
        x = x.reshape(0, 3)
    if x.ndim != 2 or x.shape[1] != 3:
        raise ValueError(f"positions must have the shape [atoms, 3], not {list(x.shape)}")
    if len(x) and not np.abs(x).max() <= _FARTHEST:
        bad = np.flatnonzero(~(np.abs(x) <= _FARTHEST).all(axis=1))
        raise ValueError(
            f"the position of atom {bad[0]} is {x[bad[0]].tolist()} Å: neighbors need finite "
            f"positions within 1e12 Å ({len(bad)} of {len(x)} atoms have none)"
        )
    return x


def _periodic(pbc: Tensor | ArrayLike) -> NDArray[np.bool_]:
    flags = np.asarray(pbc.detach().cpu() if isinstance(pbc, Tensor) else pbc, dtype=bool)
    if flags.size not in (1, 3):
        raise ValueError(f"pbc must be one flag or three, not the shape {list(flags.shape)}")
    return np.array(np.broadcast_to(flags.reshape(-1), 3))


def _cell(cell: Tensor | ArrayLike | None, periodic: NDArray[np.bool_]) -> _Floats:
    """Return the periodic vectors completed by unit normals."""
    rows = np.zeros((3, 3)) if cell is None else _array(cell)
    if rows.size != 9:
        raise ValueError(f"a cell must have the shape [3, 3], not {list(rows.shape)}")
    if not np.isfinite(rows).all():  # open directions too: 0 * NaN is NaN in S · cell
        raise ValueError(f"the cell {rows.tolist()} contains NaN or infinity")
    if not periodic.any():
        return np.eye(3)
    rows = np.where(periodic[:, None], rows.reshape(3, 3), 0.0)
    return complete_cell(torch.from_numpy(rows), torch.from_numpy(periodic)).numpy()


def checked_cutoff(cutoff: float) -> float:
    """Return the cutoff; ValueError unless it is finite and positive."""
    radius = float(cutoff)
    if not (math.isfinite(radius) and radius > 0.0):
        raise ValueError(f"the cutoff must be a positive number of Å, not {cutoff}")
    return radius
