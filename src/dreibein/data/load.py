"""From `DataConfig` to `StructureDataset`: sources read, checked, joined, accounted for."""

import glob
import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dreibein.data.config import DataConfig, StressConvention
from dreibein.data.dataset import Part, StructureDataset
from dreibein.data.interpret import GEOMETRY_KEYS, SourceReport, interpret
from dreibein.data.magnitudes import mixed_energies
from dreibein.data.names import check_label_names
from dreibein.data.raw import RawSource
from dreibein.data.read_ase import file_of, read_ase
from dreibein.data.read_npz import read_npz
from dreibein.data.read_qm9 import read_qm9
from dreibein.data.rmd17 import find_rmd17
from dreibein.data.store import STORE_SUFFIXES, Store, open_store
from dreibein.data.table import Table, concatenate
from dreibein.data.unit_choice import check_units

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]


def load_data(
    config: DataConfig, *, strict: bool = True, progress: Progress | None = None
) -> StructureDataset:
    """The frames of `config.sources` as one data set in the package's units.

    Args:
        config: What to read.
        strict: Refuse NaN, mixed units and absent required labels; otherwise they are listed in
            `provenance["problems"]` for the data doctor.
        progress: Called while reading.

    Raises:
        ValueError: One sentence with file, key and frame.
        FileNotFoundError: A source does not exist.
    """
    check_options(config)
    parts: list[Part] = []
    reports: list[SourceReport] = []
    tables: list[Table] = []
    for name in expand(config.sources):
        part, report = read_source(name, config, progress)
        reports.append(report)
        if isinstance(part, Table):
            tables.append(part)
            continue
        if tables:
            parts.append(concatenate(tables))
            tables = []
        parts.append(part)
    if tables:
        parts.append(concatenate(tables))
    problems = check_reports(reports)
    joined = [p for p in parts if isinstance(p, Table)]
    if len(reports) > 1 and len(joined) == 1:
        mixed = mixed_energies(joined[0])
        if mixed is not None and not any("mixed units" in p for p in problems):
            problems.append(mixed[0])
    if strict and problems:
        raise ValueError(problems[0])
    for note in (note for report in reports for note in report.notes):
        log.warning("%s", note)
    return StructureDataset(parts, provenance=provenance(config, reports, problems))


def expand(sources: Sequence[str]) -> list[str]:
    """Sources with * and ? expanded, in alphabetical order for each pattern."""
    names: list[str] = []
    for source in sources:
        if any(c in source for c in "*?") and not Path(source).exists():
            found = sorted(glob.glob(source))
            if not found:
                raise FileNotFoundError(f"no file matches '{source}'")
            names.extend(found)
        else:
            names.append(source)
    return names


def check_options(config: DataConfig) -> None:
    """Refuse misspelt labels and unreadable units before anything is read."""
    check_label_names(config.keys, "keys", GEOMETRY_KEYS)
    check_label_names(config.labels, "labels")
    check_units(config.units, {*config.keys, *config.labels})


def read_source(
    name: str, config: DataConfig, progress: Progress | None = None
) -> tuple[Part, SourceReport]:
    """One source, converted, with its report; a store is opened, not read."""
    if Path(name).suffix in STORE_SUFFIXES:
        _must_exist(Path(name))
        store = open_store(name)
        return store, _store_report(name, store, config)
    return interpret(_read_raw(name, config, progress), config)


def check_reports(reports: Sequence[SourceReport]) -> list[str]:
    """Problems of all sources; explicit keys and required labels must be in at least one.

    Raises:
        ValueError: An explicit key is in no source.
    """
    for label in dict.fromkeys(k for r in reports for k in r.absent_keys):
        if all(label in r.absent_keys for r in reports):
            raise ValueError(reports[0].absent_keys[label])
    problems = [p for r in reports for p in r.problems]
    for label in dict.fromkeys(k for r in reports for k in r.absent_labels):
        if all(label in r.absent_labels for r in reports):
            problems.append(reports[0].absent_labels[label])
    return problems


def provenance(
    config: DataConfig, reports: Sequence[SourceReport], problems: Sequence[str]
) -> dict[str, Any]:
    """The account of a whole data set (JSON-able)."""
    entries = [r.entry for r in reports]
    labels = dict.fromkeys(label for e in entries for label in e["keys"])
    levels = dict.fromkeys(e["level_of_theory"] for e in entries if e.get("level_of_theory"))
    digest = hashlib.sha256("".join(e["sha256"] for e in entries).encode()).hexdigest()
    return {
        "sources": entries,
        "sha256": entries[0]["sha256"] if len(entries) == 1 else digest,
        "frames": sum(e["frames"] for e in entries),
        "keys": {
            label: [
                {"source": e["name"], **e["keys"][label]} for e in entries if label in e["keys"]
            ]
            for label in labels
        },
        "units": {
            label: [
                {"source": e["name"], **e["units"][label]} for e in entries if label in e["units"]
            ]
            for label in ("length", *labels)
        },
        "level_of_theory": config.level_of_theory or "; ".join(levels) or None,
        "stress_convention": config.stress_convention.model_dump(),
        "notes": [note for r in reports for note in r.notes],
        "problems": list(problems),
    }


def _read_raw(name: str, config: DataConfig, progress: Progress | None) -> RawSource:
    wanted = {*config.keys.values(), *config.labels}
    if name == "qm9" or name.startswith("qm9:"):
        limit = name.partition(":")[2]
        if limit and not limit.isdigit():
            raise ValueError(f"'{name}': after 'qm9:' comes a number of molecules")
        return read_qm9(int(limit) if limit else None, progress)
    if name.startswith("rmd17:"):
        path, level = find_rmd17(name, config.folder, progress)
        raw = read_npz(str(path), wanted, config.keys)
        raw.level_of_theory = raw.level_of_theory or level
        return raw
    path = file_of(name)
    _must_exist(path)
    if path.suffix == ".npz":
        return read_npz(name, wanted, config.keys)
    return read_ase(name, wanted, config.keys.get("config_type"), progress)


def _must_exist(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"'{path}' is a folder: give files, for example '{path}/*.extxyz'")
    if not path.exists():
        raise FileNotFoundError(
            f"there is no file '{path}' (named data sets are 'qm9' and 'rmd17:MOLECULE')"
        )


def _store_report(name: str, store: Store, config: DataConfig) -> SourceReport:
    """A store is already in the package's units: its own account, plus what was asked of it."""
    report = SourceReport(entry=store.entry())
    for label in config.keys:
        if label not in store.specs:
            has = ", ".join(store.specs) or "none"
            report.absent_keys[label] = (
                f"{name}: keys do not apply to a store, whose labels are {has}; "
                f"write it anew with --key {label}={config.keys[label]}"
            )
    declared = {"units": bool(config.units)}
    declared["the stress convention"] = config.stress_convention != StressConvention()
    for option, given in declared.items():
        if given:  # an error only where no other source can use it
            report.absent_keys[option] = (
                f"{name}: {option} cannot be declared for a store, which is in eV and Å already; "
                "declare it when writing the store: dreibein convert"
            )
    for label in config.labels:
        if label not in store.specs:
            has = ", ".join(store.specs) or "none"
            report.absent_labels[label] = (
                f"{name}: the required label '{label}' is in none of the {len(store)} frames; "
                f"the store has {has}"
            )
    return report
