"""The HDF5 store: frames end to end in chunked columns with offsets, read one frame at a time.

Layout of version 1, everything in the package's units: `offsets` [F + 1], `z` and `pos` [A],
`cell`, `pbc`, `charge`, `spin`, `config`, `geometry_hash` [F], and for each label
`labels/<name>/values` and `mask`. Attributes: `format`, `version`, `provenance` (JSON),
`config_names`, `origin`, `sha256` (of the content).
"""

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dreibein.data.dataset import Spec
from dreibein.data.table import Array, Column, Table, concatenate

STORE_SUFFIXES = (".h5", ".hdf5")
FORMAT = "dreibein structures"
VERSION = 1

FRAME_COLUMNS: dict[str, tuple[tuple[int, ...], str]] = {
    "cell": ((3, 3), "f8"),
    "pbc": ((3,), "?"),
    "charge": ((), "f8"),
    "spin": ((), "i4"),
    "config": ((), "i4"),
    "geometry_hash": ((), "u8"),
}


def open_store(path: str | Path) -> "Store":
    """Open a store for reading; checks format and version.

    Raises:
        ValueError: The file is no store, is cut off, or is of a newer version.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not a whole HDF5 file ({error})") from error
    with file:
        kind, version = file.attrs.get("format"), int(file.attrs.get("version", 0))
        if kind != FORMAT:
            raise ValueError(
                f"{path}: an HDF5 file, but not a store of this package; make one with "
                "dreibein convert"
            )
        if version > VERSION:
            raise ValueError(
                f"{path}: store version {version} is newer than {VERSION}, the newest that this "
                "release reads; upgrade dreibein"
            )
    return Store(path)


class Store:
    """Frames of a store on disk; per-frame columns are held in memory, atoms are read when asked.

    The file is opened once per process, so a store may be shared with DataLoader workers.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._open: tuple[int, h5py.File] | None = None
        self._handles: dict[str, h5py.Dataset] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_open": None, "_handles": {}}

    @property
    def _file(self) -> h5py.File:
        if self._open is None or self._open[0] != os.getpid():
            self._open = (os.getpid(), h5py.File(self.path, "r"))
            self._handles = {}
        return self._open[1]

    def _rows(self, name: str, rows: slice) -> Array:
        """Rows of a column; its handle is looked up once per process."""
        file = self._file
        if name not in self._handles:
            self._handles[name] = file[name]
        return self._handles[name][rows]

    @cached_property
    def _frame_columns(self) -> dict[str, Array]:
        return {name: self._file[name][:] for name in ("offsets", *FRAME_COLUMNS)}

    @cached_property
    def _small_labels(self) -> dict[str, tuple[Array, Array]]:
        """Labels of frames, in memory; those of atoms stay on disk."""
        groups = self._file["labels"].items()
        return {n: (g["values"][:], g["mask"][:]) for n, g in groups if not g.attrs["per_atom"]}

    @cached_property
    def specs(self) -> dict[str, Spec]:
        """Column name -> (per atom, shape of one row)."""
        return {
            name: (bool(group.attrs["per_atom"]), tuple(group["values"].shape[1:]))
            for name, group in self._file["labels"].items()
        }

    @cached_property
    def incomplete(self) -> set[str]:
        """Columns with missing entries."""
        return {n for n, group in self._file["labels"].items() if not group["mask"][:].all()}

    @cached_property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur."""
        return tuple(int(z) for z in self._file.attrs["elements"])

    @cached_property
    def config_names(self) -> tuple[str, ...]:
        """Kinds of frame."""
        return tuple(self._json("config_names"))

    @cached_property
    def origin(self) -> tuple[tuple[str, int, int], ...]:
        """(source, first frame there, number of frames), in order."""
        return tuple((str(s), int(a), int(n)) for s, a, n in self._json("origin"))

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Provenance of the data that were written."""
        return dict(self._json("provenance"))

    @property
    def sizes(self) -> Array:
        """Atoms of each frame."""
        return np.diff(self._frame_columns["offsets"])

    def __len__(self) -> int:
        return len(self._frame_columns["offsets"]) - 1

    def frame(self, index: int) -> dict[str, Any]:
        """Everything about one frame, as `Table.frame`."""
        columns = self._frame_columns
        offsets = columns["offsets"]
        atoms = slice(int(offsets[index]), int(offsets[index + 1]))
        one = slice(index, index + 1)
        labels = {n: (values[one], mask[one]) for n, (values, mask) in self._small_labels.items()}
        for name, (per_atom, _) in self.specs.items():
            if per_atom:
                labels[name] = self._atom_label(name, atoms)
        return {
            "z": self._rows("z", atoms),
            "pos": self._rows("pos", atoms),
            "cell": columns["cell"][one],
            "pbc": columns["pbc"][one],
            "charge": columns["charge"][one],
            "spin": columns["spin"][one].astype(np.int64),
            "config_type": self.config_names[int(columns["config"][index])],
            "labels": labels,
        }

    def select(self, frames: Sequence[int] | Array) -> Table:
        """Some frames in memory; a run of consecutive frames is one read."""
        frames = np.asarray(frames, dtype=np.int64)
        if not len(frames):
            return self._span(0, 0)
        first, last = int(frames.min()), int(frames.max()) + 1
        if last - first <= 4 * len(frames):
            table = self._span(first, last)
            return (
                table
                if np.array_equal(frames, np.arange(first, last))
                else table.select(frames - first)
            )
        return concatenate([self._span(int(f), int(f) + 1) for f in frames])

    def source_of(self, index: int) -> tuple[str, int]:
        """Where a frame came from before it was stored: source and frame there."""
        ends = self._origin_ends
        k = int(np.searchsorted(ends, index, side="right"))
        source, start, count = self.origin[k]
        return source, start + index - (int(ends[k]) - count)

    def describe(self, index: int) -> str:
        """Store and frame, and where the frame came from."""
        source, frame = self.source_of(index)
        return f"{self.path}, frame {index} (from {source}, frame {frame})"

    @cached_property
    def _origin_ends(self) -> Array:
        return np.cumsum([count for _, _, count in self.origin])

    def geometry_hashes(self) -> Array:
        """[F] uint64, equal for equal geometries."""
        return self._frame_columns["geometry_hash"]

    def entry(self) -> dict[str, Any]:
        """Entry of `provenance["sources"]`."""
        written = self.provenance
        labels = {n: int(g["mask"][:].sum()) for n, g in self._file["labels"].items()}
        unit = {n: str(g.attrs["unit"]) for n, g in self._file["labels"].items()}
        return {
            "name": str(self.path),
            "kind": f"{FORMAT}, version {VERSION}",
            "sha256": str(self._file.attrs["sha256"]),
            "frames": len(self),
            "atoms": int(self._frame_columns["offsets"][-1]),
            "keys": {
                name: {
                    "key": name,
                    "place": "store",
                    "frames": self._frames_with(name),
                    "of": len(self),
                    "entries": entries,
                    "reason": "found in the store",
                }
                for name, entries in labels.items()
            },
            "units": {
                name: {"unit": u, "converted_to": u, "factor": 1.0, "reason": "store"}
                for name, u in {"length": "Å", **unit}.items()
            },
            "unused_keys": {},
            "level_of_theory": written.get("level_of_theory"),
            "written_from": written.get("sources", []),
        }

    def _frames_with(self, name: str) -> int:
        mask = self._file["labels"][name]["mask"][:]
        if not self.specs[name][0]:
            return int(mask.sum())
        starts = self._frame_columns["offsets"][:-1]
        return int(np.logical_or.reduceat(mask, starts).sum()) if len(mask) else 0

    def _span(self, first: int, last: int) -> Table:
        columns = self._frame_columns
        offsets = columns["offsets"][first : last + 1]
        atoms = slice(int(offsets[0]), int(offsets[-1]))
        labels = {}
        for name, (per_atom, _) in self.specs.items():
            if per_atom:
                labels[name] = Column(*self._atom_label(name, atoms), True)
            else:
                values, mask = self._small_labels[name]
                labels[name] = Column(values[first:last], mask[first:last], False)
        return Table(
            offsets=offsets - offsets[0],
            z=self._rows("z", atoms),
            pos=self._rows("pos", atoms),
            cell=columns["cell"][first:last],
            pbc=columns["pbc"][first:last],
            charge=columns["charge"][first:last],
            spin=columns["spin"][first:last].astype(np.int64),
            config=columns["config"][first:last],
            config_names=self.config_names,
            columns=labels,
        )

    def _atom_label(self, name: str, atoms: slice) -> tuple[Array, Array]:
        """Values and mask of a label of atoms; a mask without gaps is not read."""
        full = name not in self.incomplete
        mask = np.ones(atoms.stop - atoms.start, dtype=bool)
        return (
            self._rows(f"labels/{name}/values", atoms),
            mask if full else self._rows(f"labels/{name}/mask", atoms),
        )

    def _json(self, name: str) -> Any:
        return json.loads(self._file[name][()])
