"""Errors by element and by group of frames."""

from dreibein.evaluate.errors import UNIT_TEXT, metric_name
from dreibein.evaluate.records import Evaluation
from dreibein.evaluate.report.figures import axis, element_color, rounded
from dreibein.evaluate.report.formats import digits, whole
from dreibein.evaluate.report.markup import Markup, Section, Spec, Table, figure, grid
from dreibein.evaluate.report.run import EVALUATE, RunRecord


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
    if len(evaluation.elements) > 1:
        plot = figure(
            "elements",
            "Force error: MAE in full color, RMSE pale",
            element_figure(evaluation),
            height=300,
        )
        body += grid(plot, _element_table(evaluation))
    elif evaluation.elements:
        body += _element_table(evaluation)
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
            "showlegend": False,
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
    header = [Markup(f"{titles[q]} {s.upper()}<br>{UNIT_TEXT[q]}") for q, s in columns]
    table = Table(("group", "frames", *header))
    for group in groups:
        values = [digits(group.metrics.get(metric_name(q, s))) for q, s in columns]
        table.rows.append((group.name, whole(group.frames), *values))
    total = [digits(evaluation.metrics.get(metric_name(q, s))) for q, s in columns]
    table.rows.append(("all", whole(evaluation.counts["frames"]), *total))
    return Markup(table.render(css="last-total"))
