"""What came of a run: drift, means and speed, judged by its thermo log."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, Field

from dreibein.simulate.dynamics_config import FS_PER_PS, DynamicsConfig
from dreibein.simulate.thermo import CONSERVED, fit_drift, mean_of_second_half, read_thermo
from dreibein.systems import atomic_path

if TYPE_CHECKING:
    from dreibein.simulate.evaluator import Evaluator

THERMO_NAME = "thermo.csv"
TRAJECTORY_NAME = "trajectory.extxyz"
SUMMARY_NAME = "dynamics.json"

_NS_PER_FS = 1e-6
_SECONDS_PER_DAY = 86400.0
# Ensemble -> column whose drift measures the integration; Langevin noise conserves nothing.
_DRIFTS = {"nve": "total_ev", "npt": CONSERVED}
_DRIFT_NAMES = {"total_ev": "total energy", CONSERVED: "conserved quantity"}


class DynamicsResult(BaseModel):
    """What a run did; written as dynamics.json beside its data."""

    config: DynamicsConfig = Field(description="The choices")
    num_atoms: int = Field(description="Number of atoms")
    steps_done: int = Field(description="Steps from the first start, restarts included")
    time_ps: float = Field(description="Simulated time in ps")
    stopped: str | None = Field(description="Why the run stopped early, or null")
    drift_of: str | None = Field(description="Which energy the drift is of; null for langevin")
    drift_mev_per_atom_ps: float | None = Field(description="Linear drift in meV/atom/ps")
    drift_error_mev_per_atom_ps: float | None = Field(description="Its standard error")
    temperature_mean_k: float | None = Field(description="Mean in K over the second half")
    temperature_error_k: float | None = Field(description="Its standard error")
    pressure_mean_gpa: float | None = Field(description="Mean pressure, second half; or null")
    pressure_error_gpa: float | None = Field(description="Its standard error")
    volume_mean_a3: float | None = Field(description="Mean volume in Å^3, second half; or null")
    seconds: float = Field(description="Wall time of this leg in s, output included")
    ns_per_day: float = Field(description="Speed of this leg")
    device: str = Field(description="Where the potential ran")
    precision: str = Field(description="Precision of the network")
    skin_a: float = Field(description="Neighbor skin in Å")
    backend: str = Field(description="What evaluated the potential, and how it was made")
    alarms: dict[str, Any] = Field(
        default_factory=dict, description="Policy, counts by kind and first alarms of this leg"
    )


def summarize(
    folder: Path,
    config: DynamicsConfig,
    evaluator: "Evaluator",
    *,
    num_atoms: int,
    steps: tuple[int, int],
    seconds: float,
    stopped: str | None,
) -> DynamicsResult:
    """Judge the run in `folder` by its thermo log and write dynamics.json.

    Args:
        folder: Where the log is.
        config: The run's choices.
        evaluator: What computed the forces.
        num_atoms: Number of atoms.
        steps: First and last step of this leg.
        seconds: Wall time of this leg.
        stopped: Why it stopped early, or None.
    """
    log = folder / THERMO_NAME
    thermo = read_thermo(log) if log.stat().st_size else {}
    drift = None
    column = _DRIFTS.get(config.ensemble)
    if column is not None and column in thermo:
        drift = fit_drift(thermo["time_fs"] / FS_PER_PS, thermo[column], num_atoms)
    temperature = _mean(thermo, "temperature_k")
    pressure = _mean(thermo, "pressure_gpa")
    first, last = steps
    simulated_ns = (last - first) * config.timestep_fs * _NS_PER_FS
    result = DynamicsResult(
        config=config,
        num_atoms=num_atoms,
        steps_done=last,
        time_ps=last * config.timestep_fs / FS_PER_PS,
        stopped=stopped,
        drift_of=_DRIFT_NAMES[column] if column else None,
        drift_mev_per_atom_ps=drift.value if drift else None,
        drift_error_mev_per_atom_ps=drift.error if drift else None,
        temperature_mean_k=temperature[0],
        temperature_error_k=temperature[1],
        pressure_mean_gpa=pressure[0],
        pressure_error_gpa=pressure[1],
        volume_mean_a3=_mean(thermo, "volume_a3")[0],
        seconds=seconds,
        ns_per_day=simulated_ns / max(seconds, 1e-9) * _SECONDS_PER_DAY,
        device=str(evaluator.potential.device),
        precision=str(evaluator.potential.dtype).removeprefix("torch."),
        skin_a=evaluator.skin,
        backend=evaluator.frozen.describe(),
        alarms=evaluator.alarms.summary(),
    )
    with atomic_path(folder / SUMMARY_NAME) as path:
        path.write_text(json.dumps(result.model_dump(), indent=2) + "\n")
    return result


def _mean(thermo: dict[str, np.ndarray], column: str) -> tuple[float | None, float | None]:
    """Mean over the second half and its error; None for what cannot be told."""
    if column not in thermo or not len(thermo[column]):
        return None, None
    found = mean_of_second_half(thermo[column])
    return found.value, found.error if np.isfinite(found.error) else None
