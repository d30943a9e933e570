"""Arrays in the style of MD17, rMD17 and sGDML: one molecule, many frames, any casing of names."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from dreibein.data.names import is_conventional
from dreibein.data.raw import RawColumn, RawSource, hash_file
from dreibein.data.table import Array

_NUMBER_NAMES = ("nuclear_charges", "atomic_numbers", "numbers", "species", "z")
_POSITION_NAMES = ("coords", "coordinates", "positions", "pos", "r", "xyz")
_CELL_NAMES = ("cell", "cells", "lattice", "box")
_PBC_NAMES = ("pbc",)
_UNIT_NAMES = {
    "e_unit": "energy",
    "r_unit": "length",
    "energy_unit": "energy",
    "energy_units": "energy",
    "length_unit": "length",
    "length_units": "length",
    "force_unit": "forces",
    "forces_unit": "forces",
}
# Energy and force names of the published MD17, rMD17 and sGDML files: these are in kcal/mol and Å.
_MD17_STYLES = ({"z", "r", "e", "f"}, {"nuclear_charges", "coords", "energies", "forces"})


def read_npz(
    name: str, wanted: Iterable[str] = (), keys: Mapping[str, str] | None = None
) -> RawSource:
    """Frames of one composition from an npz file.

    Args:
        name: File.
        wanted: Keys to keep beside the conventional names.
        keys: May name 'z', 'pos' and 'cell' where their names are unusual.

    Raises:
        ValueError: Elements or positions are not found or do not fit; names the arrays present.
    """
    path = Path(name)
    arrays = _load(path)
    lows = {key.lower(): key for key in arrays}
    keys = keys or {}
    z = _geometry(path, arrays, lows, keys.get("z"), _NUMBER_NAMES, "atomic numbers", "z")
    pos = _geometry(path, arrays, lows, keys.get("pos"), _POSITION_NAMES, "positions", "pos")
    if pos.ndim == 2:
        pos = pos[None]
    if pos.ndim != 3 or pos.shape[2] != 3:
        raise ValueError(f"{path}: positions have shape {pos.shape}, expected [frames, atoms, 3]")
    frames, atoms = pos.shape[:2]
    z = np.asarray(z, dtype=np.int64)
    z = np.broadcast_to(z, (frames, atoms)) if z.shape[-1:] == (atoms,) and z.ndim < 3 else z
    if z.shape != (frames, atoms):
        raise ValueError(
            f"{path}: {z.shape} atomic numbers do not fit {atoms} atoms in {frames} frames"
        )
    cell, pbc = _cells(arrays, lows, keys.get("cell"), frames)
    columns, others = _columns(arrays, frames, frozenset(wanted))
    text = {key.lower(): _text(value) for key, value in arrays.items()}
    units = {label: text[low] for low, label in _UNIT_NAMES.items() if text.get(low)}
    if "forces" not in units and {"energy", "length"} <= set(units):
        units["forces"] = f"{units['energy']}/{units['length']}"
    md17 = any(style <= set(lows) for style in _MD17_STYLES)
    return RawSource(
        name=name,
        kind="npz",
        sha256=hash_file(path),
        offsets=np.arange(frames + 1) * atoms,
        z=z.reshape(-1).astype(np.uint8),
        pos=pos.reshape(-1, 3).astype(np.float64),
        cell=cell,
        pbc=pbc,
        config=[""] * frames,
        columns=columns,
        others=others,
        first_keys=list(arrays),
        written_units=units,
        convention={"length": "Å", "energy": "kcal/mol"} if md17 else {"length": "Å"},
        convention_reason="convention of MD17 files: kcal/mol, Å" if md17 else "Å assumed",
        level_of_theory=text.get("level_of_theory") or text.get("theory") or None,
    )


def _load(path: Path) -> dict[str, Array]:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise ValueError(f"{path}: not a whole npz file ({error})") from error
    except ValueError as error:
        raise ValueError(
            f"{path}: holds pickled objects, which are not loaded; save plain arrays"
            if "allow_pickle" in str(error)
            else f"{path}: not an npz file ({error})"
        ) from error


def _geometry(
    path: Path,
    arrays: dict[str, Array],
    lows: dict[str, str],
    explicit: str | None,
    names: tuple[str, ...],
    what: str,
    option: str,
) -> Array:
    key = explicit or next((lows[n] for n in names if n in lows), None)
    if key is None or key not in arrays:
        wanted = f"'{explicit}'" if explicit else f"any of {', '.join(names)}"
        raise ValueError(
            f"{path}: no array of {what} ({wanted}); the file has {', '.join(arrays)}; "
            f"name it: --key {option}=KEY"
        )
    return arrays[key]


def _cells(
    arrays: dict[str, Array], lows: dict[str, str], explicit: str | None, frames: int
) -> tuple[Array, Array]:
    key = explicit or next((lows[n] for n in _CELL_NAMES if n in lows), None)
    if key is None:
        return np.zeros((frames, 3, 3)), np.zeros((frames, 3), dtype=bool)
    cell = np.asarray(arrays[key], dtype=np.float64)
    if cell.shape[-1:] == (3,) and cell.shape[-2:] != (3, 3):
        cell = cell[..., None] * np.eye(3)
    cell = np.ascontiguousarray(np.broadcast_to(cell, (frames, 3, 3)))
    flags = next((arrays[lows[n]] for n in _PBC_NAMES if n in lows), np.array(True))
    pbc = np.ascontiguousarray(np.broadcast_to(np.asarray(flags, dtype=bool), (frames, 3)))
    return cell, pbc


def _columns(
    arrays: dict[str, Array], frames: int, wanted: frozenset[str]
) -> tuple[dict[tuple[str, str], RawColumn], dict[tuple[str, str], int]]:
    """Arrays with one row a frame that may be labels, and the names of the rest."""
    columns: dict[tuple[str, str], RawColumn] = {}
    others: dict[tuple[str, str], int] = {}
    everywhere = np.arange(frames)
    geometry = {*_NUMBER_NAMES, *_POSITION_NAMES, *_CELL_NAMES, *_PBC_NAMES, *_UNIT_NAMES}
    for key, array in arrays.items():
        numeric = array.dtype.kind in "fiu"
        per_frame = array.ndim > 0 and array.shape[0] == frames
        asked = key in wanted
        low = key.lower()
        if numeric and per_frame and (asked or is_conventional(low) or low == "energies"):
            columns["npz", key] = RawColumn("npz", key, everywhere, array)
        elif low not in geometry and per_frame:
            others["npz", key] = frames
    return columns, others


def _text(value: Array) -> str:
    """A string stored in an npz file, '' where it is none."""
    if value.ndim == 0 and value.dtype.kind in "US":
        item = value.item()
        return item.decode() if isinstance(item, bytes) else str(item)
    return ""
