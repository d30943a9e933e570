"""What a run is judged by: the thermo log, and drift and means with honest error bars."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

COLUMNS = ("step", "time_fs", "potential_ev", "kinetic_ev", "total_ev", "temperature_k")
CONSERVED = "conserved_ev"
PERIODIC = ("pressure_gpa", "volume_a3")
DISAGREEMENT = "force_disagreement_ev_per_a"  # of a committee: the largest of an atom

_MEV_PER_EV = 1000.0


def format_row(values: dict[str, float | int]) -> str:
    """One line of CSV; floats keep every digit, so that a restart can be compared exactly.

    >>> format_row({"step": 10, "time_fs": 5.0}).strip()
    '10,5.0'
    """
    return ",".join(repr(v) for v in values.values()) + "\n"


def read_thermo(path: str | Path) -> dict[str, np.ndarray]:
    """Columns of a thermo.csv, name -> [rows]."""
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    table = np.array([[float(x) for x in row] for row in rows[1:]]).reshape(-1, len(rows[0]))
    return dict(zip(rows[0], table.T, strict=True))


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error; the error is NaN where it cannot be told."""

    value: float
    error: float


def fit_drift(time_ps: np.ndarray, energy_ev: np.ndarray, num_atoms: int) -> Estimate | None:
    """Slope of energy against time by least squares, in meV/atom/ps.

    The residuals of neighboring samples resemble each other (the energy breathes with the
    vibrations), so the textbook error is widened by the statistical inefficiency of the residuals.

    Args:
        time_ps: [n] times in ps.
        energy_ev: [n] energies in eV.
        num_atoms: Number of atoms.

    Returns:
        The drift, or None for fewer than three samples.

    >>> fit_drift(np.arange(5.0), 1.0 + 0.002 * np.arange(5.0), 2).value
    1.0...
    """
    if len(time_ps) < 3:
        return None
    time = time_ps - time_ps.mean()
    energy = (energy_ev - energy_ev.mean()) * _MEV_PER_EV / num_atoms
    spread = time @ time
    slope = float(time @ energy / spread)
    residuals = energy - slope * time
    variance = residuals @ residuals / (len(time) - 2)
    error = float(np.sqrt(variance / spread * statistical_inefficiency(residuals)))
    return Estimate(slope, error)


def mean_of_second_half(values: np.ndarray) -> Estimate:
    """Mean and its standard error over the second half of a run, when it has forgotten its start.

    >>> mean_of_second_half(np.array([9.0, 9.0, 1.0, 1.0])).value
    1.0
    """
    kept = values[len(values) // 2 :]
    if len(kept) < 2:
        return Estimate(float(kept.mean()), float("nan"))
    spread = float(kept.var(ddof=1)) / len(kept)
    return Estimate(float(kept.mean()), (spread * statistical_inefficiency(kept)) ** 0.5)


def statistical_inefficiency(values: np.ndarray) -> float:
    """1 + 2 sum_k rho_k over the initial positive autocorrelations: n samples weigh as n / this."""
    rest = values - values.mean()
    count = len(rest)
    variance = rest @ rest
    if count < 3 or variance <= 0.0:
        return 1.0
    size = 1 << (2 * count - 1).bit_length()
    power = np.abs(np.fft.rfft(rest, size)) ** 2
    correlation = np.fft.irfft(power, size)[:count] / variance
    negative = np.flatnonzero(correlation <= 0.0)
    last = int(negative[0]) if len(negative) else count
    return max(1.0, 1.0 + 2.0 * float(correlation[1:last].sum()))
