"""The simulation: total energy and temperature against time."""

from typing import Any

import numpy as np

from dreibein.evaluate.report.figures import BLUE, MUTED, ORANGE, axis, rounded, thin
from dreibein.evaluate.report.formats import digits, whole
from dreibein.evaluate.report.markup import Section, Spec, figure, paragraph, pill
from dreibein.evaluate.report.run import Dynamics, RunRecord

MAX_POINTS = 2500
MILLI = 1000.0
FS_PER_PS = 1000.0
ENSEMBLES = {"nve": "NVE", "langevin": "Langevin (NVT)", "npt": "NPT"}


def motion_section(record: RunRecord) -> Section:
    """Energy conservation in a simulation with this model."""
    dynamics = record.dynamics
    title = "Simulation"
    if dynamics is None or len(dynamics.thermo["time_fs"]) < 2:
        return Section(
            "simulation",
            title,
            missing="No simulation in this folder. Run one with",
            command="dreibein md RUN STRUCTURE --ensemble nve -o RUN/md",
        )
    body = paragraph(" · ".join(_summary(dynamics)), css="lead")
    stopped = dynamics.summary.get("stopped")
    if stopped:
        body = type(body)(body + paragraph(pill("failed", "stopped"), " ", str(stopped)))
    name, _ = _energy(dynamics)
    plot = figure(
        "dynamics",
        f"{name.capitalize()} and temperature",
        dynamics_figure(dynamics),
        height=440,
        caption=_caption(dynamics),
    )
    return Section("simulation", title, body + plot)


def drift(dynamics: Dynamics | None) -> float | None:
    """Drift of the conserved energy in meV/atom/ps; None for a thermostat without one."""
    if dynamics is None:
        return None
    value = dynamics.summary.get("drift_mev_per_atom_ps")
    return None if value is None else float(value)


def ensemble(dynamics: Dynamics) -> str:
    """Name of the ensemble."""
    name = str(_config(dynamics).get("ensemble", ""))
    return ENSEMBLES.get(name, name or "simulation")


def _config(dynamics: Dynamics) -> dict[str, Any]:
    found = dynamics.summary.get("config")
    return found if isinstance(found, dict) else {}


def _summary(dynamics: Dynamics) -> list[str]:
    summary, config = dynamics.summary, _config(dynamics)
    time = dynamics.thermo["time_fs"]
    words = [f"{ensemble(dynamics)}, {digits(float(time[-1] - time[0]) / FS_PER_PS)} ps"]
    if "num_atoms" in summary:
        words.append(f"{whole(summary['num_atoms'])} atoms")
    if "timestep_fs" in config:
        words.append(f"time step {digits(config['timestep_fs'], 2)} fs")
    value = drift(dynamics)
    if value is not None:
        error = summary.get("drift_error_mev_per_atom_ps")
        plus = f" ± {digits(error, 2)}" if error is not None else ""
        words.append(f"drift {digits(value, 2)}{plus} meV/atom/ps")
    if summary.get("ns_per_day") is not None:
        words.append(f"{digits(summary['ns_per_day'])} ns/day")
    return words


def _energy(dynamics: Dynamics) -> tuple[str, np.ndarray]:
    """Name and values of the energy that should stay."""
    if "conserved_ev" in dynamics.thermo:
        return "conserved energy", dynamics.thermo["conserved_ev"]
    return "total energy", dynamics.thermo["total_ev"]


def _caption(dynamics: Dynamics) -> str:
    name, _ = _energy(dynamics)
    if drift(dynamics) is None:
        return "The thermostat exchanges energy with the atoms, so their total energy wanders."
    return f"The {name} relative to its first value, per atom; it should stay where it is."


def dynamics_figure(dynamics: Dynamics) -> Spec:
    """Energy above, temperature below."""
    thermo = dynamics.thermo
    keep = thin(thermo["time_fs"], MAX_POINTS)
    time = thermo["time_fs"] / FS_PER_PS
    name, energy = _energy(dynamics)
    atoms = int(dynamics.summary.get("num_atoms") or 0)
    relative = MILLI * (energy - energy[0]) / (atoms or 1)
    unit = "meV/atom" if atoms else "meV"
    traces: list[Spec] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": rounded(time[keep]),
            "y": rounded(relative[keep]),
            "line": {"color": BLUE, "width": 1.5},
            "hovertemplate": f"%{{y:.3g}} {unit}",
        }
    ]
    layout: Spec = {
        "xaxis": axis("time / ps"),
        "yaxis": axis(f"change / {unit}"),
        "hovermode": "x unified",
        "showlegend": False,
    }
    slope = drift(dynamics)
    if slope is not None:
        ends = time[[0, -1]]
        middle = float(np.mean(relative) - slope * np.mean(time))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"fit, {digits(slope, 2)} meV/atom/ps",
                "x": rounded(ends),
                "y": rounded(middle + slope * ends),
                "line": {"color": MUTED, "width": 1.5, "dash": "dash"},
                "hoverinfo": "skip",
            }
        )
    if "temperature_k" in thermo:
        layout["yaxis"]["domain"] = [0.45, 1.0]
        layout["xaxis"]["anchor"] = "y2"
        layout["yaxis2"] = axis("temperature / K", domain=[0.0, 0.36])
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "temperature",
                "x": rounded(time[keep]),
                "y": rounded(thermo["temperature_k"][keep], 4),
                "yaxis": "y2",
                "line": {"color": ORANGE, "width": 1},
                "hovertemplate": "%{y:.0f} K",
            }
        )
    return {"data": traces, "layout": layout}
