"""The unit of every label in a source: declared, else written, else habit, else guessed."""

from dataclasses import dataclass

import numpy as np

from dreibein.data.magnitudes import match_totals
from dreibein.data.names import nearest
from dreibein.data.raw import RawColumn, RawSource
from dreibein.systems import FIELDS, LABELS
from dreibein.systems.units import conversion_factor, parse_unit, polarizability_factor

# How units that nobody declared follow from those of energy {E} and length {L}.
_DERIVED = {
    "energy": "{E}",
    "energies": "{E}",
    "virial": "{E}",
    "forces": "{E}/({L})",
    "stress": "{E}/({L})^3",
    "hessian": "{E}/({L})^2",
}
_TARGETS = {"hessian": "eV/Å^2"}  # of labels that are derived and no field


@dataclass(frozen=True)
class UnitChoice:
    """Unit of one label in one source.

    Attributes:
        unit: As in the file.
        target: As in the package.
        factor: Package value = file value times this.
        reason: Where the unit comes from.
        assumed: Whether it is a habit or guess rather than a statement.
    """

    unit: str
    target: str
    factor: float
    reason: str
    assumed: bool = False


def check_units(units: dict[str, str], labels: set[str]) -> None:
    """Refuse a unit for something that is no label, or a unit that cannot be read.

    Raises:
        ValueError: With the nearest valid name.
    """
    known = {"length", "external_field", *LABELS, *labels}
    for label, unit in units.items():
        if label not in known:
            close = nearest(label, known, cutoff=0.3)
            raise ValueError(
                f"units: '{label}' is no label that was asked for; did you mean '{close[0]}'?"
                if close
                else f"units: '{label}' is no label that was asked for; name a label or 'length'"
            )
        if label == "length":
            conversion_factor(unit, "Å")
        elif label in FIELDS:
            _factor(label, unit)


def choose_units(
    raw: RawSource, columns: dict[str, RawColumn], declared: dict[str, str]
) -> dict[str, UnitChoice]:
    """Unit of each label that was found, and of 'length'.

    Args:
        raw: The source.
        columns: Label -> its raw values.
        declared: The user's units.

    Raises:
        ValueError: A unit is unknown, of the wrong dimension, or nowhere stated and not guessable.
    """
    length = _base_length(raw, declared)
    choices = {"length": length}
    energy: UnitChoice | None = None
    for label, column in columns.items():
        stated = _stated(raw, label, column, declared)
        if stated is not None:
            choices[label] = stated
        elif label in _DERIVED:
            energy = energy or _base_energy(raw, columns, declared)
            if label in ("energy", "energies", "virial"):
                choices[label] = energy
                continue
            unit = _DERIVED[label].format(E=energy.unit, L=length.unit)
            unit = _tidy(unit)
            choices[label] = _known(label, unit, energy.reason, energy.assumed)
        elif label in FIELDS:
            unit = FIELDS[label].unit
            choices[label] = _known(label, unit, "not stated: the package's own unit", True)
        else:
            choices[label] = UnitChoice("", "", 1.0, "not stated: kept as in the file", True)
    return choices


def _stated(
    raw: RawSource, label: str, column: RawColumn, declared: dict[str, str]
) -> UnitChoice | None:
    """The unit declared by the user or written in the file."""
    if label in declared:
        return _choice(label, declared[label], "declared")
    for name in (label, column.key, column.key.lower()):
        if name in raw.written_units:
            return _choice(label, raw.written_units[name], "written in the file")
    return None


def _choice(label: str, unit: str, reason: str) -> UnitChoice:
    if label in FIELDS or label in _TARGETS:
        return _known(label, unit, reason)
    target, factor = _own_target(unit)
    if target == unit:
        return UnitChoice(unit, unit, 1.0, f"{reason}, kept")
    return UnitChoice(unit, target, factor, reason)


def _known(label: str, unit: str, reason: str, assumed: bool = False) -> UnitChoice:
    target = _TARGETS[label] if label in _TARGETS else FIELDS[label].unit
    return UnitChoice(unit, target, _factor(label, unit), reason, assumed)


def _own_target(unit: str) -> tuple[str, float]:
    """Package unit of a user's own label by its dimension; units unknown here are kept.

    >>> _own_target("Bohr^2")[0], _own_target("cal/mol/K")[0], _own_target("ppm")
    ('Å^2', 'eV/K', ('ppm', 1.0))
    """
    try:
        dimension = parse_unit(unit).dimension
    except ValueError:
        return unit, 1.0
    powers = dict(zip(("eV", "Å", "time", "e", "K"), dimension))
    if powers.pop("time") or not any(powers.values()):
        return unit, 1.0
    ordered = {name: powers[name] for name in ("e", "eV", "Å", "K")}
    above = [_power(name, p) for name, p in ordered.items() if p > 0]
    below = [_power(name, -p) for name, p in ordered.items() if p < 0]
    target = "/".join(["*".join(above) or "1", *below])
    return target, conversion_factor(unit, target)


def _power(name: str, power: int) -> str:
    return name if power == 1 else f"{name}^{power}"


def _base_length(raw: RawSource, declared: dict[str, str]) -> UnitChoice:
    for source, reason, assumed in (
        (declared, "declared", False),
        (raw.written_units, "written in the file", False),
        (raw.convention, raw.convention_reason, True),
    ):
        if "length" in source:
            unit = source["length"]
            return UnitChoice(unit, "Å", conversion_factor(unit, "Å"), reason, assumed)
    return UnitChoice("Å", "Å", 1.0, "not stated: Å assumed", True)


def _base_energy(
    raw: RawSource, columns: dict[str, RawColumn], declared: dict[str, str]
) -> UnitChoice:
    """Unit of energy from which the units of energies, forces and stress follow."""
    for source, reason in ((declared, "declared"), (raw.written_units, "written in the file")):
        if "energy" in source:
            return _known("energy", source["energy"], f"from the energy unit {reason}")
    if "energy" in raw.convention:
        unit = raw.convention["energy"]
        return _known("energy", unit, raw.convention_reason, True)
    column = columns.get("energy")
    if column is not None:
        match = match_totals(_per_frame(column), *_compositions(raw, column.frames))
        if match is not None:
            reason = (
                f"guessed: energies are {match.ratio:.4f} times the sum of the atoms' total "
                f"energies in {match.unit}"
            )
            return _known("energy", match.unit, reason, True)
    raise ValueError(
        f"{raw.name}: the unit of energy is neither declared nor written in the file, and the "
        "magnitudes fit none; declare it, for example --unit energy=eV"
    )


def _factor(label: str, unit: str) -> float:
    """Conversion to the package's unit; a volume is accepted for a polarizability."""
    try:
        if label == "polarizability":
            return polarizability_factor(unit)
        target = _TARGETS[label] if label in _TARGETS else FIELDS[label].unit
        if not target or unit == target:
            return 1.0
        return conversion_factor(unit, target)
    except ValueError as error:
        raise ValueError(f"unit of {label}: {error}") from error


def _per_frame(column: RawColumn) -> np.ndarray:
    return np.array([float(np.ravel(row)[0]) for row in column.rows])


def _compositions(raw: RawSource, frames: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    elements = np.unique(raw.z)
    owner = np.repeat(np.arange(len(raw)), np.diff(raw.offsets))
    counts = np.zeros((len(raw), len(elements)), dtype=np.int64)
    np.add.at(counts, (owner, np.searchsorted(elements, raw.z)), 1)
    return counts[frames], tuple(int(z) for z in elements)


def _tidy(unit: str) -> str:
    """Drop brackets that are not needed: eV/(Å) -> eV/Å.

    >>> _tidy("eV/(Å)^3"), _tidy("Ha/(Bohr)")
    ('eV/Å^3', 'Ha/Bohr')
    """
    head, _, tail = unit.rpartition("/(")
    inner, _, power = tail.partition(")")
    simple = inner.isalpha()
    text = f"{head}/{inner}{power}" if simple else unit
    parse_unit(text)
    return text
