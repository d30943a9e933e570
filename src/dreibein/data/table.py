"""Frames of a data set as columns: atoms of all frames end to end, with offsets."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Array = np.ndarray

# Geometries are compared after rounding to this many decimals of an Å.
GEOMETRY_DECIMALS = 5


@dataclass(frozen=True)
class Column:
    """One label of all frames, in the package's units.

    Attributes:
        values: [atoms, ...] if `per_atom`, else [frames, ...]; zero where missing.
        mask: [atoms] or [frames], False where missing.
        per_atom: Whether rows are atoms.
    """

    values: Array
    mask: Array
    per_atom: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.values.shape[1:]


@dataclass(frozen=True)
class Table:
    """Frames in memory; row f of atom-wise columns spans `offsets[f]:offsets[f + 1]`.

    Attributes:
        offsets: [F + 1] first atom of each frame.
        z: [A] atomic numbers (uint8).
        pos: [A, 3] Å.
        cell: [F, 3, 3] Å, rows are vectors, zeros where there is none.
        pbc: [F, 3] bool.
        charge: [F] e.
        spin: [F] multiplicity.
        config: [F] index into `config_names`.
        config_names: Kinds of frame; the first is the empty string.
        columns: Labels (and inputs such as external_field) by name.
        origin: (source, first frame there, number of frames), in order.
    """

    offsets: Array
    z: Array
    pos: Array
    cell: Array
    pbc: Array
    charge: Array
    spin: Array
    config: Array
    config_names: tuple[str, ...] = ("",)
    columns: Mapping[str, Column] = field(default_factory=dict)
    origin: tuple[tuple[str, int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_atoms(self) -> int:
        """Atoms of all frames together."""
        return int(self.offsets[-1])

    @property
    def sizes(self) -> Array:
        """Atoms of each frame [F]."""
        return np.diff(self.offsets)

    @property
    def owner(self) -> Array:
        """Frame of each atom [A]."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        return tuple(int(z) for z in np.unique(self.z))

    @property
    def specs(self) -> dict[str, tuple[bool, tuple[int, ...]]]:
        """Column name -> (per atom, shape of one row)."""
        return {name: (c.per_atom, c.shape) for name, c in self.columns.items()}

    @property
    def incomplete(self) -> set[str]:
        """Columns with at least one missing entry."""
        return {name for name, c in self.columns.items() if not c.mask.all()}

    def frame(self, index: int) -> dict[str, Any]:
        """Everything about one frame, labels as (values, mask) with a leading axis."""
        atoms = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        one = slice(index, index + 1)
        labels = {
            name: (c.values[atoms], c.mask[atoms]) if c.per_atom else (c.values[one], c.mask[one])
            for name, c in self.columns.items()
        }
        return {
            "z": self.z[atoms],
            "pos": self.pos[atoms],
            "cell": self.cell[one],
            "pbc": self.pbc[one],
            "charge": self.charge[one],
            "spin": self.spin[one],
            "config_type": self.config_names[int(self.config[index])],
            "labels": labels,
        }

    def select(self, frames: Sequence[int] | Array) -> "Table":
        """The given frames, in the given order."""
        frames = np.asarray(frames, dtype=np.int64)
        sizes = self.sizes[frames]
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        atoms = np.repeat(self.offsets[frames] - offsets[:-1], sizes) + np.arange(offsets[-1])
        columns = {}
        for name, c in self.columns.items():
            rows = atoms if c.per_atom else frames
            columns[name] = Column(c.values[rows], c.mask[rows], c.per_atom)
        return replace(
            self,
            offsets=offsets,
            z=self.z[atoms],
            pos=self.pos[atoms],
            cell=self.cell[frames],
            pbc=self.pbc[frames],
            charge=self.charge[frames],
            spin=self.spin[frames],
            config=self.config[frames],
            columns=columns,
            origin=(),
        )

    def source_of(self, index: int) -> tuple[str, int]:
        """Source of a frame and its number there."""
        for source, start, count in self.origin:
            if index < count:
                return source, start + index
            index -= count
        return "memory", index

    def describe(self, index: int) -> str:
        """Source and frame number there, as in 'train.xyz, frame 17'."""
        source, frame = self.source_of(index)
        return f"{source}, frame {frame}"

    def geometry_hashes(self) -> Array:
        """[F] uint64: equal for equal elements, positions (to 1e-5 Å), cell, charge and field."""
        pos = np.round(self.pos, GEOMETRY_DECIMALS) + 0.0  # -0.0 becomes 0.0
        cell = np.round(self.cell, GEOMETRY_DECIMALS) + 0.0
        state = [cell.reshape(len(self), 9), self.pbc, self.charge[:, None], self.spin[:, None]]
        if "external_field" in self.columns:
            state.append(np.round(self.columns["external_field"].values, 8) + 0.0)
        rows = np.ascontiguousarray(np.concatenate(state, axis=1, dtype=np.float64))
        numbers = np.ascontiguousarray(self.z, dtype=np.uint8)
        hashes = np.empty(len(self), dtype=np.uint64)
        for f, (a, b) in enumerate(zip(self.offsets[:-1], self.offsets[1:])):
            digest = hashlib.blake2b(digest_size=8)
            digest.update(numbers[a:b].tobytes())
            digest.update(pos[a:b].tobytes())
            digest.update(rows[f].tobytes())
            hashes[f] = int.from_bytes(digest.digest(), "little")
        return hashes

    def compositions(self) -> tuple[Array, tuple[int, ...]]:
        """Atoms of each element in each frame [F, elements], and the elements."""
        elements = np.unique(self.z)
        column = np.searchsorted(elements, self.z)
        counts = np.zeros((len(self), len(elements)), dtype=np.int64)
        np.add.at(counts, (self.owner, column), 1)
        return counts, tuple(int(z) for z in elements)


def concatenate(tables: Sequence[Table]) -> Table:
    """One table of several; labels that a table lacks are masked there."""
    if len(tables) == 1:
        return tables[0]
    names = list(dict.fromkeys(name for t in tables for name in t.columns))
    specs = common_specs([(t.specs, t.describe(0)) for t in tables])
    config_names = tuple(dict.fromkeys(("", *(n for t in tables for n in t.config_names))))
    codes = {name: k for k, name in enumerate(config_names)}
    starts = np.cumsum([0] + [t.num_atoms for t in tables])
    columns = {}
    for name in names:
        per_atom, shape = specs[name]
        pieces = [t.columns.get(name) or _absent(t, per_atom, shape) for t in tables]
        columns[name] = Column(
            np.concatenate([p.values for p in pieces]),
            np.concatenate([p.mask for p in pieces]),
            per_atom,
        )
    return Table(
        offsets=np.concatenate([[0], *(t.offsets[1:] + s for t, s in zip(tables, starts))]),
        z=np.concatenate([t.z for t in tables]),
        pos=np.concatenate([t.pos for t in tables]),
        cell=np.concatenate([t.cell for t in tables]),
        pbc=np.concatenate([t.pbc for t in tables]),
        charge=np.concatenate([t.charge for t in tables]),
        spin=np.concatenate([t.spin for t in tables]),
        config=np.concatenate(
            [np.array([codes[n] for n in t.config_names], dtype=np.int32)[t.config] for t in tables]
        ),
        config_names=config_names,
        columns=columns,
        origin=tuple(o for t in tables for o in t.origin),
    )


def common_specs(
    parts: Sequence[tuple[Mapping[str, tuple[bool, tuple[int, ...]]], str]],
) -> dict[str, tuple[bool, tuple[int, ...]]]:
    """Union of the columns' scopes and shapes over parts, each given with a name for messages.

    Raises:
        ValueError: A label has two different shapes.
    """
    merged: dict[str, tuple[bool, tuple[int, ...]]] = {}
    seen: dict[str, str] = {}
    for specs, where in parts:
        for name, spec in specs.items():
            if merged.setdefault(name, spec) != spec:
                raise ValueError(
                    f"label '{name}' is {_spell(merged[name])} in {seen[name]} "
                    f"but {_spell(spec)} in {where}: load them apart or under different names"
                )
            seen.setdefault(name, where)
    return merged


def fingerprint(table: Table) -> str:
    """sha256 of a table's numbers, whatever file they came from."""
    digest = hashlib.sha256()
    for name in ("offsets", "z", "pos", "cell", "pbc", "charge", "spin"):
        digest.update(np.ascontiguousarray(getattr(table, name)).tobytes())
    for name in sorted(table.columns):
        column = table.columns[name]
        digest.update(json.dumps([name, column.per_atom, list(column.shape)]).encode())
        digest.update(np.ascontiguousarray(column.values).tobytes())
        digest.update(np.ascontiguousarray(column.mask).tobytes())
    return digest.hexdigest()


def _absent(table: Table, per_atom: bool, shape: tuple[int, ...]) -> Column:
    rows = table.num_atoms if per_atom else len(table)
    return Column(np.zeros((rows, *shape)), np.zeros(rows, dtype=bool), per_atom)


def _spell(spec: tuple[bool, tuple[int, ...]]) -> str:
    per_atom, shape = spec
    size = "x".join(str(n) for n in shape) or "one number"
    return f"{size} per {'atom' if per_atom else 'frame'}"
