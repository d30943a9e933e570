"""Prediction against reference: energies, forces, stress."""

from dataclasses import dataclass

import numpy as np

from dreibein.evaluate.errors import GPA_PER_MEV_A3, MEV, UNIT_TEXT, metric_name
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
    rounded,
    sample,
    symbol,
)
from dreibein.evaluate.report.formats import digits, percent, whole
from dreibein.evaluate.report.histograms import histograms
from dreibein.evaluate.report.markup import Section, Spec, figure, grid, paragraph
from dreibein.evaluate.report.run import EVALUATE, RunRecord

MAX_FRAME_POINTS = 3000
MAX_FORCE_POINTS = 6000
LARGEST_KEPT = 300
MANY_GROUPS = len(SERIES)


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
    found += target_parities(predictions, evaluation)
    crowded = len(found) > 2
    plots = [
        figure(
            f"parity-{name}", name.capitalize(), spec, height=470 if crowded else 540, caption=note
        )
        for name, spec, note in found
    ]
    lead = paragraph(
        "Below each plot stands Δ, prediction minus reference, on its own scale.",
        css="lead",
    )
    width = 320 if crowded else 470
    body = lead + grid(*plots, min_width=width) + histograms(predictions)
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
    to_gpa = MEV * GPA_PER_MEV_A3
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


def target_parities(
    predictions: Predictions, evaluation: Evaluation
) -> list[tuple[str, Spec, str]]:
    """Every other label, component by component; labels of atoms colored by element."""
    found = []
    for target in evaluation.targets:
        if target.name not in predictions.targets:
            continue
        reference, prediction = predictions.targets[target.name]
        width = reference.shape[1]
        rows = np.arange(reference.size) // width
        z = predictions.z[rows] if target.scope == "atom" else np.zeros(len(rows), dtype=int)
        reference, prediction = reference.ravel(), prediction.ravel()
        finite = np.flatnonzero(np.isfinite(reference) & np.isfinite(prediction))
        error = np.abs(prediction - reference)[finite]
        drawn = finite[sample(error, MAX_FORCE_POINTS, keep=LARGEST_KEPT)]
        numbers, counts = np.unique(z[drawn], return_counts=True)
        groups = [
            Points(
                symbol(int(number)) if number else "structures",
                element_color(int(number)) if number else BLUE,
                reference[drawn[z[drawn] == number]],
                prediction[drawn[z[drawn] == number]],
            )
            for number in numbers[np.argsort(-counts)]  # rare elements on top
        ]
        spec = parity_figure(
            groups,
            quantity=target.name,
            unit=target.unit or "1",
            evaluation=evaluation,
            legend=target.scope == "atom",
        )
        what = "numbers" if width == 1 else "components"
        share = "the scatter of the labels, about each element's mean"
        note = f"In brackets: RMSE over {share if target.scope == 'atom' else share[:26]}. "
        found.append((target.name, spec, note + _drawn(len(drawn), len(finite), what)))
    return found


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
    small, factor = (f"m{unit}", MEV) if unit.startswith("eV/") else (unit, 1.0)
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
            "yaxis2": axis(f"Δ / {small}", domain=[0.0, 0.25], zeroline=False),
            "annotations": [_numbers(quantity, evaluation)],
            "showlegend": legend,
            "legend": {"itemsizing": "constant"},
            "margin": {"t": 40},  # with or without a legend, so that neighbors line up
            "hovermode": "closest",
        },
    }


def _numbers(quantity: str, evaluation: Evaluation) -> Spec:
    """MAE and RMSE in the corner that the diagonal leaves free."""
    lines = []
    for target in evaluation.targets:
        if target.name == quantity:
            lines += [f"MAE {digits(target.mae)} {target.unit}"]
            share = "" if target.relative is None else f" ({percent(target.relative, 1.0)})"
            lines += [f"RMSE {digits(target.rmse)} {target.unit}{share}"]
    for statistic in ("mae", "rmse") if not lines else ():
        value = evaluation.metrics.get(metric_name(quantity, statistic))
        if value is not None:
            gpa = quantity == "stress"
            unit = "GPa" if gpa else UNIT_TEXT[quantity]
            words = digits(value * GPA_PER_MEV_A3 if gpa else value)
            lines.append(f"{statistic.upper()} {words} {unit}")
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
