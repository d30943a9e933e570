"""Structures as batches: neighbors found once per frame, fields joined without detours."""

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Batch, Data

from dreibein.neighbors import attach_neighbors
from dreibein.systems.fields import BONDS, mask_name

CACHE_BYTES = 2 << 30  # structures beyond this are asked for anew in every epoch
INPUTS = (
    "z",
    "pos",
    "cell",
    "pbc",
    "charge",
    "spin",
    "external_field",
    BONDS,
    "frame",
    "edge_index",
    "shift",
)


class Structures(Protocol):
    """A data set as training sees it: labelled structures by index, and names for messages."""

    @property
    def label_names(self) -> Sequence[str]:
        """Labels that every structure carries, possibly masked."""

    def __len__(self) -> int:
        """Number of structures."""

    def __getitem__(self, index: int, /) -> Data:
        """One structure."""

    def describe(self, index: int, /) -> str:
        """Where a structure comes from: file and frame."""


class Frames(Dataset[Batch]):
    """Batches of a data set by lists of indices.

    An index −1 − k stands for structure k with all its labels masked (see `Steps`).

    Args:
        structures: The data set; structures without `edge_index` get their neighbors here.
        cutoff: Range of the neighbor lists in Å.
        labels: Labels to carry along.
    """

    def __init__(self, structures: Structures, cutoff: float, labels: Sequence[str]) -> None:
        self.structures = structures
        self.cutoff = cutoff
        self.labels = tuple(labels)
        self.names = (*INPUTS, *labels, *(mask_name(label) for label in labels))
        self._cache: dict[int, dict[str, Tensor]] = {}
        self._room = CACHE_BYTES

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, indices: list[int]) -> Batch:
        """The batch of these structures."""
        frames = [self._frame(k if k >= 0 else -1 - k) for k in indices]
        for row, k in enumerate(indices):
            if k < 0:
                frames[row] = frames[row] | _masked(frames[row], self.labels)
        batch = collate(frames)
        batch.rows = indices
        return batch

    def describe(self, batch: Batch, k: int) -> str:
        """File and frame of the k-th structure of a batch made here."""
        index = batch.rows[k]
        return self.structures.describe(index if index >= 0 else -1 - index)

    def _frame(self, index: int) -> dict[str, Tensor]:
        found = self._cache.get(index)
        if found is not None:
            return found
        structure = self.structures[index]
        if "edge_index" not in structure:
            try:
                structure = attach_neighbors(structure, self.cutoff)
            except ValueError as error:
                raise ValueError(f"{self.structures.describe(index)}: {error}") from error
        fields = structure.to_dict()
        frame = {name: fields[name] for name in self.names if name in fields}
        self._room -= sum(t.nbytes for t in frame.values())
        if self._room > 0:
            self._cache[index] = frame
        return frame


def _masked(frame: dict[str, Tensor], labels: Sequence[str]) -> dict[str, Tensor]:
    """Masks that hide every label of a frame."""
    return {
        mask_name(label): torch.zeros(frame[label].shape[0], dtype=torch.bool) for label in labels
    }


def collate(frames: Sequence[dict[str, Tensor]]) -> Batch:
    """One `Batch` of frames given as fields; the same as PyG's, in a sixth of the time.

    Args:
        frames: Fields of each frame. A mask that only some frames have is taken as all True for
            the others; every other field must be in all of them.
    """
    first = frames[0]
    sizes = [frame["z"].shape[0] for frame in frames]
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    atoms = torch.tensor(sizes)
    fields: dict[str, Any] = {}
    names = list(first) if len(frames) == 1 else list(dict.fromkeys(n for f in frames for n in f))
    for name in names:
        parts = [f[name] if name in f else _all_present(name, f) for f in frames]
        fields[name] = torch.cat(parts, dim=1 if name == "edge_index" else 0)
    if "edge_index" in fields:
        edges = torch.tensor([frame["edge_index"].shape[1] for frame in frames])
        fields["edge_index"] += ptr[:-1].repeat_interleave(edges)
    fields |= {"batch": torch.arange(len(frames)).repeat_interleave(atoms), "ptr": ptr}
    batch = copy.copy(_empty_batch())
    batch._num_graphs = len(frames)
    for name, value in fields.items():
        batch._store[name] = value
    return batch


@cache
def _empty_batch() -> Batch:
    """A batch to copy: PyG makes a new class for each one that is constructed."""
    return Batch()


def _all_present(name: str, frame: dict[str, Tensor]) -> Tensor:
    label = name.removesuffix("_mask")
    if label == name or label not in frame:
        raise ValueError(
            f"some structures of a batch have the field '{name}' and some do not: give it to all"
        )
    return torch.ones(frame[label].shape[0], dtype=torch.bool)
