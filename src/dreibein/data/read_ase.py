"""Everything that ASE reads: extxyz, trajectories, outputs of codes, and ASE databases."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError

from dreibein.data.raw import Collector, RawSource, hash_file

Progress = Callable[[int, int, str], None]

_CONVENTION = {"length": "Å", "energy": "eV"}
_REASON = "convention of ASE formats: eV, Å"
_DATABASES = (".db", ".json")
_REPORT_EVERY = 200


def read_ase(
    name: str,
    wanted: Iterable[str] = (),
    config_key: str | None = None,
    progress: Progress | None = None,
) -> RawSource:
    """All frames of a file in any format of ASE; 'file@::10' takes every tenth.

    Args:
        name: File, with ASE's own '@start:stop:step' at will.
        wanted: Keys to keep beside the conventional names.
        config_key: Info key that tells the kind of frame, instead of the usual ones.
        progress: Called with the number of frames so far.

    Raises:
        ValueError: The format is unknown, or a frame cannot be read; names file and frame.
    """
    path = file_of(name)
    collector = Collector(name, wanted, config_key)
    units: dict[str, str] = {}
    if path.suffix in _DATABASES:
        units = _read_database(path, collector, progress)
        kind = "ASE database"
    else:
        for atoms in _frames(name):
            _add(collector, atoms, progress)
        kind = f"ASE {path.suffix.lstrip('.') or path.name}"
    return collector.finish(
        kind,
        hash_file(path),
        convention=_CONVENTION,
        convention_reason=_REASON,
        written_units=units,
    )


def last_frame(name: str) -> Atoms:
    """Last frame of a file, or the one that 'file@index' names."""
    frame: Atoms | None = None
    if "@" not in name:
        with contextlib.suppress(Exception):  # the frame-wise reader below says where it breaks
            frame = cast(Atoms, ase.io.read(name))  # ASE seeks the end where the format allows
    if frame is None:
        for following in _frames(name):
            frame = following
    if frame is None:
        raise ValueError(f"{name}: holds no frames")
    return frame


def file_of(name: str) -> Path:
    """The file in 'file' or 'file@slice'."""
    path = Path(name)
    if not path.exists() and "@" in path.name:
        path = Path(name.rpartition("@")[0])
    return path


def _frames(name: str) -> Iterator[Atoms]:
    """Frames one by one; errors of ASE become one sentence with the frame's number."""
    number = 0
    try:
        for atoms in ase.io.iread(name):
            yield atoms
            number += 1
    except UnknownFileTypeError as error:
        raise ValueError(
            f"{name}: not a format that ASE knows; give extxyz, .npz, .h5, .db or another of "
            "its formats"
        ) from error
    except (OSError, ValueError, KeyError, IndexError, AssertionError, TypeError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{name}: frame {number} cannot be read ({detail}); the file may be cut off there"
        ) from error


def _add(
    collector: Collector,
    atoms: Atoms,
    progress: Progress | None,
    extra: dict[str, Any] | None = None,
) -> None:
    collector.add(atoms, extra)
    if progress is not None and len(collector) % _REPORT_EVERY == 0:
        progress(len(collector), 0, "frames")


def _read_database(path: Path, collector: Collector, progress: Progress | None) -> dict[str, str]:
    """Rows of an ASE database, key-value pairs and data included; returns the units it states."""
    from ase.db import connect

    try:
        database = connect(path, use_lock_file=False)
        for row in database.select():
            _add(collector, row.toatoms(), progress, {**row.key_value_pairs, **row.data})
        metadata = database.metadata
    except (KeyError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not an ASE database ({error})") from error
    except Exception as error:
        if type(error).__module__ == "sqlite3":
            raise ValueError(f"{path}: not an ASE database ({error})") from error
        raise
    units = dict(metadata.get("_property_unit_dict", {}))
    if "_distance_unit" in metadata:
        units["length"] = metadata["_distance_unit"]
    return {key: unit for key, unit in units.items() if unit}
