"""Learning curves: losses, learning rate and validation errors against the epoch."""

import numpy as np

from dreibein.evaluate.errors import UNIT_TEXT, metric_name
from dreibein.evaluate.report.figures import (
    BLUE,
    MUTED,
    ORANGE,
    PURPLE,
    RED,
    TEAL,
    axis,
    log_axis,
    rounded,
    thin,
)
from dreibein.evaluate.report.formats import digits, duration, whole
from dreibein.evaluate.report.markup import Section, Spec, figure, grid, paragraph
from dreibein.evaluate.report.run import Columns, RunRecord

MAX_POINTS = 1500
PANEL_GAP = 0.07
LOSSES = (
    ("train_loss", "training", BLUE, 2.5),
    ("val_loss", "validation", ORANGE, 2.5),
    ("train_energy_loss", "energy term", PURPLE, 1),
    ("train_forces_loss", "forces term", TEAL, 1),
    ("train_stress_loss", "stress term", RED, 1),
)
ERRORS = ("forces", "energy_per_atom", "stress")
ERROR_TITLES = {"forces": "forces", "energy_per_atom": "energy", "stress": "stress"}


def learning_section(record: RunRecord) -> Section:
    """How the training went."""
    epochs = record.epochs
    if epochs is None or "epoch" not in epochs or not len(epochs["epoch"]):
        return Section(
            "learning",
            "Learning",
            missing="No metrics.csv in this folder: it is written by",
            command="dreibein train",
        )
    losses, errors = loss_figure(epochs), error_figure(epochs)
    plots = []
    if losses:
        plots.append(figure("learning-loss", "Loss", losses, height=430))
    if errors:
        plots.append(
            figure(
                "learning-errors",
                "Error on the validation frames (MAE solid, RMSE dotted)",
                errors,
                height=430,
            )
        )
    return Section("learning", "Learning", _summary(epochs) + grid(*plots))


def _summary(epochs: Columns) -> str:
    count = len(epochs["epoch"])
    words = [f"{whole(epochs['epoch'][-1])} epochs" if count > 1 else "1 epoch"]
    if "step" in epochs:
        words.append(f"{whole(epochs['step'][-1])} steps")
    if "seconds" in epochs and np.isfinite(epochs["seconds"]).any():
        seconds = epochs["seconds"]
        words.append(f"{duration(float(np.nanmean(seconds)))} per epoch")
    best = best_epoch(epochs)
    if best is not None:
        quantity, row = best
        value = epochs[f"val_{metric_name(quantity, 'mae')}"][row]
        words.append(
            f"smallest validation error of the {ERROR_TITLES[quantity]} "
            f"{digits(value)} {UNIT_TEXT[quantity]} in epoch {whole(epochs['epoch'][row])}"
        )
    return paragraph(" · ".join(words), css="lead")


def best_epoch(epochs: Columns) -> tuple[str, int] | None:
    """Quantity and row of the smallest validation MAE: of forces, else of energies."""
    for quantity in ERRORS:
        values = epochs.get(f"val_{metric_name(quantity, 'mae')}")
        if values is not None and np.isfinite(values).any():
            return quantity, int(np.nanargmin(values))
    return None


def loss_figure(epochs: Columns) -> Spec | None:
    """Losses above, learning rate below."""
    keep = thin(epochs["epoch"], MAX_POINTS)
    x = rounded(epochs["epoch"][keep])
    traces: list[Spec] = []
    shown = []
    for name, label, color, width in LOSSES:
        values = epochs.get(name)
        if values is None or not np.isfinite(values).any():
            continue
        shown.append(values[keep])
        traces.append(
            {
                "type": "scatter",
                "mode": _mode(keep),
                "name": label,
                "x": x,
                "y": rounded(values[keep]),
                "line": {"color": color, "width": width},
                "marker": {"color": color, "size": 4},
                "hovertemplate": "%{y:.3g}",
            }
        )
    if not traces:
        return None
    layout = {
        "xaxis": axis("epoch", anchor="y2" if "lr" in epochs else "y"),
        "yaxis": log_axis("loss", shown, domain=[0.3, 1.0] if "lr" in epochs else [0.0, 1.0]),
        "hovermode": "x unified",
    }
    if "lr" in epochs:
        traces.append(
            {
                "type": "scatter",
                "mode": _mode(keep),
                "name": "learning rate",
                "x": x,
                "y": rounded(epochs["lr"][keep]),
                "yaxis": "y2",
                "line": {"color": MUTED, "width": 1.5},
                "marker": {"color": MUTED, "size": 4},
                "showlegend": False,
                "hovertemplate": "%{y:.3g}",
            }
        )
        layout["yaxis2"] = axis(
            "learning rate", domain=[0.0, 0.2], rangemode="tozero", exponentformat="e", nticks=4
        )
    return {"data": traces, "layout": layout}


def error_figure(epochs: Columns) -> Spec | None:
    """MAE and RMSE on the validation frames, one panel per quantity."""
    keep = thin(epochs["epoch"], MAX_POINTS)
    present = [q for q in ERRORS if f"val_{metric_name(q, 'mae')}" in epochs]
    if not present:
        return None
    traces: list[Spec] = []
    layout: Spec = {
        "hovermode": "x unified",
        "showlegend": False,
        "annotations": [],
        "xaxis": axis("epoch", anchor=f"y{len(present)}" if len(present) > 1 else "y"),
    }
    room = 1.0 / len(present)
    for k, quantity in enumerate(present):
        suffix = "" if k == 0 else str(k + 1)
        panel = _error_traces(epochs, keep, quantity, f"y{suffix}")
        traces += panel
        top = 1.0 - k * room
        bottom = top - room + (PANEL_GAP if k < len(present) - 1 else 0.0)
        layout[f"yaxis{suffix}"] = log_axis(
            UNIT_TEXT[quantity], [trace["y"] for trace in panel], domain=[max(0.0, bottom), top]
        )
        layout["annotations"].append(_panel_name(ERROR_TITLES[quantity], top))
    return {"data": traces, "layout": layout}


def _error_traces(epochs: Columns, keep: np.ndarray, quantity: str, yaxis: str) -> list[Spec]:
    colors = {"forces": BLUE, "energy_per_atom": PURPLE, "stress": TEAL}
    traces = []
    for statistic, dash in (("mae", "solid"), ("rmse", "dot")):
        column = epochs.get(f"val_{metric_name(quantity, statistic)}")
        if column is None:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": _mode(keep),
                "name": f"{ERROR_TITLES[quantity]}, {statistic.upper()}",
                "x": rounded(epochs["epoch"][keep]),
                "y": rounded(column[keep]),
                "yaxis": yaxis,
                "line": {"color": colors[quantity], "width": 2, "dash": dash},
                "marker": {"color": colors[quantity], "size": 4},
                "hovertemplate": "%{y:.3g} " + UNIT_TEXT[quantity],
            }
        )
    return traces


def _panel_name(name: str, top: float) -> Spec:
    return {
        "text": f"<b>{name}</b>",
        "xref": "paper",
        "yref": "paper",
        "x": 0.99,
        "y": top,
        "xanchor": "right",
        "yanchor": "top",
        "showarrow": False,
    }


def _mode(points: np.ndarray) -> str:
    return "lines+markers" if len(points) <= 40 else "lines"
