"""How the errors are distributed."""

import numpy as np

from dreibein.evaluate.errors import GPA_PER_MEV_A3, MEV
from dreibein.evaluate.predictions import Predictions
from dreibein.evaluate.report.figures import (
    BLUE,
    TEAL,
    Array,
    axis,
    element_color,
    log_axis,
    rounded,
    symbol,
)
from dreibein.evaluate.report.markup import Markup, Spec, figure, grid

BINS = 81
QUANTILE = 0.998
FEWEST = 20  # errors worth a histogram
NOTE = "Counts on a logarithmic scale; the outermost bins hold all that lies beyond."


def histograms(predictions: Predictions) -> Markup:
    """Those of the quantities that there are, side by side."""
    plots = [
        figure(f"histogram-{name}", title, spec, height=280, caption=NOTE)
        for name, title, spec in (
            ("energy", "Distribution of energy errors", energy_histogram(predictions)),
            ("forces", "Distribution of force errors", force_histogram(predictions)),
            ("stress", "Distribution of stress errors", stress_histogram(predictions)),
        )
        if spec is not None
    ]
    return grid(*plots, min_width=320 if len(plots) > 2 else 470) if plots else Markup("")


def energy_histogram(predictions: Predictions) -> Spec | None:
    """Distribution of energy errors per atom."""
    error = MEV * (predictions.energy_prediction - predictions.energy_reference)
    error = error / np.maximum(predictions.n_atoms, 1)
    error = error[np.isfinite(error)]
    if len(error) < FEWEST:
        return None
    return histogram_figure([("frames", BLUE, error)], "meV/atom", "frames")


def force_histogram(predictions: Predictions) -> Spec | None:
    """Distribution of force errors, by element."""
    error = MEV * (predictions.forces_prediction - predictions.forces_reference)
    error = error.astype(float)
    if np.isfinite(error).sum() < FEWEST:
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
    edge = float(np.quantile(largest, QUANTILE)) or 1e-9
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
            "margin": {"t": 34},
            "hovermode": "x unified" if len(groups) > 1 else "closest",
        },
    }


def stress_histogram(predictions: Predictions) -> Spec | None:
    """Distribution of stress errors, all components."""
    error = predictions.stress_prediction - predictions.stress_reference
    error = error[np.isfinite(error)] * MEV * GPA_PER_MEV_A3
    if len(error) < FEWEST:
        return None
    return histogram_figure([("components", TEAL, error)], "GPa", "components")
