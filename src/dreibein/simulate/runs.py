"""A run of dynamics under way: the loop over steps, its checks and its files."""

import time
from collections.abc import Callable
from pathlib import Path

from ase import units

from dreibein.nn.committee import FORCES_SPREAD
from dreibein.simulate.alarms import OutOfDomainError
from dreibein.simulate.calculator import Calculator
from dreibein.simulate.dynamics_config import DynamicsConfig
from dreibein.simulate.dynamics_result import (
    THERMO_NAME,
    TRAJECTORY_NAME,
    DynamicsResult,
    summarize,
)
from dreibein.simulate.guards import BlowUpError, Bounds, find_bad_motion, find_clash
from dreibein.simulate.integrators import Integrator
from dreibein.simulate.records import AppendedFile, frame_text, with_results
from dreibein.simulate.restarts import RestartPoint, write_restart
from dreibein.simulate.thermo import COLUMNS, CONSERVED, DISAGREEMENT, PERIODIC, format_row

Progress = Callable[[int, int, str], None]


class Run:
    """The atoms in motion and the files that record them; a context manager.

    Args:
        integrator: Moves the atoms.
        config: The run's choices.
        folder: Where the files are; it exists.
        point: Where the run goes on, or None for its start.
    """

    def __init__(
        self,
        integrator: Integrator,
        config: DynamicsConfig,
        folder: Path,
        point: RestartPoint | None = None,
    ) -> None:
        self.integrator = integrator
        self.atoms = integrator.atoms
        self.calculator: Calculator = self.atoms.calc
        self.config = config
        self.folder = folder
        self.first = self.step = point.step if point else 0
        self.last_frame = point.last_frame if point else 0
        self.bounds = Bounds(config.hottest_k, config.max_force, config.min_distance)
        sizes = point.sizes if point else {}
        self.thermo = AppendedFile(folder / THERMO_NAME, sizes.get(THERMO_NAME, 0))
        self.trajectory = AppendedFile(folder / TRAJECTORY_NAME, sizes.get(TRAJECTORY_NAME, 0))

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        self.thermo.close()
        self.trajectory.close()

    def go(self, progress: Progress) -> DynamicsResult:
        """Take all steps that are left.

        Raises:
            BlowUpError: Temperature, forces or distances left their bounds.
        """
        began = time.perf_counter()
        stopped = None
        try:
            if self.step == 0:
                self._begin()
            while self.step < self.config.num_steps:
                self._advance(progress)
        except BaseException as error:  # a full disk or an interrupt ends a run as well
            stopped = repr(error)
            if isinstance(error, BlowUpError | OutOfDomainError):
                stopped = error.reason
            raise
        finally:
            result = summarize(
                self.folder,
                self.config,
                self.calculator.evaluator,
                num_atoms=len(self.atoms),
                steps=(self.first, self.step),
                seconds=time.perf_counter() - began,
                stopped=stopped,
            )
        return result

    def _begin(self) -> None:
        """Check and record the structure before the first step."""
        self._ask_for_stress(True)
        self.atoms.get_forces()
        temperature = self.integrator.temperature()
        self._check(temperature, distances=True)
        columns = [*COLUMNS]
        if self.config.ensemble == "npt":
            columns.append(CONSERVED)
        if self.atoms.pbc.all():
            columns.extend(PERIODIC)
        if FORCES_SPREAD in self.calculator.results:
            columns.append(DISAGREEMENT)
        self.thermo.append(",".join(columns) + "\n")
        self._log(temperature)
        self._frame()
        self._save()

    def _advance(self, progress: Progress) -> None:
        """Take one step, check it, and record it where it is due."""
        config = self.config
        step = self.step + 1
        last = step == config.num_steps
        logged = last or step % config.log_interval == 0
        framed = last or step % config.trajectory_interval == 0
        self._ask_for_stress(logged)
        self.integrator.step()
        self.step = step
        temperature = self.integrator.temperature()
        self._check(temperature, distances=logged or framed)
        if logged:
            self._log(temperature)
            progress(step, config.num_steps, f"{temperature:.0f} K")
        if framed:
            self._frame()
        if last or step % config.restart_interval == 0:
            self._save()

    def _ask_for_stress(self, logged: bool) -> None:
        """Have stress computed together with forces where both will be needed."""
        needed = self.config.ensemble == "npt" or (logged and self.atoms.pbc.all())
        self.calculator.always = ("forces", "stress") if needed else ("forces",)

    def _check(self, temperature: float, *, distances: bool) -> None:
        """Stop the run when temperature, forces or distances left their bounds."""
        reason = find_bad_motion(temperature, self.calculator.results["forces"], self.bounds)
        if reason is None and distances:
            reason = find_clash(self.atoms, self.calculator.evaluator.pairs, self.bounds)
        if reason is None:
            return
        if self.step == 0:
            message = (
                f"the starting structure cannot be simulated: {reason}; relax it first, or use "
                "a potential trained on such structures"
            )
        else:
            message = (
                f"the run stopped at step {self.step} "
                f"({self.step * self.config.timestep_fs:g} fs): {reason}; the last good frame is "
                f"that of step {self.last_frame} in {self.trajectory.path}; try a shorter time "
                "step, relax first, or train the potential on such structures"
            )
        raise BlowUpError(self.step, reason, message)

    def _log(self, temperature: float) -> None:
        """Append a line to the thermo log."""
        kinetic = float(self.atoms.get_kinetic_energy())
        potential = float(self.calculator.results["energy"])
        row: dict[str, float | int] = {
            "step": self.step,
            "time_fs": self.step * self.config.timestep_fs,
            "potential_ev": potential,
            "kinetic_ev": kinetic,
            "total_ev": potential + kinetic,
            "temperature_k": float(temperature),
        }
        if self.config.ensemble == "npt":
            row[CONSERVED] = self.integrator.conserved()
        if self.atoms.pbc.all():
            volume = float(self.atoms.get_volume())
            tension = float(self.calculator.results["stress"][:3].sum())
            row["pressure_gpa"] = (2.0 * kinetic / volume - tension) / 3.0 / units.GPa
            row["volume_a3"] = volume
        if FORCES_SPREAD in self.calculator.results:
            row[DISAGREEMENT] = float(self.calculator.results[FORCES_SPREAD].max())
        self.thermo.append(format_row(row))

    def _frame(self) -> None:
        """Append a frame to the trajectory."""
        frame = with_results(
            self.atoms,
            self.calculator.results,
            step=self.step,
            time_fs=self.step * self.config.timestep_fs,
        )
        frame.set_constraint(self.integrator.user_constraints)
        self.trajectory.append(frame_text(frame))
        self.last_frame = self.step

    def _save(self) -> None:
        """Write the restart file, and go on from it as a restart would."""
        self.thermo.sync()
        self.trajectory.sync()
        atoms = self.atoms.copy()
        atoms.set_constraint(self.integrator.user_constraints)
        point = RestartPoint(
            atoms=atoms,
            step=self.step,
            integrator=self.integrator.state(),
            noise=dict(self.integrator.noise.bit_generator.state),
            config=self.config.model_dump(),
            sizes={THERMO_NAME: self.thermo.size, TRAJECTORY_NAME: self.trajectory.size},
            last_frame=self.last_frame,
        )
        write_restart(self.folder, point)
        # Forces at hand may differ in the last bit from those a restart computes: another kernel
        # (with or without stress), another list. From here both know the positions alone.
        self.calculator.forget()
