"""One source as it was read: geometry, and every candidate value under its own key and place."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from dreibein.data.names import CONFIG_NAMES, LEVEL_NAMES, is_conventional

Array = np.ndarray
Place = str  # "results" (ASE calculator), "info", "arrays" or "npz"

_GEOMETRY = frozenset({"numbers", "positions"})


@dataclass
class RawColumn:
    """Values of one key; `rows[k]` belongs to frame `frames[k]`."""

    place: Place
    key: str
    frames: Array
    rows: list[Array] | Array


@dataclass
class RawSource:
    """All frames of one file or named data set, units and labels not yet interpreted.

    Attributes:
        name: What the user called it.
        kind: Format in words.
        sha256: Hash of the file ('' where there is none).
        columns: Candidate values by (place, key).
        others: Keys present but not kept, with the number of frames that have them.
        first_keys: Keys of frame 0, for messages.
        written_units: Label, key or 'length' -> unit, as stated in the file.
        convention: The same by the format's habit; empty where it has none.
        convention_reason: Where that habit comes from.
        aliases: Label -> key, where the format fixes it.
    """

    name: str
    kind: str
    sha256: str
    offsets: Array
    z: Array
    pos: Array
    cell: Array
    pbc: Array
    config: list[str]
    columns: dict[tuple[Place, str], RawColumn]
    others: dict[tuple[Place, str], int] = field(default_factory=dict)
    first_keys: list[str] = field(default_factory=list)
    written_units: dict[str, str] = field(default_factory=dict)
    convention: dict[str, str] = field(default_factory=dict)
    convention_reason: str = ""
    aliases: dict[str, str] = field(default_factory=dict)
    level_of_theory: str | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def all_keys(self) -> list[str]:
        """Every key of any frame."""
        pairs = [*self.columns, *self.others]
        return list(dict.fromkeys(key for _, key in pairs))


class Collector:
    """Gathers ASE frames into a `RawSource`, keeping only values that may be wanted.

    Args:
        name: What messages call the source.
        wanted: Keys to keep beside the conventional names (the user's).
        config_key: Info key that tells the kind of frame, instead of the usual ones.
    """

    def __init__(
        self, name: str, wanted: Iterable[str] = (), config_key: str | None = None
    ) -> None:
        self.name = name
        self._wanted = frozenset(wanted)
        self._config_names = (config_key,) if config_key else CONFIG_NAMES
        self._atoms: list[tuple[Array, Array, Array, Array]] = []
        self._config: list[str] = []
        self._columns: dict[tuple[Place, str], tuple[list[int], list[Array]]] = {}
        self._others: dict[tuple[Place, str], int] = {}
        self._units: dict[str, tuple[str, int]] = {}
        self._levels: dict[str, None] = {}
        self._first_keys: list[str] = []

    def __len__(self) -> int:
        return len(self._atoms)

    def add(self, atoms: Atoms, extra: Mapping[str, Any] | None = None) -> None:
        """Take one frame; `extra` holds more per-frame entries (those of an ASE database)."""
        frame = len(self._atoms)
        self._atoms.append(
            (atoms.numbers, atoms.get_positions(), atoms.cell.array.copy(), atoms.pbc.copy())
        )
        info = {**atoms.info, **(extra or {})}
        self._config.append(next((str(info[n]) for n in self._config_names if n in info), ""))
        results = getattr(atoms.calc, "results", None) or {}
        for place, values in (("results", results), ("info", info), ("arrays", atoms.arrays)):
            for key, value in values.items():
                if key not in _GEOMETRY and value is not None:
                    self._take(place, str(key), value, frame)

    def _take(self, place: Place, key: str, value: Any, frame: int) -> None:
        low = key.lower()
        if frame == 0 and key not in self._first_keys:
            self._first_keys.append(key)
        if isinstance(value, str):
            if low.endswith(("_unit", "_units")):
                self._note_unit(low.rsplit("_", 1)[0], value, frame)
            elif low in LEVEL_NAMES:
                self._levels[value] = None
        if key in self._wanted or is_conventional(low):
            array = _numeric(value)
            if array is not None:
                frames, rows = self._columns.setdefault((place, key), ([], []))
                frames.append(frame)
                rows.append(array)
                return
        self._others[place, key] = self._others.get((place, key), 0) + 1

    def _note_unit(self, label: str, unit: str, frame: int) -> None:
        known, first = self._units.setdefault(label, (unit, frame))
        if known != unit:
            raise ValueError(
                f"{self.name}: mixed units: {label} is in {known} in frame {first} but in {unit} "
                f"in frame {frame}; convert the parts apart (dreibein convert) and join them"
            )

    def finish(self, kind: str, sha256: str, **more: Any) -> RawSource:
        """The source; further fields of `RawSource` as keywords."""
        if not self._atoms:
            raise ValueError(f"{self.name} holds no frames")
        numbers, positions, cells, pbc = zip(*self._atoms)
        units = {label: unit for label, (unit, _) in self._units.items()}
        return RawSource(
            name=self.name,
            kind=kind,
            sha256=sha256,
            offsets=np.concatenate(([0], np.cumsum([len(n) for n in numbers]))),
            z=np.concatenate(numbers).astype(np.uint8),
            pos=np.concatenate(positions).astype(np.float64),
            cell=np.stack(cells).astype(np.float64),
            pbc=np.stack(pbc).astype(bool),
            config=self._config,
            columns={
                pair: RawColumn(*pair, np.array(frames), rows)
                for pair, (frames, rows) in self._columns.items()
            },
            others=self._others,
            first_keys=self._first_keys,
            written_units=more.pop("written_units", {}) | units,
            level_of_theory="; ".join(self._levels) or None,
            **more,
        )


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _numeric(value: Any) -> Array | None:
    """The value as float64, or None where it is not numbers."""
    try:
        array = np.asarray(value)
    except ValueError:  # ragged lists
        return None
    if array.dtype.kind not in "fiu":
        return None
    return array.astype(np.float64)
