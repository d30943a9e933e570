"""The certificate of `dreibein parity`: one frame in every engine."""

from typing import Any

from dreibein.evaluate.report.formats import digits
from dreibein.evaluate.report.markup import Markup, Section, Table, paragraph, pill
from dreibein.evaluate.report.run import RunRecord

HEADER = ("engine", "backend", "precision", "Δ energy / eV", "Δ forces / eV/Å", "Δ stress / eV/Å³")


def engines_section(record: RunRecord) -> Section:
    """Differences between engines, backends and precisions, and the time of a call."""
    found = record.engines
    if found is None or not found.get("rows"):
        return Section(
            "engines",
            "Engines",
            missing="Not compared yet. Compare them with",
            command="dreibein parity RUN STRUCTURE",
        )
    table = Table((*HEADER, "ms", ""), numeric=range(3, 7))
    for row in found["rows"]:
        table.rows.append(_cells(row))
    scale = f"largest force {digits(found.get('largest_force'))} eV/Å"
    if found.get("largest_stress") is not None:
        scale += f", largest stress {digits(found['largest_stress'])} eV/Å³"
    lead = (
        f"{found.get('formula')}, {found.get('atoms')} atoms, {scale}. Largest differences from "
        "autograd in float64 by ASE; the time is that of one call for all of it."
    )
    return Section("engines", "Engines", paragraph(lead, css="lead") + table.render(css="laws"))


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    """One line; an engine that did not run says why."""
    names = ("energy_error", "forces_error", "stress_error", "milliseconds")
    numbers = [digits(row.get(name), 2) for name in names]
    if row.get("agrees") is None:
        verdict = Markup(pill("skipped") + paragraph(row.get("note") or "", css="note"))
    else:
        verdict = pill("passed", "agrees") if row["agrees"] else pill("failed", "differs")
    return row["engine"], row.get("backend") or "", row.get("precision") or "", *numbers, verdict
