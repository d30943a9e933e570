"""Observed errors against predicted uncertainties."""

import numpy as np

from dreibein.evaluate.calibration import Calibration, errors_and_sigmas
from dreibein.evaluate.errors import MEV
from dreibein.evaluate.predictions import Predictions
from dreibein.evaluate.report.figures import (
    BLUE,
    MUTED,
    ORANGE,
    TEAL,
    Array,
    axis,
    diagonal,
    log_axis,
    rounded,
    sample,
)
from dreibein.evaluate.report.formats import digits, percent
from dreibein.evaluate.report.markup import Section, Spec, Table, figure, grid, paragraph
from dreibein.evaluate.report.run import RunRecord

MAX_POINTS = 3000
LARGEST_KEPT = 100
BINS = 10
FEWEST_IN_BIN = 5
# share of normal errors below so many sigma
QUANTILES = ((0.5, 0.6745), (0.683, 1.0), (0.954, 2.0))
SHARES = np.linspace(0.05, 0.95, 19)


def uncertainty_section(record: RunRecord) -> Section:
    """Errors over sigma, and how many errors are within so many sigma."""
    predictions, evaluation = record.predictions, record.evaluation
    title = "Uncertainty"
    if predictions is None or evaluation is None or not evaluation.calibrations:
        return Section(
            "uncertainty",
            title,
            missing="No uncertainties in this folder. The model gets them with",
            command="dreibein calibrate RUN",
        )
    plots = []
    for found in evaluation.calibrations:
        name = found.quantity
        plots += [
            figure(
                f"uncertainty-{name}",
                f"Errors of {name} against their uncertainty",
                scatter_figure(predictions, found),
                height=440,
                caption="Circles: root mean square error of a tenth of the values each. Where "
                "errors are normal, half of them are below the lowest line.",
            ),
            figure(
                f"coverage-{name}",
                f"Share of errors of {name} within an interval",
                coverage_figure(predictions, found),
                height=440,
                caption="On the diagonal the uncertainty is right; above it, too large.",
            ),
        ]
    same = evaluation.split == "validation"
    words = "these very ones." if same else "these are others."
    lead = paragraph(f"The uncertainty was calibrated on validation frames; {words}", css="lead")
    body = lead + _table(evaluation.calibrations).render() + grid(*plots)
    return Section("uncertainty", title, body)


def _table(found: list[Calibration]) -> Table:
    table = Table(
        (
            "",
            "RMSE",
            "rms uncertainty",
            "unit",
            "rms error / σ",
            "within 1 σ (68 %)",
            "within 2 σ (95 %)",
            "rank correlation",
            "log likelihood gained on one σ",
        )
    )
    for c in found:
        table.rows.append(
            (
                c.quantity,
                digits(MEV * c.rmse),
                digits(MEV * c.sigma),
                f"m{c.unit}",
                digits(c.rms_z),
                percent(c.within_1, 1.0),
                percent(c.within_2, 1.0),
                "–" if c.spearman is None else digits(c.spearman, 2),
                digits(c.nll_constant - c.nll, 2),
            )
        )
    return table


def scatter_figure(predictions: Predictions, found: Calibration) -> Spec:
    """|error| over sigma on logarithmic axes, binned errors, and lines of quantiles."""
    error, sigma = errors_and_sigmas(predictions, found.quantity)
    unit = f"m{found.unit}"
    error, sigma = MEV * np.abs(error), MEV * sigma
    drawn = sample(error, MAX_POINTS, keep=LARGEST_KEPT)
    ends = np.array([sigma.min(), sigma.max()])
    if ends[1] - ends[0] < 1e-6 * ends[1]:
        ends = ends[1] * np.array([0.9, 1.1])
    middles, errors = binned(sigma, error)
    floor = max(float(np.quantile(error, 0.02)), 1e-3 * float(ends[0]), 1e-9)
    traces: list[Spec] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "errors",
            "x": rounded(sigma[drawn]),
            "y": rounded(np.maximum(error[drawn], floor)),
            "marker": {"color": BLUE, "size": 4, "opacity": 0.45},
            "hovertemplate": f"σ %{{x:.3g}} {unit}<br>error %{{y:.3g}} {unit}",
        }
    ]
    for share, factor in QUANTILES:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{100 * share:.0f} % below",
                "x": rounded(ends),
                "y": rounded(factor * ends),
                "line": {"color": MUTED, "width": 1, "dash": "dot" if factor != 1.0 else "solid"},
                "hoverinfo": "skip",
            }
        )
    traces.append(
        {
            "type": "scatter",
            "mode": "markers+lines",
            "name": "binned RMSE",
            "x": rounded(middles),
            "y": rounded(errors),
            "marker": {"color": ORANGE, "size": 9, "symbol": "circle-open", "line": {"width": 2}},
            "line": {"color": ORANGE, "width": 1},
            "hovertemplate": f"σ %{{x:.3g}} {unit}<br>RMSE %{{y:.3g}} {unit}",
        }
    )
    return {
        "data": traces,
        "layout": {
            "xaxis": log_axis(f"uncertainty σ / {unit}", [ends]),
            "yaxis": log_axis(f"|error| / {unit}", [np.maximum(error, floor), 2.0 * ends]),
            "showlegend": True,
            "margin": {"t": 40},
            "hovermode": "closest",
        },
    }


def binned(sigma: Array, error: Array) -> tuple[Array, Array]:
    """Root mean squares of sigma and of the error in bins of equal numbers."""
    parts = np.array_split(np.argsort(sigma), max(1, min(BINS, len(sigma) // FEWEST_IN_BIN)))
    means = [np.sqrt([np.mean(v[p] ** 2) for p in parts]) for v in (sigma, error)]
    return means[0], means[1]


def coverage_figure(predictions: Predictions, found: Calibration) -> Spec:
    """Observed share of errors within the interval that should hold a share of them."""
    from scipy.special import erfinv

    error, sigma = errors_and_sigmas(predictions, found.quantity)
    z = np.abs(error) / np.maximum(sigma, 1e-12)
    widths = np.sqrt(2.0) * erfinv(SHARES)
    observed = [float(np.mean(z <= width)) for width in widths]
    return {
        "data": [
            diagonal(0.0, 1.0),
            {
                "type": "scatter",
                "mode": "markers+lines",
                "name": found.quantity,
                "x": rounded(SHARES),
                "y": rounded(observed),
                "marker": {"color": TEAL, "size": 7},
                "line": {"color": TEAL, "width": 2},
                "hovertemplate": "expected %{x:.0%}<br>observed %{y:.1%}",
            },
        ],
        "layout": {
            "xaxis": axis("expected share", range=[0, 1], tickformat=".0%"),
            "yaxis": axis("observed share", range=[0, 1], tickformat=".0%"),
            "showlegend": False,
            "margin": {"t": 40},
            "hovermode": "closest",
        },
    }
