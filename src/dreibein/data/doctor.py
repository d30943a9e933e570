"""The data doctor: examines a data set before anything is trained on it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from dreibein.data.census import Census, take_census
from dreibein.data.config import VOIGT_ASE
from dreibein.data.consistency import check_forces, check_stress
from dreibein.data.dataset import StructureDataset
from dreibein.data.examination import Examination, Finding, LabelCount, Range
from dreibein.data.frame_checks import (
    check_cells,
    check_distances,
    check_duplicates,
    check_net_force,
    check_outliers,
    listed,
    shortest_distances,
    unusable_cells,
)
from dreibein.data.statistics import fit_references, residual_blocks
from dreibein.data.table import Array, Table
from dreibein.systems import FIELDS

Progress = Callable[[int, int, str], None]

MAX_EXAMINED = 20_000
_SHOWN = 100


def examine(
    dataset: StructureDataset,
    *,
    required: Sequence[str] = (),
    max_frames: int = MAX_EXAMINED,
    progress: Progress | None = None,
) -> Examination:
    """Counts, ranges and findings of a data set loaded with `strict=False` (or any other).

    Args:
        dataset: What to examine.
        required: Labels that training needs; none at all is a refusal in any case.
        max_frames: Costly checks use at most so many frames, evenly spaced.
        progress: Called between the checks.
    """
    total = len(dataset)
    chosen = np.unique(np.linspace(0, total - 1, min(total, max_frames)).astype(np.int64))
    table = dataset.table(chosen)
    report = _Reporter(progress)
    report.step("counts")
    counts = take_census(dataset)
    references, residual, notes = _references(dataset)
    findings = [*_problems(dataset, required), *notes]
    findings += check_cells(table, chosen)
    good = np.setdiff1d(np.arange(len(table)), np.concatenate(unusable_cells(table)))
    shortest = np.full(len(table), np.nan)
    if len(good):
        usable = table if len(good) == len(table) else table.select(good)
        order = dataset.provenance.get("stress_convention", {}).get("order", VOIGT_ASE)
        checks, shortest[good] = _check_frames(
            usable, residual[chosen[good]], chosen[good], order, report
        )
        findings += checks
    findings += _kinds(dataset, counts)
    report.step("done")
    rank = {"refusal": 0, "warning": 1, "info": 2}
    return Examination(
        frames=total,
        atoms=counts.atoms,
        sources=[
            {k: s.get(k) for k in ("name", "kind", "sha256", "frames", "atoms", "unused_keys")}
            for s in dataset.provenance.get("sources", [])
        ],
        level_of_theory=dataset.provenance.get("level_of_theory"),
        labels=_labels(dataset, counts),
        elements=counts.elements(),
        compositions=dict(counts.compositions.most_common()),
        cells=dict(counts.cells.most_common()),
        config_types={k: n for k, n in counts.configs.most_common() if k},
        reference_energies=references,
        ranges=_ranges(dataset, counts, residual, shortest, chosen),
        forces_rms_by_element=counts.forces_rms(),
        findings=sorted(findings, key=lambda f: rank[f.severity]),
        examined_frames=len(chosen),
    )


def _check_frames(
    table: Table, residual: Array, numbers: Array, stress_order: str, report: "_Reporter"
) -> tuple[list[Finding], Array]:
    """All checks that look into frames, and the shortest distance in each (NaN where none)."""
    report.step("distances")
    shortest, ratio, distance, names = shortest_distances(table)
    findings = [*check_distances(ratio, distance, names, numbers)]
    report.step("outliers")
    findings += check_outliers(table, residual, numbers)
    findings += check_duplicates(table, numbers)
    report.step("forces")
    findings += check_net_force(table, numbers)
    work = check_forces(table, numbers)
    report.step("stress")
    stress = check_stress(table, stress_order)
    findings += [f for f in (work, stress) if f is not None]
    return findings, np.where(np.isfinite(shortest), shortest, np.nan)


class _Reporter:
    """Passes the name of the running check to a progress callback."""

    steps = ("counts", "distances", "outliers", "forces", "stress", "done")

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress

    def step(self, name: str) -> None:
        if self._progress is not None:
            self._progress(self.steps.index(name), len(self.steps) - 1, name)


def _references(dataset: StructureDataset) -> tuple[dict[str, float], Array, list[Finding]]:
    """Fitted reference energies by symbol, residual per atom of each frame, and a note."""
    if "energy" not in dataset.label_names:
        return {}, np.full(len(dataset), np.nan), []
    fit = fit_references(dataset)
    residual = np.concatenate([r for _, r in residual_blocks(dataset, fit.energies)])
    notes = []
    if fit.deficient:
        message = (
            f"{len(fit.energies)} elements, but the compositions tell only {fit.rank} "
            "combination(s) of them apart: fitted reference energies are not unique (smallest "
            "norm taken); isolated atoms would fix them"
        )
        topic = "reference energies"
        notes.append(Finding(severity="info", topic=topic, label="energy", message=message))
    return {chemical_symbols[z]: e for z, e in fit.energies.items()}, residual, notes


def _problems(dataset: StructureDataset, required: Sequence[str]) -> list[Finding]:
    """What the reader objected to, and labels that are nowhere."""
    findings = [
        Finding(severity="refusal", topic="reading", message=text)
        for text in dataset.provenance.get("problems", [])
    ]
    findings += [
        Finding(severity="warning", topic="reading", message=text)
        for text in dataset.provenance.get("notes", [])
    ]
    told = " ".join(dataset.provenance.get("problems", []))
    for label in required:
        if label not in dataset.label_names and f"required label '{label}'" not in told:
            message = f"the required label '{label}' is in none of the {len(dataset)} frames"
            findings.append(
                Finding(severity="refusal", topic="labels", label=label, message=message)
            )
    if not dataset.label_names:
        keys = sorted({k for s in dataset.provenance["sources"] for k in s["unused_keys"]})
        has = f"; it has {', '.join(keys)}: name one with --key LABEL=KEY" if keys else ""
        findings.append(
            Finding(
                severity="refusal",
                topic="labels",
                message=f"no label was found in any of the {len(dataset)} frames{has}",
            )
        )
    return findings


def _kinds(dataset: StructureDataset, counts: Census) -> list[Finding]:
    """Facts about the whole set that a trainer should know."""
    findings = []
    for name in dataset.specs:
        missing = counts.rows[name] - counts.entries[name]
        missing += sum(n for n in [_rows_elsewhere(dataset, counts, name)])
        if missing > 0:
            what = "atoms" if dataset.specs[name][0] else "frames"
            message = f"'{name}' is missing for {missing} {what}: they are masked"
            findings.append(
                Finding(severity="info", topic="missing labels", label=name, message=message)
            )
    if counts.singles:
        message = (
            f"{len(counts.singles)} isolated single atoms ({listed(counts.singles)}): use them as "
            "reference energies rather than as training frames"
        )
        findings.append(
            Finding(
                severity="info",
                topic="isolated atoms",
                message=message,
                frames=counts.singles[:_SHOWN],
            )
        )
    for topic, counter, usual in (("charge", counts.charges, 0.0), ("spin", counts.spins, 1)):
        if set(counter) != {usual}:
            told = ", ".join(f"{value:g} in {n}" for value, n in sorted(counter.items())[:8])
            findings.append(
                Finding(severity="info", topic=topic, message=f"total {topic} by frames: {told}")
            )
    return findings


def _rows_elsewhere(dataset: StructureDataset, counts: Census, name: str) -> int:
    """Rows of blocks that lack the column altogether."""
    rows = counts.atoms if dataset.specs[name][0] else len(dataset)
    return rows - counts.rows[name]


def _labels(dataset: StructureDataset, counts: Census) -> dict[str, LabelCount]:
    keys, units = dataset.provenance.get("keys", {}), dataset.provenance.get("units", {})
    names = [*dataset.label_names]
    names += ["external_field"] if "external_field" in dataset.specs else []
    labels = {}
    for name in names:
        own = FIELDS[name].unit if name in FIELDS else ""
        stated = units.get(name, [])
        labels[name] = LabelCount(
            frames=counts.present[name],
            per_atom=dataset.specs[name][0],
            entries=counts.entries[name],
            of=counts.atoms if dataset.specs[name][0] else len(dataset),
            found=list(dict.fromkeys(f"{k['place']}: {k['key']}" for k in keys.get(name, []))),
            unit="; ".join(dict.fromkeys(_conversion(u) for u in stated)) or own,
            reason="; ".join(dict.fromkeys(str(u["reason"]) for u in stated)),
        )
    return labels


def _conversion(unit: dict[str, Any]) -> str:
    if unit["unit"] == unit["converted_to"]:
        return str(unit["unit"]) or "as in the file"
    return f"{unit['unit']} → {unit['converted_to']}"


def _ranges(
    dataset: StructureDataset,
    counts: Census,
    residual: Array,
    shortest: Array,
    chosen: Array,
) -> dict[str, Range]:
    per_frame = {name: np.concatenate(blocks) for name, blocks in counts.per_frame.items()}
    numbers = np.arange(len(dataset))
    rows = (
        ("energy per atom", "eV", per_frame["energy"], numbers),
        ("energy per atom after references", "eV", residual, numbers),
        ("largest force on an atom", "eV/Å", per_frame["forces"], numbers),
        ("mean normal stress", "eV/Å^3", per_frame["stress"], numbers),
        ("dipole moment", "e*Å", per_frame["dipole"], numbers),
        ("volume per atom", "Å^3", per_frame["volume per atom"], numbers),
        ("shortest distance", "Å", shortest, chosen),
    )
    ranges = {}
    for name, unit, values, frames in rows:
        known = np.isfinite(values)
        if known.any():
            ranges[name] = _range(unit, values[known], frames[known])
    return ranges


def _range(unit: str, values: Array, frames: Array) -> Range:
    low, high = int(np.argmin(values)), int(np.argmax(values))
    return Range(
        unit=unit,
        minimum=float(values[low]),
        median=float(np.median(values)),
        maximum=float(values[high]),
        spread=float(values.std()),
        frame_of_minimum=int(frames[low]),
        frame_of_maximum=int(frames[high]),
    )
