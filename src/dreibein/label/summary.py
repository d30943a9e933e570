"""What a labeling run found, and how independent its frames are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dreibein.label.calculations import Array, Labels
from dreibein.label.sampling import Trajectory


class LabelSummary(BaseModel):
    """Result of `generate_labels`; all but `output` and `seconds` stands in the sidecar file."""

    model_config = ConfigDict(frozen=True)

    output: Path = Field(description="The file of labeled frames")
    seconds: float = Field(description="Wall time of this call in s")
    method: str = Field(description="Level of theory of the labels")
    sampler: str | None = Field(description="Level of theory of the dynamics")
    frames: int = Field(description="Frames in the file")
    failed: list[int] = Field(
        description="Frames left out, counted from 0 as sampled or read, for want of convergence"
    )
    conformers: int | None = Field(description="Structures that trajectories started from")
    trajectories: int | None = Field(description="Independent trajectories")
    restarts_bonds: int = Field(description="Starts given up because bonds changed")
    restarts_convergence: int = Field(description="Starts given up for want of convergence")
    broken_frames: int = Field(description="Frames kept although their bonds have changed")
    energy_mean_ev: float = Field(description="Mean energy in eV")
    energy_spread_ev: float = Field(description="Standard deviation of the energy in eV")
    forces_rms_ev_per_a: float = Field(description="Root mean square force component in eV/Å")
    energy_autocorrelation: float | None = Field(
        description="Autocorrelation of the sampler's energy from one frame to the next, or None "
        "where trajectories are too short to tell"
    )
    correlation_time_fs: float | None = Field(
        description="Integrated autocorrelation time of that energy in fs"
    )


def label_statistics(labels: Sequence[Labels]) -> dict[str, float]:
    """Mean and spread of the energy in eV, and rms of the force components in eV/Å."""
    energies = np.array([found.energy for found in labels])
    forces = np.concatenate([found.forces.ravel() for found in labels])
    return {
        "energy_mean_ev": float(energies.mean()),
        "energy_spread_ev": float(energies.std()),
        "forces_rms_ev_per_a": float(np.sqrt(np.mean(forces**2))),
    }


def correlations(
    trajectories: Sequence[Trajectory], lag: int, timestep_fs: float
) -> tuple[float | None, float | None]:
    """Autocorrelation of the energy at `lag` steps, and its integral in fs.

    rho(k) = <dE(0) dE(k)> / <dE^2>, with the mean over all trajectories; the integral ends where
    rho first falls below zero.

    Returns:
        Both numbers, or None where no trajectory is longer than the lag.
    """
    pieces = [piece for t in trajectories for piece in _unbroken(t.energies)]
    pieces = [piece for piece in pieces if len(piece) > lag]
    if not pieces or np.concatenate(pieces).std() == 0.0:
        return None, None
    mean = np.concatenate(pieces).mean()
    pieces = [piece - mean for piece in pieces]
    longest = max(len(piece) for piece in pieces)
    total = 0.0
    for k in range(longest // 2):
        rho = _autocorrelation(pieces, k)
        if rho < 0.0:
            break
        total += rho
    return _autocorrelation(pieces, lag), timestep_fs * (total - 0.5)


def _unbroken(intervals: Sequence[Array]) -> list[Array]:
    """Energies without a gap, parted at the NaN that marks a new start."""
    pieces: list[list[Array]] = [[]]
    for interval in intervals:
        if np.isnan(interval).any():
            pieces.append([])
        else:
            pieces[-1].append(interval)
    return [np.concatenate(piece) for piece in pieces if piece]


def _autocorrelation(pieces: Sequence[Array], k: int) -> float:
    products = [piece[: len(piece) - k] * piece[k:] for piece in pieces if len(piece) > k]
    square = np.mean(np.concatenate(pieces) ** 2)
    return float(np.mean(np.concatenate(products)) / square)
