"""Neighbors during a simulation: search now and then with a wider cutoff, filter in between."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dreibein.neighbors.lists import NeighborList
from dreibein.neighbors.search import find_neighbors
from dreibein.systems.cells import complete_cell

__all__ = ["SkinNeighbors"]

# Edges measured at a time: the temporaries stay in the cache.
_BLOCK = 32_768


@dataclass(frozen=True)
class _Build:
    pairs: NeighborList
    pos: Tensor
    cell: Tensor
    pbc: Tensor


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
        self.cutoff = float(cutoff)
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
        self.calls += 1
        x = pos.detach().cpu().to(torch.float64)
        box = cell.detach().cpu().to(torch.float64).reshape(3, 3)
        periodic = pbc.detach().cpu().reshape(3)
        build = self._build
        if build is None or not self._covers(build, x, box, periodic):
            reach = self.cutoff + self.skin
            pairs = find_neighbors(x, box, periodic, reach, backend=self.backend)
            build = _Build(pairs, x.clone(), box.clone(), periodic.clone())
            self._build = build
            self.builds += 1
        return _within(build.pairs, x, box, self.cutoff)

    def _covers(self, build: _Build, pos: Tensor, cell: Tensor, pbc: Tensor) -> bool:
        """Tell whether no pair outside the build can have come within the cutoff."""
        if pos.shape != build.pos.shape or not torch.equal(pbc, build.pbc):
            return False
        start, least = build.pos, 1.0
        if bool(pbc.any()) and not torch.equal(cell, build.cell):
            rows = pbc[:, None]
            old, new = (complete_cell(box * rows, pbc) for box in (build.cell, cell))
            deformation = torch.linalg.solve(old, new)
            start = start @ deformation
            least = float(torch.linalg.matrix_norm(deformation, -2))
        moved = float((pos - start).square().sum(-1).max().sqrt()) if len(pos) else 0.0
        return least * (self.cutoff + self.skin) - 2.0 * moved >= self.cutoff


def _within(pairs: NeighborList, pos: Tensor, cell: Tensor, cutoff: float) -> NeighborList:
    """Keep the pairs with ``|r_ij| < cutoff``."""
    if len(pairs) <= _BLOCK:  # in a small molecule every pair is often within
        keep = pairs.vectors(pos, cell).square_().sum(-1) < cutoff * cutoff
        return pairs if bool(keep.all()) else pairs.select(keep)
    keep = torch.empty(len(pairs), dtype=torch.bool)
    for start in range(0, len(pairs), _BLOCK):
        part = slice(start, start + _BLOCK)
        block = NeighborList(pairs.edge_index[:, part], pairs.shift[part], pairs.row_ptr)
        torch.lt(block.vectors(pos, cell).square_().sum(-1), cutoff * cutoff, out=keep[part])
    return pairs.select(keep)
