"""Geometries on their way to the file, and the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from dreibein.label.calculations import Labels
from dreibein.label.config import LabelConfig
from dreibein.label.sampling import DECIMALS, Trajectory

# Rows and columns of ASE's Voigt order xx yy zz yz xz xy.
_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


@dataclass(frozen=True)
class Frame:
    """A geometry as it is written: `atoms` with charge and spin, and what its `info` says."""

    atoms: Atoms
    info: dict[str, Any]


def frames_of_trajectory(
    trajectory: Trajectory, conformer: int, config: LabelConfig, method: str, sampler: str
) -> list[Frame]:
    """Frames of a trajectory by time, each telling how it was made.

    Args:
        trajectory: A trajectory that is done.
        conformer: Number of the structure that it started from.
        config: Choices of the run.
        method: Level of theory of the labels.
        sampler: Level of theory of the dynamics.
    """
    how = (
        f"{sampler} Langevin dynamics (BAOAB), step {config.timestep_fs:g} fs, friction "
        f"{config.friction_per_ps:g}/ps, equilibration {config.equilibration_fs:g} fs, "
        f"interval {config.steps_per_interval * config.timestep_fs:g} fs"
    )
    frames = []
    for positions, time_fs in zip(trajectory.frames, trajectory.times_fs):
        atoms = trajectory.atoms.copy()
        atoms.positions = positions
        info = {
            "config_type": trajectory.atoms.info.get("config_type", f"conformer{conformer}"),
            "level_of_theory": method,
            "temperature": config.temperature_k,
            "seed": config.seed,
            "trajectory": trajectory.index,
            "time_fs": time_fs,
            "sampling": how,
        }
        frames.append(Frame(atoms, info))
    return frames


def single_point_frame(atoms: Atoms, method: str) -> Frame:
    """Frame of a structure that is labeled where it is, to the decimals that a file keeps."""
    atoms = atoms.copy()
    atoms.positions = np.round(atoms.positions, DECIMALS)
    return Frame(atoms, {"level_of_theory": method})


def write_frames(output: Path, frames: Sequence[Frame], labels: Sequence[Labels | str]) -> None:
    """Write the frames that have labels as extxyz, all of them or none."""
    from dreibein.systems.files import atomic_path  # inside: workers need no torch

    written = [
        _labeled(frame, found) for frame, found in zip(frames, labels) if isinstance(found, Labels)
    ]
    with atomic_path(output) as side:
        ase.io.write(side, written, format="extxyz")


def _labeled(frame: Frame, labels: Labels) -> Atoms:
    """ASE structure with its labels where ASE looks for them."""
    atoms = frame.atoms.copy()
    atoms.info |= frame.info
    results: dict[str, Any] = {
        "energy": labels.energy,
        "forces": labels.forces,
    }
    if labels.charges is not None:
        results["charges"] = labels.charges
    if labels.dipole is not None:
        results["dipole"] = labels.dipole
    if labels.stress is not None:
        results["stress"] = labels.stress[_VOIGT]
    if labels.hessian is not None:
        atoms.info["hessian"] = labels.hessian.ravel()
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms
