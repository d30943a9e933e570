"""From one raw source to a table: labels found, units chosen, values converted, all reported."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dreibein.data.assemble import assemble, check_geometry, per_frame_numbers, stress_from_virial
from dreibein.data.config import DataConfig
from dreibein.data.keys import KeyChoice, choose_key, missing_key, missing_label, place_name
from dreibein.data.magnitudes import doubtful_forces, doubtful_totals, mixed_energies
from dreibein.data.names import CHARGE_NAMES, CONFIG_NAMES, NAMES, SPIN_NAMES
from dreibein.data.raw import RawSource
from dreibein.data.table import Column, Table
from dreibein.data.unit_choice import UnitChoice, choose_units

GEOMETRY_KEYS = ("charge", "spin", "config_type", "z", "pos", "cell")


@dataclass
class SourceReport:
    """What was found in one source; becomes an entry of `provenance["sources"]`.

    Attributes:
        entry: JSON-able account: name, kind, sha256, frames, keys, units, unused keys.
        problems: Sentences for which training is refused.
        notes: Sentences worth reading.
        absent_keys: Label -> sentence, for explicit keys that this source lacks.
        absent_labels: Label -> sentence, for required labels that this source lacks.
    """

    entry: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    absent_keys: dict[str, str] = field(default_factory=dict)
    absent_labels: dict[str, str] = field(default_factory=dict)


def interpret(raw: RawSource, config: DataConfig) -> tuple[Table, SourceReport]:
    """Find keys, choose units, convert; everything that was decided goes into the report."""
    check_geometry(raw)
    report = SourceReport(entry={})
    choices = _find_labels(raw, config, report)
    units = choose_units(raw, {k: c.column for k, c in choices.items()}, config.units)
    columns: dict[str, Column] = {}
    for label, choice in choices.items():
        column, refusals, notes = assemble(
            raw,
            label,
            choice.column,
            units[label].factor,
            config.stress_convention,
            allow_nan=config.allow_nan,
        )
        columns[label] = column
        report.problems += refusals
        report.notes += notes
    table = _table(raw, columns, units["length"].factor, config)
    table = _settle_stress(table, choices, report)
    _check_required(raw, table, config, report)
    _doubts(table, units, report)
    used = {(c.column.place, c.column.key) for c in choices.values()}
    report.entry = _entry(raw, table, choices, units, used)
    report.notes += [f"{raw.name}: {c.reason}" for c in choices.values() if c.warning]
    return table, report


def _find_labels(raw: RawSource, config: DataConfig, report: SourceReport) -> dict[str, KeyChoice]:
    choices: dict[str, KeyChoice] = {}
    own = [k for k in config.keys if k not in NAMES and k not in GEOMETRY_KEYS]
    own += [k for k in config.labels if k not in NAMES]
    for label in dict.fromkeys([*NAMES, *own, *raw.aliases]):
        explicit = config.keys.get(label)
        if explicit is None and label in own and label not in raw.aliases:
            explicit = label  # a required label of the user's own is its own key
        choice = choose_key(raw, label, explicit)
        if choice is not None:
            choices[label] = choice
        elif label in config.keys:
            report.absent_keys[label] = missing_key(raw, label, config.keys[label])
    return choices


def _table(raw: RawSource, columns: dict[str, Column], length: float, config: DataConfig) -> Table:
    names = ("", *sorted(set(raw.config) - {""}))
    codes = {name: k for k, name in enumerate(names)}
    charge_names = (config.keys["charge"],) if "charge" in config.keys else CHARGE_NAMES
    spin_names = (config.keys["spin"],) if "spin" in config.keys else SPIN_NAMES
    spin = per_frame_numbers(raw, spin_names, 1.0)
    bad = (spin < 1) | (spin != np.round(spin))
    if bad.any():
        frame = int(np.argmax(bad))
        raise ValueError(
            f"{raw.name}, frame {frame}: spin {spin[frame]:g} is not a multiplicity 2S+1 "
            "(1, 2, 3, …); correct it or name another key: --key spin=KEY"
        )
    return Table(
        offsets=raw.offsets,
        z=raw.z,
        pos=raw.pos * length,
        cell=raw.cell * length,
        pbc=raw.pbc,
        charge=per_frame_numbers(raw, charge_names, 0.0),
        spin=spin.astype(np.int64),
        config=np.array([codes[c] for c in raw.config], dtype=np.int32),
        config_names=names,
        columns=columns,
        origin=((raw.name, 0, len(raw)),),
    )


def _settle_stress(table: Table, choices: dict[str, KeyChoice], report: SourceReport) -> Table:
    """Stress from the virial where there is none; none for frames that are not periodic."""
    columns = dict(table.columns)
    if "virial" in columns:
        virial = columns.pop("virial")
        if "stress" not in columns:
            columns["stress"] = stress_from_virial(virial, table.cell)
    if "stress" in columns:
        stress = columns["stress"]
        periodic = table.pbc.any(axis=1)
        lost = int((stress.mask & ~periodic).sum())
        if lost:
            source = table.origin[0][0]
            report.notes.append(f"{source}: the stress of {lost} frames without pbc is not used")
            mask = stress.mask & periodic
            columns["stress"] = Column(
                np.where(mask[:, None, None], stress.values, 0.0), mask, False
            )
        if not columns["stress"].mask.any():
            del columns["stress"]
    return Table(**{**table.__dict__, "columns": columns})


def _check_required(raw: RawSource, table: Table, config: DataConfig, report: SourceReport) -> None:
    for label in config.labels:
        if label not in table.columns or not table.columns[label].mask.any():
            report.absent_labels[label] = missing_label(raw, label)


def _doubts(table: Table, units: dict[str, UnitChoice], report: SourceReport) -> None:
    """Magnitudes that do not fit the unit assumed."""
    source = table.origin[0][0]
    mixed = mixed_energies(table)
    if mixed is not None:
        report.problems.append(mixed[0])
    elif "energy" in units and units["energy"].assumed:
        doubt = doubtful_totals(table)
        if doubt is not None:
            report.notes.append(f"{source}: {doubt}")
    doubt = doubtful_forces(table)
    if doubt is not None:
        report.notes.append(f"{source}: {doubt}")


def _entry(
    raw: RawSource,
    table: Table,
    choices: dict[str, KeyChoice],
    units: dict[str, UnitChoice],
    used: set[tuple[str, str]],
) -> dict[str, Any]:
    keys, stated = {}, {"length": _unit_entry(units["length"])}
    for label, choice in choices.items():
        source, reason = label, choice.reason
        if label == "virial":
            if "stress" in choices or "stress" not in table.columns:
                continue
            source, reason = "stress", f"{reason}; stress = -virial / volume"
        elif label not in table.columns:
            continue
        column = table.columns[source]
        present = np.zeros(len(table), dtype=bool)
        present[table.owner[column.mask] if column.per_atom else column.mask] = True
        keys[source] = {
            "key": choice.column.key,
            "place": place_name(choice.column.place),
            "frames": int(present.sum()),
            "of": len(table),
            "entries": int(column.mask.sum()),
            "reason": reason,
        }
        stated[source] = _unit_entry(units[label])
    present_keys = {pair: len(c.frames) for pair, c in raw.columns.items()} | raw.others
    unused = {
        key: count
        for (place, key), count in present_keys.items()
        if (place, key) not in used and not _is_geometry(key)
    }
    return {
        "name": raw.name,
        "kind": raw.kind,
        "sha256": raw.sha256,
        "frames": len(table),
        "atoms": table.num_atoms,
        "keys": keys,
        "units": stated,
        "unused_keys": unused,
        "level_of_theory": raw.level_of_theory,
    }


def _unit_entry(choice: UnitChoice) -> dict[str, Any]:
    return {
        "unit": choice.unit,
        "converted_to": choice.target,
        "factor": choice.factor,
        "reason": choice.reason,
    }


def _is_geometry(key: str) -> bool:
    low = key.lower()
    return low in (*CHARGE_NAMES, *SPIN_NAMES, *CONFIG_NAMES, "initial_charges")
