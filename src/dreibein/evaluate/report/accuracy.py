"""Parity plots, error distributions, and errors by element and by group of frames."""

from dataclasses import dataclass

import numpy as np

from dreibein.evaluate.errors import UNIT_TEXT, metric_name
from dreibein.evaluate.predictions import Predictions
from dreibein.evaluate.records import Evaluation
from dreibein.evaluate.report.figures import (
    BLUE,
    SERIES,
    TEAL,
    Array,
    axis,
    diagonal,
    element_color,
    log_axis,
    rounded,
    sample,
    symbol,
)
from dreibein.evaluate.report.formats import digits, whole
from dreibein.evaluate.report.html import Markup, Section, Spec, Table, figure, grid, paragraph
from dreibein.evaluate.report.run import RunRecord

MILLI = 1000.0
GPA_PER_MEV_A3 = 0.1602176634
MAX_FRAME_POINTS = 3000
MAX_FORCE_POINTS = 6000
LARGEST_KEPT = 300
BINS = 81
HISTOGRAM_QUANTILE = 0.998
MANY_GROUPS = len(SERIES)
VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
EVALUATE = "dreibein evaluate RUN DATA -o RUN"


@dataclass(frozen=True)
class Points:
    """Points of one color in a parity plot, in eV based units."""

    label: str
    color: str
    reference: Array
    prediction: Array
    text: list[str] | None = None


def parity_section(record: RunRecord) -> Section:
    """Prediction against reference, and the distribution of the difference."""
    predictions, evaluation = record.predictions, record.evaluation
    if predictions is None or evaluation is None:
        return Section(
            "parity",
            "Prediction against reference",
            missing="No predictions in this folder. Get them with",
            command=EVALUATE,
        )
    builders = (energy_parity, force_parity, stress_parity)
    found = [f for build in builders if (f := build(predictions, evaluation)) is not None]
    crowded = len(found) > 2
    plots = [
        figure(
            f"parity-{name}", name.capitalize(), spec, height=470 if crowded else 540, caption=note
        )
        for name, spec, note in found
    ]
    histograms = [
        figure(f"histogram-{name}", title, spec, height=280)
        for name, title, spec in (
            ("energy", "Distribution of energy errors", energy_histogram(predictions)),
            ("forces", "Distribution of force errors", force_histogram(predictions)),
            ("stress", "Distribution of stress errors", stress_histogram(predictions)),
        )
        if spec is not None
    ]
    lead = paragraph(
        "Below each plot stands the difference, prediction minus reference, on its own scale.",
        css="lead",
    )
    body = lead + grid(*plots, narrow=crowded)
    if histograms:
        body += grid(*histograms, narrow=len(histograms) > 2)
    return Section("parity", "Prediction against reference", body)


Found = tuple[str, Spec, str] | None


def energy_parity(predictions: Predictions, evaluation: Evaluation) -> Found:
    """Energies per atom after subtraction of the model's isolated atoms."""
    atoms = np.maximum(predictions.n_atoms, 1)
    reference = (predictions.energy_reference - predictions.reference_energy) / atoms
    prediction = (predictions.energy_prediction - predictions.reference_energy) / atoms
    rows = np.flatnonzero(np.isfinite(reference) & np.isfinite(prediction))
    if not len(rows):
        return None
    error = np.abs(prediction - reference)[rows]
    drawn = rows[sample(error, MAX_FRAME_POINTS, keep=LARGEST_KEPT // 3)]
    groups = []
    names = list(dict.fromkeys(predictions.config_type[drawn].tolist()))
    split = 1 < len(names) <= MANY_GROUPS
    for k, name in enumerate(names if split else [""]):
        chosen = drawn[predictions.config_type[drawn] == name] if split else drawn
        groups.append(
            Points(
                label=(name or "(none)") if split else "frames",
                color=SERIES[k] if split else BLUE,
                reference=reference[chosen],
                prediction=prediction[chosen],
                text=[f"frame {predictions.frame[r]}" for r in chosen],
            )
        )
    spec = parity_figure(
        groups,
        quantity="energy_per_atom",
        unit="eV/atom",
        evaluation=evaluation,
        legend=split,
    )
    note = "Energy per atom, with the model's reference energy of each element subtracted. "
    return "energy", spec, note + _drawn(len(drawn), len(rows), "frames")


def force_parity(predictions: Predictions, evaluation: Evaluation) -> Found:
    """Force components, colored by element."""
    reference = predictions.forces_reference.ravel()
    prediction = predictions.forces_prediction.ravel()
    finite = np.flatnonzero(np.isfinite(reference) & np.isfinite(prediction))
    if not len(finite):
        return None
    error = np.abs(prediction - reference)[finite]
    drawn = finite[sample(error, MAX_FORCE_POINTS, keep=LARGEST_KEPT)]
    z = predictions.z[drawn // 3]
    counts = {int(number): int((z == number).sum()) for number in np.unique(z)}
    groups = []
    for number in sorted(counts, key=lambda n: -counts[n]):  # rare elements on top
        chosen = drawn[z == number]
        groups.append(
            Points(
                label=symbol(number),
                color=element_color(number),
                reference=reference[chosen],
                prediction=prediction[chosen],
            )
        )
    spec = parity_figure(groups, quantity="forces", unit="eV/Å", evaluation=evaluation, legend=True)
    note = "Every x, y, z component of every atom, colored by element. "
    return "forces", spec, note + _drawn(len(drawn), len(finite), "components")


def stress_parity(predictions: Predictions, evaluation: Evaluation) -> Found:
    """The six components of the stress, in GPa."""
    if not len(predictions.stress_reference):
        return None
    to_gpa = MILLI * GPA_PER_MEV_A3
    groups = []
    shown = total = 0
    for columns, label, color in ((slice(0, 3), "xx yy zz", BLUE), (slice(3, 6), "yz xz xy", TEAL)):
        reference = predictions.stress_reference[:, columns].ravel() * to_gpa
        prediction = predictions.stress_prediction[:, columns].ravel() * to_gpa
        finite = np.flatnonzero(np.isfinite(reference) & np.isfinite(prediction))
        error = np.abs(prediction - reference)[finite]
        drawn = finite[sample(error, MAX_FRAME_POINTS, keep=LARGEST_KEPT // 3)]
        shown, total = shown + len(drawn), total + len(finite)
        groups.append(Points(label, color, reference[drawn], prediction[drawn]))
    if not total:
        return None
    spec = parity_figure(groups, quantity="stress", unit="GPa", evaluation=evaluation, legend=True)
    note = "Tension is positive. "
    return "stress", spec, note + _drawn(shown, total, "components")


def _drawn(shown: int, total: int, what: str) -> str:
    if shown == total:
        return f"All {whole(total)} {what}."
    return (
        f"{whole(shown)} of {whole(total)} {what} are drawn: those with the largest errors and a "
        "random choice of the others."
    )


def parity_figure(
    groups: list[Points],
    *,
    quantity: str,
    unit: str,
    evaluation: Evaluation,
    legend: bool,
) -> Spec:
    """Parity above, difference below, one x axis."""
    small, factor = (unit, 1.0) if unit == "GPa" else (f"m{unit}", MILLI)
    traces: list[Spec] = []
    for points in groups:
        common = {
            "type": "scatter",
            "mode": "markers",
            "name": points.label,
            "legendgroup": points.label,
            "x": rounded(points.reference),
            "text": points.text or "",
        }
        marker = {"color": points.color, "size": 4, "opacity": 0.55}
        difference = factor * (points.prediction - points.reference)
        where = "%{text}<br>" if points.text else ""
        hover = f"{where}reference %{{x:.4g}} {unit}<br>"
        traces += [
            {
                **common,
                "y": rounded(points.prediction),
                "marker": marker,
                "hovertemplate": f"{hover}prediction %{{y:.4g}} {unit}",
            },
            {
                **common,
                "y": rounded(difference, 4),
                "yaxis": "y2",
                "marker": {**marker, "size": 3},
                "showlegend": False,
                "hovertemplate": f"{hover}difference %{{y:.3g}} {small}",
            },
        ]
    everything = np.concatenate([np.concatenate([g.reference, g.prediction]) for g in groups])
    low, high = float(everything.min()), float(everything.max())
    margin = 0.04 * (high - low) or 0.01
    low, high = low - margin, high + margin
    zero = {**diagonal(low, high), "y": [0, 0], "yaxis": "y2"}
    return {
        "data": [diagonal(low, high), zero, *traces],
        "layout": {
            "xaxis": axis(f"reference / {unit}", range=[low, high], anchor="y2"),
            "yaxis": axis(f"prediction / {unit}", range=[low, high], domain=[0.34, 1.0]),
            "yaxis2": axis(f"difference / {small}", domain=[0.0, 0.25], zeroline=False),
            "annotations": [_numbers(quantity, evaluation)],
            "showlegend": legend,
            "legend": {"itemsizing": "constant"},
            "hovermode": "closest",
        },
    }


def _numbers(quantity: str, evaluation: Evaluation) -> Spec:
    """MAE and RMSE in the corner that the diagonal leaves free."""
    lines = []
    for statistic in ("mae", "rmse"):
        value = evaluation.metrics.get(metric_name(quantity, statistic))
        if value is None:
            continue
        words = f"{statistic.upper()} {digits(value)} {UNIT_TEXT[quantity]}"
        if quantity == "stress":
            words += f" = {digits(value * GPA_PER_MEV_A3)} GPa"
        lines.append(words)
    return {
        "text": "<br>".join(lines),
        "xref": "paper",
        "yref": "paper",
        "x": 0.02,
        "y": 0.99,
        "xanchor": "left",
        "yanchor": "top",
        "align": "left",
        "showarrow": False,
        "font": {"size": 13},
    }


def energy_histogram(predictions: Predictions) -> Spec | None:
    """Distribution of energy errors per atom."""
    error = MILLI * (predictions.energy_prediction - predictions.energy_reference)
    error = error / np.maximum(predictions.n_atoms, 1)
    error = error[np.isfinite(error)]
    if len(error) < 20:
        return None
    return histogram_figure([("frames", BLUE, error)], "meV/atom", "frames")


def force_histogram(predictions: Predictions) -> Spec | None:
    """Distribution of force errors, by element."""
    error = MILLI * (predictions.forces_prediction - predictions.forces_reference)
    error = error.astype(float)
    if np.isfinite(error).sum() < 20:
        return None
    groups = []
    for number in np.unique(predictions.z):
        chosen = error[predictions.z == number].ravel()
        chosen = chosen[np.isfinite(chosen)]
        if len(chosen):
            groups.append((symbol(int(number)), element_color(int(number)), chosen))
    groups.sort(key=lambda group: -len(group[2]))
    return histogram_figure(groups, "meV/Å", "components")


def histogram_figure(groups: list[tuple[str, str, Array]], unit: str, what: str) -> Spec:
    """Counts on a logarithmic scale; errors beyond the 99.8 % quantile are in the last bins."""
    largest = np.concatenate([np.abs(values) for _, _, values in groups])
    edge = float(np.quantile(largest, HISTOGRAM_QUANTILE)) or 1e-9
    num_bins = min(BINS, max(15, int(2 * len(largest) ** (1 / 3)) | 1))
    edges = np.linspace(-edge, edge, num_bins + 1)
    middles = rounded(0.5 * (edges[1:] + edges[:-1]), 4)
    traces = []
    for label, color, values in groups:
        counts, _ = np.histogram(np.clip(values, -edge, edge), edges)
        traces.append(
            {
                "type": "bar" if len(groups) == 1 else "scatter",
                "name": label,
                "x": middles,
                "y": [int(c) if c else None for c in counts],
                "hovertemplate": f"%{{x:.3g}} {unit}: %{{y}} {what}",
                **(
                    {"marker": {"color": color, "opacity": 0.85}}
                    if len(groups) == 1
                    else {
                        "mode": "lines",
                        "line": {"color": color, "width": 2, "shape": "hvh"},
                        "connectgaps": False,
                    }
                ),
            }
        )
    return {
        "data": traces,
        "layout": {
            "xaxis": axis(f"prediction − reference / {unit}", zeroline=True),
            "yaxis": log_axis(what, [[0.9], *(trace["y"] for trace in traces)]),
            "bargap": 0.05,
            "showlegend": len(groups) > 1,
            "hovermode": "x unified" if len(groups) > 1 else "closest",
        },
    }


def stress_histogram(predictions: Predictions) -> Spec | None:
    """Distribution of stress errors, all components."""
    error = predictions.stress_prediction - predictions.stress_reference
    error = error[np.isfinite(error)] * MILLI * GPA_PER_MEV_A3
    if len(error) < 20:
        return None
    return histogram_figure([("components", TEAL, error)], "GPa", "components")


def element_section(record: RunRecord) -> Section:
    """Force errors of every element, and errors of every group of frames."""
    evaluation = record.evaluation
    if evaluation is None or not (evaluation.elements or evaluation.config_types):
        return Section(
            "elements",
            "Errors by element",
            missing="No force errors in this folder. Get them with",
            command=EVALUATE,
        )
    body = ""
    if evaluation.elements:
        body += grid(
            figure(
                "elements",
                "Force error: MAE in full color, RMSE pale",
                element_figure(evaluation),
                height=300,
            ),
            _element_table(evaluation),
        )
    if evaluation.config_types:
        body += Markup("<h3>By group of frames (config_type)</h3>") + _group_table(evaluation)
    title = "Errors by element and group" if evaluation.config_types else "Errors by element"
    return Section("elements", title, body)


def element_figure(evaluation: Evaluation) -> Spec:
    """Bars of MAE and RMSE by element."""
    symbols = [e.symbol for e in evaluation.elements]
    colors = [element_color(e.z) for e in evaluation.elements]
    bars = []
    for statistic, opacity in (("mae", 1.0), ("rmse", 0.45)):
        values = [getattr(e, metric_name("forces", statistic)) for e in evaluation.elements]
        bars.append(
            {
                "type": "bar",
                "name": statistic.upper(),
                "x": symbols,
                "y": rounded(values, 4),
                "marker": {"color": colors, "opacity": opacity},
                "showlegend": False,
                "text": [digits(v) for v in values] if len(symbols) <= 8 else None,
                "textposition": "outside",
                "cliponaxis": False,
                "hovertemplate": f"%{{x}}: {statistic.upper()} %{{y:.3g}} meV/Å<extra></extra>",
            }
        )
    return {
        "data": bars,
        "layout": {
            "yaxis": axis("force error / meV/Å", rangemode="tozero"),
            "xaxis": axis("", type="category"),
            "barmode": "group",
            "bargap": 0.35,
            "hovermode": "closest",
        },
    }


def _element_table(evaluation: Evaluation) -> Markup:
    table = Table(("element", "atoms", "MAE / meV/Å", "RMSE / meV/Å"))
    for e in evaluation.elements:
        table.rows.append(
            (
                e.symbol,
                whole(e.atoms),
                digits(e.forces_mae_mev_per_a),
                digits(e.forces_rmse_mev_per_a),
            )
        )
    return Markup(table.render())


def _group_table(evaluation: Evaluation) -> Markup:
    groups = evaluation.config_types
    columns = [
        (quantity, statistic)
        for quantity in ("energy_per_atom", "forces", "stress")
        for statistic in ("mae", "rmse")
        if any(metric_name(quantity, statistic) in group.metrics for group in groups)
    ]
    titles = {"energy_per_atom": "energy", "forces": "forces", "stress": "stress"}
    header = [f"{titles[q]} {s.upper()} / {UNIT_TEXT[q]}" for q, s in columns]
    table = Table(("group", "frames", *header))
    for group in groups:
        values = [digits(group.metrics.get(metric_name(q, s))) for q, s in columns]
        table.rows.append((group.name, whole(group.frames), *values))
    total = [digits(evaluation.metrics.get(metric_name(q, s))) for q, s in columns]
    table.rows.append(("all", whole(evaluation.counts["frames"]), *total))
    return Markup(table.render(css="last-total"))
