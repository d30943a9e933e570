"""From raw values to columns: shapes, units, stress convention, masks, NaN."""

from collections.abc import Sequence

import numpy as np

from dreibein.data.config import StressConvention
from dreibein.data.raw import RawColumn, RawSource
from dreibein.data.table import Array, Column
from dreibein.systems import FIELDS

_MATRICES = frozenset(name for name, field in FIELDS.items() if field.shape == (3, 3))
# Relative asymmetry of a stress above which the reader says so.
_ASYMMETRY = 1e-3


def assemble(
    raw: RawSource,
    label: str,
    column: RawColumn,
    factor: float,
    convention: StressConvention,
    *,
    allow_nan: bool,
) -> tuple[Column, list[str], list[str]]:
    """A label's column in the package's units.

    Returns:
        The column, refusals (NaN) and notes.

    Raises:
        ValueError: A value has the wrong number of entries.
    """
    per_atom, shape = _scope(raw, label, column)
    if label == "hessian":
        rows = _hessians(raw, column)
    elif label in _MATRICES:
        rows = _matrices(raw, label, column, convention)
    else:
        rows = _rows(raw, label, column, per_atom, shape)
    sizes = np.diff(raw.offsets)
    owners = np.repeat(column.frames, sizes[column.frames]) if per_atom else column.frames
    total = int(raw.offsets[-1]) if per_atom else len(raw)
    index = _atoms_of(raw, column.frames) if per_atom else column.frames
    values = np.zeros((total, *rows.shape[1:]))
    mask = np.zeros(total, dtype=bool)
    values[index] = rows * factor
    mask[index] = True
    notes = [_symmetrize(raw, label, values)] if label in ("stress", "virial") else []
    if label == "stress" and convention.sign == "compression":
        values = -values + 0.0
    refusals: list[str] = []
    bad = ~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
    if bad.any():
        spoiled = index[bad]
        values[spoiled] = 0.0
        mask[spoiled] = False
        frames = np.unique(owners[bad])
        sentence = _nan_sentence(raw, label, column.key, frames, bool(per_atom), int(bad.sum()))
        (notes if allow_nan else refusals).append(sentence)
    return Column(values, mask, per_atom), refusals, [n for n in notes if n]


def stress_from_virial(virial: Column, cell: Array) -> Column:
    """``stress = -virial / V``; masked where there is no volume.

    Args:
        virial: eV, [frames, 3, 3].
        cell: [frames, 3, 3] Å.
    """
    volume = np.abs(np.linalg.det(cell))
    mask = virial.mask & (volume > 0.0)
    values = np.zeros_like(virial.values)
    values[mask] = -virial.values[mask] / volume[mask, None, None]
    return Column(values, mask, False)


def check_geometry(raw: RawSource) -> None:
    """Refuse positions or cells that are not finite, and atomic numbers out of range."""
    bad = ~np.isfinite(raw.pos).all(axis=1)
    if bad.any():
        atom = int(np.flatnonzero(bad)[0])
        frame = int(np.searchsorted(raw.offsets, atom, side="right") - 1)
        raise ValueError(
            f"{raw.name}, frame {frame}: the position of atom {atom - int(raw.offsets[frame])} "
            "is NaN or infinite; remove the frame"
        )
    flat = ~np.isfinite(raw.cell).all(axis=(1, 2))
    if flat.any():
        frame = int(np.flatnonzero(flat)[0])
        raise ValueError(
            f"{raw.name}, frame {frame}: the cell contains NaN or infinity; remove the frame"
        )
    if (raw.z == 0).any():
        atom = int(np.flatnonzero(raw.z == 0)[0])
        frame = int(np.searchsorted(raw.offsets, atom, side="right") - 1)
        raise ValueError(
            f"{raw.name}, frame {frame}: atom {atom - int(raw.offsets[frame])} has no element "
            "(atomic number 0); remove dummy atoms"
        )


def per_frame_numbers(raw: RawSource, names: Sequence[str], default: float) -> Array:
    """One number a frame under the first of the names that occurs (total charge, spin)."""
    values = np.full(len(raw), default)
    for name in reversed(names):
        for (place, key), column in raw.columns.items():
            if key.lower() != name.lower() or place == "arrays" or np.size(column.rows[0]) != 1:
                continue
            values[column.frames] = [float(np.ravel(row)[0]) for row in column.rows]
    return values


def _scope(raw: RawSource, label: str, column: RawColumn) -> tuple[bool, tuple[int, ...]]:
    """Per atom or per frame, and the shape of one row."""
    if label in FIELDS:
        return FIELDS[label].scope == "atom", FIELDS[label].shape
    if label == "hessian":
        return True, ()
    first = np.asarray(column.rows[0])
    if column.place == "arrays":
        return True, first.shape[1:]
    frame = int(column.frames[0])
    atoms = int(raw.offsets[frame + 1] - raw.offsets[frame])
    per_atom = column.place == "npz" and first.ndim > 0 and first.shape[0] == atoms
    shape = first.shape[1:] if per_atom else first.shape
    return per_atom, () if shape == (1,) else shape


def _rows(
    raw: RawSource, label: str, column: RawColumn, per_atom: bool, shape: tuple[int, ...]
) -> Array:
    """All values end to end, [rows, *shape]."""
    sizes = np.diff(raw.offsets)[column.frames]
    unit = int(np.prod(shape, dtype=int))
    wanted = sizes * unit if per_atom else np.full(len(sizes), unit)
    if isinstance(column.rows, np.ndarray):
        found = np.full(len(column.rows), np.size(column.rows[0]))
    else:
        found = np.fromiter((row.size for row in column.rows), dtype=np.int64)
    if (found != wanted).any():
        k = int(np.flatnonzero(found != wanted)[0])
        frame = int(column.frames[k])
        raise ValueError(
            f"{raw.name}, frame {frame}: '{column.key}' has {found[k]} numbers where label "
            f"'{label}' needs {wanted[k]} ({sizes[k]} atoms)"
        )
    if isinstance(column.rows, np.ndarray):
        return column.rows.astype(np.float64).reshape(-1, *shape)
    return np.concatenate([row.reshape(-1) for row in column.rows]).reshape(-1, *shape)


def _hessians(raw: RawSource, column: RawColumn) -> Array:
    """Rows of atoms [K, 3, M, 3] from [3N, 3N], [N, 3, N, 3] or as many numbers in a row.

    M is the largest number of atoms in the source; columns beyond a structure's own are zero.
    """
    sizes = np.diff(raw.offsets)
    rows = np.zeros((int(sizes[column.frames].sum()), 3, int(sizes.max()), 3))
    first = 0
    for frame, row in zip(column.frames, column.rows, strict=True):
        atoms = int(sizes[frame])
        if np.size(row) != 9 * atoms**2:
            raise ValueError(
                f"{raw.name}, frame {int(frame)}: '{column.key}' has {np.size(row)} numbers where "
                f"the Hessian of {atoms} atoms has {9 * atoms**2}"
            )
        rows[first : first + atoms, :, :atoms] = np.reshape(row, (atoms, 3, atoms, 3))
        first += atoms
    return rows


def _matrices(raw: RawSource, label: str, column: RawColumn, convention: StressConvention) -> Array:
    """[K, 3, 3] from six, nine or 3x3 numbers.

    A foreign order applies to nine numbers too: six in that order were taken for ASE's when the
    matrix was made (as ASE's calculators do with whatever they are given).
    """
    matrices = np.empty((len(column.frames), 3, 3))
    six = StressConvention().positions
    positions = convention.positions if label in ("stress", "virial") else six
    for k, row in enumerate(column.rows):
        flat = np.ravel(row)
        if flat.size == 9:
            matrices[k] = flat.reshape(3, 3)
            if positions == six:
                continue
            flat = np.array([matrices[k, i, j] for i, j in six])
        if flat.size != 6:
            raise ValueError(
                f"{raw.name}, frame {int(column.frames[k])}: '{column.key}' has {flat.size} "
                f"numbers where label '{label}' needs 6 or 9"
            )
        for number, (i, j) in zip(flat, positions):
            matrices[k, i, j] = matrices[k, j, i] = number
    return matrices


def _atoms_of(raw: RawSource, frames: Array) -> Array:
    """Indices of all atoms of the given frames, in order."""
    sizes = np.diff(raw.offsets)[frames]
    starts = np.concatenate(([0], np.cumsum(sizes)))
    return np.repeat(raw.offsets[frames] - starts[:-1], sizes) + np.arange(starts[-1])


def _symmetrize(raw: RawSource, label: str, values: Array) -> str:
    """Make [F, 3, 3] symmetric in place; a sentence where it was far from it."""
    finite = np.isfinite(values).all(axis=(1, 2))
    odd = np.abs(values - values.transpose(0, 2, 1)).max(axis=(1, 2))
    size = np.abs(values).max(axis=(1, 2))
    values += values.transpose(0, 2, 1)
    values *= 0.5
    worst = finite & (odd > _ASYMMETRY * np.maximum(size, 1e-12))
    if not worst.any():
        return ""
    return (
        f"{raw.name}: the {label} of {int(worst.sum())} frames (first {int(np.argmax(worst))}) is "
        "not symmetric; its symmetric part was taken"
    )


def _nan_sentence(
    raw: RawSource, label: str, key: str, frames: Array, per_atom: bool, number: int
) -> str:
    more = f" and {len(frames) - 1} more" if len(frames) > 1 else ""
    what = f"{number} atoms with NaN in" if per_atom else "NaN in"
    return (
        f"{raw.name}, frame {int(frames[0])}{more}: {what} '{key}' ({label}); remove the frames "
        "or set allow_nan to mask them"
    )
