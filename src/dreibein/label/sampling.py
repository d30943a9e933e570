"""Molecular dynamics of one trajectory: BAOAB Langevin steps, frames at a fixed interval.

A trajectory is a chain of intervals. Each begins from positions, velocities and the state of its
random numbers alone (the electronic solution starts from nothing), so a chain that is cut anywhere
between two intervals and taken up later, in whichever process, is the same to the last bit.
"""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase import Atoms, units

from dreibein.label.bonds import Bond, bonds, bonds_changed
from dreibein.label.calculations import Array, Calculation, ConvergenceError
from dreibein.label.config import LabelConfig

# A trajectory that breaks is started again with other random numbers, this many times in a row
# without a single frame.
MAX_RESTARTS = 10
# Positions are written with 8 decimals; labels belong to the positions as written.
DECIMALS = 8
_STREAM = 1  # keeps these random numbers apart from others of the same seed


@dataclass(frozen=True)
class Trajectory:
    """One trajectory as far as it has come; a value that `advance` replaces.

    Attributes:
        index: Number of the trajectory.
        atoms: Structure it starts from.
        wanted: Frames it shall give.
        restarts: How often it was started again.
        interval: Intervals done since the last start.
        positions: Now [N, 3] in Å.
        velocities: Now [N, 3] in ASE's units.
        random: State of the random numbers.
        frames: Positions [N, 3] in Å, one array a frame, rounded as they are written.
        times_fs: Time of each frame since the last start.
        energies: Energies in eV after every step since equilibration, one array an interval; a
            single NaN where it started again.
        breaks: What ended each start: "bonds" or "convergence".
        broken_frames: Frames kept although their bonds are not those of the start.
        futile: Starts since the last frame.
    """

    index: int
    atoms: Atoms
    wanted: int
    restarts: int
    interval: int
    positions: Array
    velocities: Array
    random: dict[str, Any]
    frames: list[Array] = field(default_factory=list)
    times_fs: list[float] = field(default_factory=list)
    energies: list[Array] = field(default_factory=list)
    breaks: list[str] = field(default_factory=list)
    broken_frames: int = 0
    futile: int = 0

    @property
    def done(self) -> bool:
        """Whether it has all its frames."""
        return len(self.frames) >= self.wanted

    @property
    def hopeless(self) -> bool:
        """Whether it broke more often in a row than it may start again."""
        return self.futile > MAX_RESTARTS


def begin(index: int, atoms: Atoms, config: LabelConfig) -> Trajectory:
    """Start of a trajectory, with velocities of Maxwell and Boltzmann."""
    positions, velocities, random = _start(index, 0, atoms, config)
    wanted = config.frames_of(index)
    return Trajectory(index, atoms, wanted, 0, 0, positions, velocities, random)


def advance(
    trajectory: Trajectory, config: LabelConfig, calculation: Calculation, seconds: float
) -> Trajectory:
    """Carry a trajectory on, to its end or for `seconds`, whichever comes first.

    Where it is cut has no influence on what it becomes.
    """
    until = time.monotonic() + seconds
    start_bonds = bonds(trajectory.atoms)
    while not (trajectory.done or trajectory.hopeless):
        trajectory = _one_interval(trajectory, config, calculation, start_bonds)
        if time.monotonic() >= until:
            break
    return trajectory


def _start(
    index: int, restarts: int, atoms: Atoms, config: LabelConfig
) -> tuple[Array, Array, dict[str, Any]]:
    seed = np.random.SeedSequence([config.seed, _STREAM, index, restarts])
    random = np.random.default_rng(seed)
    spread = np.sqrt(units.kB * config.temperature_k / atoms.get_masses())[:, None]
    velocities = spread * random.standard_normal((len(atoms), 3))
    return atoms.get_positions(), velocities, dict(random.bit_generator.state)


def _one_interval(
    trajectory: Trajectory,
    config: LabelConfig,
    calculation: Calculation,
    start_bonds: frozenset[Bond],
) -> Trajectory:
    random = np.random.default_rng()
    random.bit_generator.state = trajectory.random
    try:
        positions, velocities, energies = _steps(
            trajectory.positions,
            trajectory.velocities,
            trajectory.atoms,
            config,
            calculation,
            random,
        )
    except ConvergenceError:
        return _restarted(trajectory, config, "convergence")
    now = trajectory.atoms.copy()
    now.positions = positions
    if not (np.isfinite(positions).all() and np.isfinite(energies).all()):
        return _restarted(trajectory, config, "convergence")
    changed = bonds_changed(now, start_bonds)
    if changed and not config.keep_broken:
        return _restarted(trajectory, config, "bonds")
    following = replace(
        trajectory,
        interval=trajectory.interval + 1,
        positions=positions,
        velocities=velocities,
        random=dict(random.bit_generator.state),
    )
    if following.interval <= config.equilibration_intervals:
        return following
    time_fs = following.interval * config.steps_per_interval * config.timestep_fs
    return replace(
        following,
        frames=[*trajectory.frames, as_written(now)],
        times_fs=[*trajectory.times_fs, time_fs],
        energies=[*trajectory.energies, energies],
        broken_frames=trajectory.broken_frames + changed,
        futile=0,
    )


def _restarted(trajectory: Trajectory, config: LabelConfig, reason: str) -> Trajectory:
    restarts = trajectory.restarts + 1
    positions, velocities, random = _start(trajectory.index, restarts, trajectory.atoms, config)
    return replace(
        trajectory,
        restarts=restarts,
        interval=0,
        positions=positions,
        velocities=velocities,
        random=random,
        energies=[*trajectory.energies, np.array([np.nan])],
        breaks=[*trajectory.breaks, reason],
        futile=trajectory.futile + 1,
    )


def _steps(
    positions: Array,
    velocities: Array,
    atoms: Atoms,
    config: LabelConfig,
    calculation: Calculation,
    random: np.random.Generator,
) -> tuple[Array, Array, Array]:
    """One interval of BAOAB (Leimkuhler and Matthews 2013, doi:10.1063/1.4802990).

    Its positions have the canonical distribution exactly where the potential is harmonic, which is
    why a step of 1 fs does for bonds to hydrogen; its kinetic temperature is a little low.
    """
    mass = atoms.get_masses()[:, None]
    step = config.timestep_fs * units.fs
    keep = np.exp(-config.friction_per_ps * config.timestep_fs / 1000.0)
    kick = np.sqrt((1.0 - keep**2) * units.kB * config.temperature_k / mass)
    calculation.forget()
    _, forces = calculation.energy_and_forces(positions)
    energies = []
    for _ in range(config.steps_per_interval):
        velocities = velocities + 0.5 * step * forces / mass
        positions = positions + 0.5 * step * velocities
        velocities = keep * velocities + kick * random.standard_normal(positions.shape)
        positions = positions + 0.5 * step * velocities
        energy, forces = calculation.energy_and_forces(positions)
        velocities = velocities + 0.5 * step * forces / mass
        energies.append(energy)
    return positions, velocities, np.array(energies)


def as_written(atoms: Atoms) -> Array:
    """Positions in Å as a file holds them; a molecule's center of mass goes to the origin."""
    positions = atoms.get_positions()
    if not atoms.pbc.any():
        positions = positions - atoms.get_center_of_mass()
    return np.round(positions, DECIMALS)
