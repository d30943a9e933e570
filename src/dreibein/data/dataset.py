"""Structures with labels as a torch data set: in memory or read from a store frame by frame."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch_geometric.data import Data

from dreibein.data.table import Array, Table, common_specs, concatenate
from dreibein.systems import LABELS, mask_name

Spec = tuple[bool, tuple[int, ...]]


class Part(Protocol):
    """Frames in memory (`Table`) or on disk (`Store`)."""

    @property
    def specs(self) -> Mapping[str, Spec]:
        """Column name -> (per atom, shape of one row)."""

    @property
    def incomplete(self) -> set[str]:
        """Columns with missing entries."""

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur."""

    @property
    def sizes(self) -> Array:
        """Atoms of each frame."""

    def __len__(self) -> int: ...

    def frame(self, index: int) -> dict[str, Any]:
        """One frame as arrays."""

    def select(self, frames: Sequence[int] | Array) -> Table:
        """Some frames in memory."""

    def source_of(self, index: int) -> tuple[str, int]:
        """Source and frame number there."""

    def describe(self, index: int) -> str:
        """The same in words."""

    def geometry_hashes(self) -> Array:
        """Equal for equal geometries."""


class StructureDataset(torch.utils.data.Dataset[Data]):
    """Frames of one or more sources; `dataset[i]` is a fresh PyG `Data` in the package's units.

    Every structure carries the same labels; one that it lacks is zero there with
    `<label>_mask` False. Labels that no frame lacks have no mask.

    Args:
        parts: Tables and stores, end to end.
        provenance: Where all of it comes from (JSON-able).
        indices: Frames of the parts that belong to this data set; None for all.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        provenance: Mapping[str, Any] | None = None,
        indices: Sequence[int] | Array | None = None,
    ) -> None:
        self._parts = tuple(parts)
        self.provenance: dict[str, Any] = dict(provenance or {})
        self._ends = np.cumsum([len(part) for part in self._parts], dtype=np.int64)
        total = int(self._ends[-1]) if len(self._ends) else 0
        self._total = total
        self._indices = None if indices is None else np.asarray(indices, dtype=np.int64)
        names = [(part.specs, part.describe(0)) for part in self._parts if len(part)]
        self.specs: dict[str, Spec] = common_specs(names)
        self.masked: set[str] = {
            name
            for part in self._parts
            for name in self.specs
            if name not in part.specs or name in part.incomplete
        }

    def __len__(self) -> int:
        return self._total if self._indices is None else len(self._indices)

    def __repr__(self) -> str:
        labels = ", ".join(self.label_names) or "no labels"
        return f"StructureDataset({len(self)} frames: {labels})"

    @property
    def label_names(self) -> tuple[str, ...]:
        """Labels present in at least one frame: the known ones first, then the user's own."""
        own = [name for name in self.specs if name not in LABELS and name != "external_field"]
        return (*(name for name in LABELS if name in self.specs), *own)

    @cached_property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        if self._indices is None:
            return tuple(sorted({z for part in self._parts for z in part.elements}))
        found: set[int] = set()
        for table in self.blocks():
            found.update(table.elements)
        return tuple(sorted(found))

    @property
    def indices(self) -> tuple[int, ...]:
        """Numbers of these frames in the whole data set that this is a subset of."""
        return tuple(int(i) for i in self._root(np.arange(len(self))))

    @property
    def sizes(self) -> Array:
        """Atoms of each frame [F]."""
        sizes = np.concatenate([part.sizes for part in self._parts])
        return sizes if self._indices is None else sizes[self._indices]

    def __getitem__(self, index: int) -> Data:
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of a data set of {len(self)} frames")
        index %= len(self)
        part, local = self._locate(index)
        frame = part.frame(local)
        sizes = len(frame["z"])
        structure = Data(
            z=torch.from_numpy(frame["z"].astype(np.int64)),
            pos=_tensor(frame["pos"]),
            cell=_tensor(frame["cell"]),
            pbc=_tensor(frame["pbc"]),
            charge=_tensor(frame["charge"]),
            spin=_tensor(frame["spin"]),
            frame=torch.tensor([index]),
            config_type=frame["config_type"],
        )
        for name, (per_atom, shape) in self.specs.items():
            rows = sizes if per_atom else 1
            values, mask = frame["labels"].get(name, (None, None))
            absent = values is None
            structure[name] = (
                torch.zeros(rows, *shape, dtype=torch.float64) if absent else _tensor(values)
            )
            if name in self.masked:
                structure[mask_name(name)] = (
                    torch.zeros(rows, dtype=torch.bool) if absent else _tensor(mask)
                )
        return structure

    def describe(self, index: int) -> str:
        """File and frame number there: 'train.xyz, frame 17'."""
        part, local = self._locate(int(index))
        return part.describe(local)

    def source_of(self, index: int) -> tuple[str, int]:
        """Source of a frame and its number there."""
        part, local = self._locate(int(index))
        return part.source_of(local)

    def subset(self, indices: Sequence[int] | Array) -> "StructureDataset":
        """Some of the frames as a data set of their own, numbered anew from 0."""
        return StructureDataset(
            self._parts, self.provenance, self._root(np.asarray(indices, dtype=np.int64))
        )

    def blocks(self, size: int = 4096) -> Iterator[Table]:
        """The frames in order as tables of up to `size` frames: for counting and fitting."""
        for start in range(0, len(self), size):
            yield self.table(np.arange(start, min(start + size, len(self))))

    def table(self, frames: Sequence[int] | Array | None = None) -> Table:
        """Some frames (or all) in memory as one table, with every label of the data set."""
        chosen = np.arange(len(self)) if frames is None else np.asarray(frames, dtype=np.int64)
        roots = self._root(chosen)
        owners = np.searchsorted(self._ends, roots, side="right")
        tables, places = [], []
        for k, part in enumerate(self._parts):
            places_here = np.flatnonzero(owners == k)
            if len(places_here):
                start = int(self._ends[k]) - len(part)
                tables.append(part.select(roots[places_here] - start))
                places.append(places_here)
        if not tables:
            raise ValueError("the data set holds no frames")
        if len(tables) == 1:
            return tables[0]
        joined = concatenate(tables)
        return joined.select(np.argsort(np.concatenate(places), kind="stable"))

    def geometry_hashes(self) -> Array:
        """[F] uint64, equal for equal geometries."""
        hashes = np.concatenate([part.geometry_hashes() for part in self._parts])
        return hashes[self._root(np.arange(len(self)))]

    def _root(self, indices: Array) -> Array:
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"frames {indices.min()} to {indices.max()} of {len(self)}")
        return indices if self._indices is None else self._indices[indices]

    def _locate(self, index: int) -> tuple[Part, int]:
        root = index if self._indices is None else int(self._indices[index])
        k = int(np.searchsorted(self._ends, root, side="right"))
        return self._parts[k], root - (int(self._ends[k]) - len(self._parts[k]))


def _tensor(array: Array) -> torch.Tensor:
    """A tensor of its own: changing a structure must not change the data set."""
    return torch.from_numpy(np.array(array))
