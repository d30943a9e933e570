"""What a run of molecular dynamics is: every choice a typed, described field."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FS_PER_PS = 1000.0
# Without a bound given, a run may reach this temperature (K) or ten times its own before it stops.
HOTTEST_K = 5000.0


class DynamicsConfig(BaseModel):
    """Choices of one run; `steps` or `duration_ps` says how long, counted from the first start.

    >>> DynamicsConfig(duration_ps=5.0, timestep_fs=0.5).num_steps
    10000
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ensemble: Literal["nve", "langevin", "npt"] = Field(
        "nve",
        description="nve: velocity Verlet; langevin: constant temperature; "
        "npt: constant temperature and pressure (Martyna-Tobias-Klein)",
    )
    timestep_fs: float = Field(0.5, gt=0.0, le=20.0, description="Time step in fs")
    steps: int | None = Field(
        None, ge=1, description="Length of the whole run in steps (or give duration_ps)"
    )
    duration_ps: float | None = Field(
        None, gt=0.0, description="Length of the whole run in ps (or give steps)"
    )
    temperature_k: float = Field(
        300.0,
        ge=0.0,
        description="Temperature in K of the thermostat and of the initial velocities; in nve "
        "only of the latter: from a relaxed structure a run settles at about half of it",
    )
    friction_per_ps: float = Field(5.0, gt=0.0, description="Langevin friction in 1/ps")
    pressure_gpa: float = Field(0.0, description="External pressure in GPa (1 bar = 1e-4 GPa)")
    cell_changes: Literal["isotropic", "full"] = Field(
        "isotropic",
        description="npt: scale the cell with its shape kept (liquids), or let all of it move",
    )
    thermostat_time_fs: float = Field(100.0, gt=0.0, description="npt: thermostat period in fs")
    barostat_time_fs: float = Field(1000.0, gt=0.0, description="npt: barostat period in fs")
    external_field: tuple[float, float, float] = Field(
        (0.0, 0.0, 0.0),
        description="Electric field on the atoms in V/Å, for a model trained with field_order",
    )
    log_interval: int = Field(10, ge=1, description="Steps between lines of thermo.csv")
    trajectory_interval: int = Field(
        100, ge=1, description="Steps between frames of trajectory.extxyz"
    )
    restart_interval: int = Field(1000, ge=1, description="Steps between restart files")
    seed: int = Field(0, ge=0, description="Seed of initial velocities and thermostat noise")
    initial_velocities: Literal["maxwell", "structure"] = Field(
        "maxwell", description="Draw them at the temperature, or keep those of the structure"
    )
    zero_momentum: bool = Field(True, description="Remove the motion of the center of mass")
    zero_rotation: bool = Field(
        True, description="Remove the rotation of a non-periodic structure at the start"
    )
    relax_first: bool = Field(False, description="Relax the positions briefly before the start")
    max_temperature_k: float | None = Field(
        None,
        gt=0.0,
        description="Stop above this temperature in K (default: 5000 K, or ten times the "
        "requested temperature where that is more)",
    )
    max_force: float = Field(200.0, gt=0.0, description="Stop above this force in eV/Å")
    alarms: Literal["warn", "stop", "record", "off"] = Field(
        "warn",
        description="What to do about structures unlike those of the training: warn once of each "
        "kind, stop, only record, or do not look",
    )
    min_distance: float = Field(
        0.4,
        ge=0.0,
        lt=1.0,
        description="Stop when two atoms are nearer than this fraction of the sum of their "
        "covalent radii",
    )

    @model_validator(mode="after")
    def _one_duration(self) -> Self:
        if (self.steps is None) == (self.duration_ps is None):
            found = "neither" if self.steps is None else "both"
            raise ValueError(f"give either steps or duration_ps; {found} was given")
        return self

    @property
    def num_steps(self) -> int:
        """Length of the whole run in steps, at least one."""
        if self.steps is not None:
            return self.steps
        assert self.duration_ps is not None
        return max(1, round(self.duration_ps * FS_PER_PS / self.timestep_fs))

    @property
    def hottest_k(self) -> float:
        """Temperature in K above which the run stops."""
        if self.max_temperature_k is not None:
            return self.max_temperature_k
        return max(HOTTEST_K, 10.0 * self.temperature_k)

    def physics(self) -> dict[str, object]:
        """Return the choices that a restart must share with the run it continues."""
        free = {
            "steps", "duration_ps", "log_interval", "trajectory_interval", "restart_interval",
            "max_temperature_k", "max_force", "min_distance", "alarms",
        }  # fmt: skip
        return self.model_dump(exclude=free)
