"""The measured laws as a table, and the scan of a neighbor through the cutoff."""

from collections.abc import Sequence

from dreibein.evaluate.checks import Check, Checks, CutoffScan
from dreibein.evaluate.report.figures import BLUE, MUTED, PURPLE, TEAL, axis, rounded
from dreibein.evaluate.report.formats import digits, duration
from dreibein.evaluate.report.markup import (
    Markup,
    Section,
    Spec,
    Table,
    figure,
    grid,
    paragraph,
    pill,
    text,
)
from dreibein.evaluate.report.run import RunRecord

PANEL_WIDTH, PANEL_GAP = 0.27, 0.095
GROUPS = {
    "symmetry": "Symmetry, relative error",
    "rounding": "Rounding, relative error",
    "derivatives": "Derivatives",
    "extensivity": "Size extensivity, relative error",
    "smoothness": "Smoothness",
}


def laws_section(record: RunRecord) -> Section:
    """Physical laws, measured on real frames."""
    checks = record.evaluation.checks if record.evaluation else None
    if checks is None:
        return Section(
            "checks",
            "Physical laws",
            missing="Not measured yet. Measure them with",
            command="dreibein evaluate RUN DATA --checks -o RUN",
        )
    left = law_tables(checks, ("symmetry",))
    right = law_tables(checks, ("rounding", "derivatives", "extensivity", "smoothness"))
    split = record.evaluation.split if record.evaluation else "test"
    body = summary(checks, split) + grid(left, right, min_width=510)
    if checks.scan is not None:
        scan = checks.scan
        caption = (
            f"{scan.text[:1].upper()}{scan.text[1:]}. The dotted line is the cutoff, "
            f"{digits(scan.cutoff)} Å; a cutoff that is not smooth shows in the curvature first."
        )
        body += figure(
            "smoothness",
            "One neighbor crosses the cutoff",
            scan_figure(scan),
            height=300,
            caption=caption,
        )
    return Section("checks", "Physical laws", body)


def summary(checks: Checks, split: str) -> str:
    """One line over the table."""
    frames = ", ".join(str(frame) for frame in checks.frames)
    return paragraph(
        f"Measured on {split} frame{'s' if len(checks.frames) > 1 else ''} {frames} in "
        f"{duration(checks.seconds)}. A law holds where the largest error found is below its "
        "limit.",
        css="lead",
    )


def law_tables(checks: Checks, groups: Sequence[str]) -> str:
    """A row per law, a column per precision."""
    precisions = list(dict.fromkeys(check.precision for check in checks.checks))
    tables = ""
    for group in groups:
        chosen = [check for check in checks.checks if check.group == group]
        if not chosen:
            continue
        used = [p for p in precisions if any(check.precision == p for check in chosen)]
        table = Table((GROUPS[group], *used, ""))
        for law in dict.fromkeys(check.law for check in chosen):
            found = {check.precision: check for check in chosen if check.law == law}
            cells = [_value(found[p]) if p in found else "" for p in used]
            table.rows.append((law, *cells, _status(list(found.values()))))
        tables += table.render(css="laws")
    return tables


def _value(check: Check) -> Markup:
    """The error, and its limit in small print."""
    sign = "<" if check.status == "passed" else "limit"
    value = f"{digits(check.value, 2)} {check.unit}".rstrip()
    limit = digits(check.limit, 1).removeprefix("1×")
    return Markup(f'{text(value)} <span class="limit">{text(sign)} {text(limit)}</span>')


def _status(checks: Sequence[Check]) -> Markup:
    """The worst status, and why where there is a reason."""
    order = ("failed", "not claimed", "skipped", "passed")
    worst = min(checks, key=lambda check: order.index(check.status))
    note = paragraph(worst.note, css="note") if worst.note else ""
    return Markup(pill(worst.status) + note)


def scan_figure(scan: CutoffScan) -> Spec:
    """Energy, slope and curvature side by side."""
    panels = (
        ("energy", scan.energy, "E / meV", BLUE),
        ("slope", scan.slope, "E′ / meV/Å", TEAL),
        ("curvature", scan.curvature, "E″ / meV/Å²", PURPLE),
    )
    layout: Spec = {"showlegend": False, "hovermode": "closest", "shapes": []}
    traces = []
    for k, (name, values, title, color) in enumerate(panels):
        suffix = "" if k == 0 else str(k + 1)
        left = k * (PANEL_WIDTH + PANEL_GAP)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": rounded(scan.distance, 6),
                "y": rounded([1000.0 * v for v in values]),
                "xaxis": f"x{suffix}",
                "yaxis": f"y{suffix}",
                "line": {"color": color, "width": 2},
                "hovertemplate": f"%{{x:.3f}} Å: %{{y:.4g}}<extra>{name}</extra>",
            }
        )
        layout[f"xaxis{suffix}"] = axis(
            "distance / Å", anchor=f"y{suffix}", domain=[left, left + PANEL_WIDTH], nticks=6
        )
        layout[f"yaxis{suffix}"] = axis(
            title, anchor=f"x{suffix}", exponentformat="none", separatethousands=True
        )
        layout["shapes"].append(
            {
                "type": "line",
                "x0": scan.cutoff,
                "x1": scan.cutoff,
                "xref": f"x{suffix}",
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "line": {"color": MUTED, "width": 1, "dash": "dot"},
            }
        )
    return {"data": traces, "layout": layout}
