"""Writing the HDF5 store: tables appended column by column, the whole file renamed at the end."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from dreibein.data.dataset import StructureDataset
from dreibein.data.store import FORMAT, FRAME_COLUMNS, STORE_SUFFIXES, VERSION
from dreibein.data.table import Array, Column, Table, fingerprint
from dreibein.systems import FIELDS, atomic_path

_CHUNK_ROWS = 4096
_ATOM_COLUMNS: dict[str, tuple[tuple[int, ...], str]] = {"z": ((), "u1"), "pos": ((3,), "f8")}


class StoreWriter:
    """Appends tables to a store that is being written; use `write_hdf5` unless data are huge."""

    def __init__(self, path: Path) -> None:
        self._file = h5py.File(path, "w")
        self._file.create_dataset("offsets", (1,), "i8", maxshape=(None,), chunks=(_CHUNK_ROWS,))
        for name, (shape, dtype) in {**FRAME_COLUMNS, **_ATOM_COLUMNS}.items():
            self._create(name, shape, dtype)
        self._labels = self._file.create_group("labels")
        self._frames = 0
        self._atoms = 0
        self._config: dict[str, int] = {"": 0}
        self._origin: list[tuple[str, int, int]] = []
        self._digest = hashlib.sha256()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, table: Table, origin: Sequence[tuple[str, int, int]] = ()) -> None:
        """Add frames; labels that earlier frames lacked are masked there."""
        codes = np.array(
            [self._config.setdefault(n, len(self._config)) for n in table.config_names]
        )
        frame_columns = {
            "cell": table.cell,
            "pbc": table.pbc,
            "charge": table.charge,
            "spin": table.spin,
            "config": codes[table.config],
            "geometry_hash": table.geometry_hashes(),
        }
        frames, atoms = self._frames + len(table), self._atoms + table.num_atoms
        _extend(self._file["offsets"], self._frames + 1, table.offsets[1:] + self._atoms)
        for name, values in frame_columns.items():
            _extend(self._file[name], self._frames, values)
        _extend(self._file["z"], self._atoms, table.z)
        _extend(self._file["pos"], self._atoms, table.pos)
        for name, column in table.columns.items():
            group = self._label_group(name, column)
            start = self._atoms if column.per_atom else self._frames
            _extend(group["values"], start, column.values)
            _extend(group["mask"], start, column.mask)
        self._frames, self._atoms = frames, atoms
        for group in self._labels.values():  # labels that this table lacks
            rows = atoms if group.attrs["per_atom"] else frames
            group["values"].resize(rows, axis=0)
            group["mask"].resize(rows, axis=0)
        self._origin.extend(origin or table.origin)
        self._digest.update(fingerprint(table).encode())

    def finish(self, provenance: dict[str, Any]) -> None:
        """Write what describes the whole."""
        attributes = self._file.attrs
        attributes["format"] = FORMAT
        attributes["version"] = VERSION
        attributes["sha256"] = self._digest.hexdigest()
        attributes["elements"] = np.unique(self._file["z"][:])
        # Datasets, not attributes: HDF5 limits attributes to 64 kB.
        for name, value in (
            ("provenance", provenance),
            ("config_names", list(self._config)),
            ("origin", self._origin),
        ):
            self._file.create_dataset(name, data=json.dumps(value, ensure_ascii=False))

    def _create(self, name: str, shape: tuple[int, ...], dtype: str, **more: Any) -> h5py.Dataset:
        return self._file.create_dataset(
            name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(_CHUNK_ROWS, *shape), **more
        )

    def _label_group(self, name: str, column: Column) -> h5py.Group:
        if name in self._labels:
            group = self._labels[name]
            if (bool(group.attrs["per_atom"]), group["values"].shape[1:]) != (
                column.per_atom,
                column.shape,
            ):
                raise ValueError(
                    f"label '{name}' changes its shape between sources from "
                    f"{group['values'].shape[1:]} to {column.shape}: load them apart"
                )
            return group
        self._create(f"labels/{name}/values", column.shape, "f8")
        self._create(f"labels/{name}/mask", (), "?", compression="gzip", compression_opts=1)
        group = self._labels[name]
        group.attrs["per_atom"] = column.per_atom
        group.attrs["unit"] = FIELDS[name].unit if name in FIELDS else ""
        return group


def write_hdf5(dataset: StructureDataset, path: str | Path) -> Path:
    """Write a data set as a store, whole or not at all.

    Args:
        dataset: Any data set, larger than memory too.
        path: File name ending in .h5 or .hdf5.
    """
    path = Path(path)
    check_suffix(path)
    with atomic_path(path) as side, StoreWriter(side) as writer:
        start = 0
        for table in dataset.blocks():
            stop = start + len(table)
            writer.append(table, runs(dataset, start, stop))
            start = stop
        writer.finish(dataset.provenance)
    return path


def check_suffix(path: Path) -> None:
    """Refuse a store name that would not be recognized when read."""
    if path.suffix not in STORE_SUFFIXES:
        raise ValueError(f"'{path}': a store's name ends in .h5 or .hdf5")


def _extend(dataset: h5py.Dataset, start: int, values: Array) -> None:
    """Write rows from `start` on; rows between the end and `start` become zero (absent)."""
    dataset.resize(start + len(values), axis=0)
    dataset[start:] = values


def runs(dataset: StructureDataset, start: int, stop: int) -> list[tuple[str, int, int]]:
    """Runs of consecutive frames of one source among frames `start` to `stop`."""
    found: list[tuple[str, int, int]] = []
    for index in range(start, stop):
        source, frame = dataset.source_of(index)
        if found and found[-1][0] == source and found[-1][1] + found[-1][2] == frame:
            found[-1] = (source, found[-1][1], found[-1][2] + 1)
        else:
            found.append((source, frame, 1))
    return found
