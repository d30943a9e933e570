"""Neighbors during a simulation: search now and then with a wider cutoff, filter in between."""

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreibein.neighbors.lists import NeighborList
from dreibein.neighbors.search import checked_cutoff, find_neighbors
from dreibein.systems.cells import complete_cell

__all__ = ["SkinNeighbors"]

# Edges measured at a time: the temporaries stay in the cache.
_BLOCK = 16_384


@dataclass(frozen=True)
class _Build:
    """A list with a skin, and what measures its edges quickly.

    Attributes:
        pairs: everything within cutoff + skin.
        pos: [N, 3] where it was searched.
        cell: [3, 3] likewise.
        pbc: [3] likewise.
        ends: sender and receiver again, [2, E], in 32 bits where that is enough.
        crossing: [C] the edges with a shift.
    """

    pairs: NeighborList
    pos: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    ends: NDArray[Any]
    crossing: NDArray[np.int64]


class SkinNeighbors:
    """The list of `find_neighbors`, searched anew only when it could have changed.

    A search keeps the pairs within ``cutoff + skin``. Later, with the cell deformed by F
    (``cell = cell_0 F``) and atoms displaced by u on top (``x = x_0 F + u``), a pair that was left
    out is at least ``σ_min(F) (cutoff + skin) − 2 max|u|`` long, σ_min being F's smallest singular
    value. As long as this is not below the cutoff, filtering the kept pairs is exact. For a fixed
    cell this is the usual rule: search when an atom moved more than skin / 2.

    Args:
        cutoff: Å.
        skin: Å, not negative; zero searches on every change.
        backend: see `find_neighbors`.

    Attributes:
        calls: how often a list was asked for.
        builds: how often it was searched.
    """

    def __init__(self, cutoff: float, skin: float, *, backend: str = "vesin") -> None:
        if not (np.isfinite(skin) and skin >= 0.0):
            raise ValueError(f"the skin must be zero or a positive number of Å, not {skin}")
        self.cutoff = checked_cutoff(cutoff)
        self.skin = float(skin)
        self.backend = backend
        self.calls = 0
        self.builds = 0
        self._build: _Build | None = None

    def __call__(self, pos: Tensor, cell: Tensor, pbc: Tensor) -> NeighborList:
        """Return the list of the pairs with ``|r_ij| < cutoff``.

        Args:
            pos: [N, 3] Å.
            cell: [3, 3] or [1, 3, 3] Å.
            pbc: [3] or [1, 3] bool.
        """
        pairs = self.candidates(pos, cell, pbc)
        build = cast(_Build, self._build)  # just made or confirmed
        near = _near(build, _numbers(pos), _numbers(cell).reshape(3, 3), self.cutoff)
        # In a small molecule every pair is often within the cutoff.
        return pairs if near.all() else pairs.select(torch.from_numpy(near))

    def candidates(self, pos: Tensor, cell: Tensor, pbc: Tensor) -> NeighborList:
        """Return the kept pairs, some of them beyond the cutoff, for who measures them anyway.

        Args:
            pos: [N, 3] Å.
            cell: [3, 3] or [1, 3, 3] Å.
            pbc: [3] or [1, 3] bool.
        """
        self.calls += 1
        # NumPy from here on: of a few hundred numbers its operations take a tenth of torch's time
        x, box, periodic = _numbers(pos), _numbers(cell).reshape(3, 3), pbc.numpy(force=True)
        periodic = periodic.reshape(3)
        build = self._build
        if build is None or not self._covers(build, x, box, periodic):
            x, box, periodic = x.copy(), box.copy(), periodic.copy()
            place, cells, axes = (torch.from_numpy(values) for values in (x, box, periodic))
            reach = self.cutoff + self.skin
            pairs = find_neighbors(place, cells, axes, reach, backend=self.backend)
            build = _Build(
                pairs,
                x,
                box,
                periodic,
                pairs.edge_index.numpy().astype(np.int32 if len(x) < 2**31 else np.int64),
                np.flatnonzero(pairs.shift.numpy().any(axis=1)),
            )
            self._build = build
            self.builds += 1
        return build.pairs

    def _covers(
        self,
        build: _Build,
        pos: NDArray[np.float64],
        cell: NDArray[np.float64],
        pbc: NDArray[np.bool_],
    ) -> bool:
        """Tell whether no pair outside the build can have come within the cutoff."""
        if pos.shape != build.pos.shape or (pbc != build.pbc).any():
            return False
        start, least = build.pos, 1.0
        if (cell != build.cell).any() and pbc.any():
            axes = torch.from_numpy(pbc)
            rows = axes[:, None]
            old, new = (
                complete_cell(torch.from_numpy(box) * rows, axes) for box in (build.cell, cell)
            )
            deformation = torch.linalg.solve(old, new)
            start = start @ deformation.numpy()
            least = float(torch.linalg.matrix_norm(deformation, -2))
        path = pos - start
        moved = math.sqrt(np.einsum("na,na->n", path, path).max()) if len(path) else 0.0
        return least * (self.cutoff + self.skin) - 2.0 * moved >= self.cutoff


def _numbers(values: Tensor) -> NDArray[np.float64]:
    """A tensor's numbers, its own memory where that is possible."""
    array: NDArray[Any] = values.numpy(force=True)
    return array if array.dtype == np.float64 else array.astype(np.float64)


def _near(
    build: _Build, pos: NDArray[np.float64], cell: NDArray[np.float64], cutoff: float
) -> NDArray[np.bool_]:
    """Tell which edges have ``|x_j + S · cell − x_i| < cutoff``."""
    axes = np.ascontiguousarray(pos.T)
    sender, receiver = build.ends
    crossing = build.crossing
    offset = build.pairs.shift.numpy()[crossing] @ cell
    near = np.empty(len(sender), dtype=np.bool_)
    for start in range(0, len(sender), _BLOCK):
        part = slice(start, start + _BLOCK)
        j, i = sender[part], receiver[part]
        first, last = np.searchsorted(crossing, (start, start + _BLOCK))
        square = np.zeros(len(j))
        for axis in range(3):
            component = axes[axis].take(j)
            component -= axes[axis].take(i)
            component[crossing[first:last] - start] += offset[first:last, axis]
            component *= component
            square += component
        np.less(square, cutoff * cutoff, out=near[part])
    return near
