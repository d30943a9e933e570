"""A data set whose structures carry neighbor lists, each found once and kept in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.data.dataset import StructureDataset
from dreibein.neighbors import attach_neighbors

# Neighbor lists beyond this size are found anew each time.
CACHE_BYTES = 4 * 1024**3


class NeighborDataset(torch.utils.data.Dataset[Data]):
    """`dataset[i]` with `edge_index` and `shift` within a cutoff; a list is found once per frame.

    Lists are kept as int32 pairs and int8 shifts (9 bytes an edge where no image is involved: 8).
    Each DataLoader worker keeps its own.

    Args:
        dataset: Structures.
        cutoff: Å.
        cache_bytes: Memory for lists; frames beyond it are searched at each access.
    """

    def __init__(
        self, dataset: StructureDataset, cutoff: float, cache_bytes: int = CACHE_BYTES
    ) -> None:
        if not cutoff > 0:
            raise ValueError(f"the cutoff must be positive, not {cutoff}")
        self.dataset = dataset
        self.cutoff = float(cutoff)
        self._cache: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._room = cache_bytes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Data:
        structure = self.dataset[index]
        index = int(structure.frame)
        found = self._cache.get(index)
        if found is None:
            structure = attach_neighbors(structure, self.cutoff)
            self._keep(index, structure.edge_index, structure.shift)
            return structure
        edge_index, shift = found
        structure.edge_index = edge_index.long()
        structure.shift = (
            torch.zeros(edge_index.shape[1], 3, dtype=torch.int64)
            if shift is None
            else shift.long()
        )
        return structure

    def _keep(self, index: int, edge_index: Tensor, shift: Tensor) -> None:
        edges = edge_index.shape[1]
        inside = not bool(shift.any())
        size = edges * (8 if inside else 11)
        if size > self._room or (not inside and int(shift.abs().max()) > 127):
            return
        self._room -= size
        self._cache[index] = (edge_index.int(), None if inside else shift.to(torch.int8))

    @property
    def label_names(self) -> tuple[str, ...]:
        """Labels of the data set."""
        return self.dataset.label_names

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers of the data set."""
        return self.dataset.elements

    @property
    def provenance(self) -> dict[str, Any]:
        """Provenance of the data set."""
        return self.dataset.provenance

    @property
    def indices(self) -> tuple[int, ...]:
        """Numbers of the frames in the whole data set."""
        return self.dataset.indices

    @property
    def sizes(self) -> np.ndarray:
        """Atoms of each frame [F]."""
        return self.dataset.sizes

    def describe(self, index: int) -> str:
        """File and frame number there."""
        return self.dataset.describe(index)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "NeighborDataset":
        """Some of the frames; lists already found are not shared."""
        return NeighborDataset(self.dataset.subset(indices), self.cutoff, self._room)


def with_neighbors(dataset: StructureDataset, cutoff: float) -> NeighborDataset:
    """The data set with neighbor lists attached, found lazily and kept with the data set."""
    found: dict[float, NeighborDataset] = dataset.__dict__.setdefault("_with_neighbors", {})
    if cutoff not in found:
        found[cutoff] = NeighborDataset(dataset, cutoff)
    return found[cutoff]
