"""Which key of a file holds which label: the user's choice, else the usual names, with reason."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dreibein.data.names import nearest, usual_names
from dreibein.data.raw import RawColumn, RawSource
from dreibein.systems import FIELDS

_PLACES = {
    "results": "calculator results",
    "info": "info",
    "arrays": "arrays",
    "npz": "npz arrays",
    "columns": "table columns",
}
_MATRIX_SIZES = (6, 9)


@dataclass(frozen=True)
class KeyChoice:
    """Where a label was found in one source.

    Attributes:
        column: Its raw values.
        reason: One sentence for people.
        warning: Whether the choice deserves the user's eye.
    """

    column: RawColumn
    reason: str
    warning: bool = False


def choose_key(raw: RawSource, label: str, explicit: str | None) -> KeyChoice | None:
    """The key of `label` in one source; the explicit one wins, None where there is nothing."""
    if explicit is not None:
        found = [c for (_, key), c in raw.columns.items() if key == explicit]
        if not found:
            return None
        best = max(found, key=lambda c: len(c.frames))
        return KeyChoice(best, f"{_where(best)}, as asked for")
    found = [c for c in _candidates(raw, label) if _fits(raw, label, c)]
    if not found:
        return None
    best, rivals = found[0], [c for c in found[1:] if not _same(found[0], c)]
    if not rivals:
        return KeyChoice(best, f"found in {_where(best)}")
    return KeyChoice(best, _preference(label, best, rivals), warning=True)


def missing_key(raw: RawSource, label: str, explicit: str) -> str:
    """One sentence for an explicit key that no frame has."""
    keys = raw.all_keys
    if not keys:
        return (
            f"{raw.name}: the key '{explicit}' asked for label '{label}' is in no frame; "
            "frame 0 has no keys at all beside the geometry"
        )
    close = nearest(explicit, keys) or nearest(label, keys)
    hint = f"the nearest key is '{close[0]}'; " if close else ""
    return (
        f"{raw.name}: the key '{explicit}' asked for label '{label}' is in no frame; {hint}"
        f"frame 0 has {_listed(raw.first_keys)}"
    )


def missing_label(raw: RawSource, label: str) -> str:
    """One sentence for a required label that no frame has."""
    keys = raw.all_keys
    close = nearest(label, keys, number=2, cutoff=0.4)
    hint = f" (nearest: {_listed(close)})" if close else ""
    has = _listed(raw.first_keys) + hint if raw.first_keys else "no keys beside the geometry"
    return (
        f"{raw.name}: the required label '{label}' is in none of the {len(raw)} frames; frame 0 "
        f"has {has}; if one of them is meant, name it: --key {label}=KEY"
    )


def _candidates(raw: RawSource, label: str) -> list[RawColumn]:
    """Columns under a usual name of the label, best name first, calculator results first."""
    if label in raw.aliases:
        return [c for (_, key), c in raw.columns.items() if key == raw.aliases[label]]
    order = {"results": 0, "npz": 0, "columns": 0, "info": 1, "arrays": 2}
    ranked: list[tuple[int, int, int, RawColumn]] = []
    for (place, key), column in raw.columns.items():
        names = usual_names(label, place)
        if key.lower() in names:
            ranked.append((names.index(key.lower()), order[place], len(ranked), column))
    return [r[3] for r in sorted(ranked, key=lambda r: r[:3])]


def _fits(raw: RawSource, label: str, column: RawColumn) -> bool:
    """Whether the first value has the size that the label needs."""
    if label not in FIELDS:
        return True
    field = FIELDS[label]
    frame = int(column.frames[0])
    atoms = int(raw.offsets[frame + 1] - raw.offsets[frame])
    size = np.size(column.rows[0])
    if field.shape == (3, 3):
        return size in _MATRIX_SIZES
    rows = atoms if field.scope == "atom" else 1
    return size == rows * int(np.prod(field.shape, dtype=int))


def _same(a: RawColumn, b: RawColumn) -> bool:
    """Whether two columns hold the same numbers, so that the choice does not matter."""
    if not np.array_equal(a.frames, b.frames):
        return False
    return all(
        np.shape(x) == np.shape(y) and np.allclose(x, y, rtol=1e-12, atol=0, equal_nan=True)
        for x, y in zip(a.rows, b.rows)
    )


def _preference(label: str, best: RawColumn, rivals: list[RawColumn]) -> str:
    low = best.key.lower()
    others = " and ".join(f"'{c.key}' ({_PLACES[c.place]}, {len(c.frames)} frames)" for c in rivals)
    if low.startswith("ref_"):
        why = "a REF_ name says outright that it is the reference label"
    elif low.startswith(("dft_", "qm_")):
        why = "its name says that it comes from the reference calculation"
    elif any(c.key.lower().endswith("free_energy") for c in rivals):
        why = (
            "it is the usual name; if the forces are the gradient of the free energy (smeared "
            f"occupations), ask for --key energy={rivals[-1].key}"
        )
    elif best.key in {c.key for c in rivals}:
        why = "calculator results come first"
    else:
        why = "it is the more usual name"
    return (
        f"'{best.key}' ({_PLACES[best.place]}, {len(best.frames)} frames) was chosen over "
        f"{others} with other values, because {why}"
    )


def _where(column: RawColumn) -> str:
    return f"{_PLACES[column.place]} as '{column.key}'"


def _listed(keys: list[str]) -> str:
    shown = [f"'{key}'" for key in keys[:8]]
    return ", ".join(shown) + (", …" if len(keys) > 8 else "")


def place_name(place: str) -> str:
    """A place in words."""
    return _PLACES[place]


def split_keys(keys: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Keys of labels and inputs, and keys of charge, spin and config_type."""
    special = {k: v for k, v in keys.items() if k in ("charge", "spin", "config_type")}
    return {k: v for k, v in keys.items() if k not in special}, special
