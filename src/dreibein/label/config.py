"""What a labeling run is: every choice a typed, described field."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_DYNAMICS = (
    "sampler", "frames", "temperature_k", "trajectories", "timestep_fs", "friction_per_ps",
    "equilibration_fs", "interval_fs", "keep_broken", "seed",
)  # fmt: skip


class LabelConfig(BaseModel):
    """Choices of one labeling run; together with the seed they fix every byte of its file.

    >>> LabelConfig(structure="CCO", frames=1000).steps_per_interval
    50
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    structure: str = Field(
        min_length=1,
        description="SMILES string, or a file that ASE reads: its last frame, or file@: for all",
    )
    method: str = Field(
        "GFN2-xTB",
        description="Level of theory of the labels: GFN2-xTB, GFN1-xTB, functional/basis or "
        "HF/basis, as in PBE/def2-SVP",
    )
    single_points: bool = Field(
        False, description="Label every frame of the file `structure` as it is, without dynamics"
    )
    correction: str | None = Field(
        None,
        description="Model trained on differences to the method, added to it in labels and in the "
        "dynamics that it drives: a model file or the folder of a run or ensemble",
    )
    difference: bool = Field(
        False,
        description="With single_points: labels of the file less those of the method, which is "
        "what a correction of the method is trained on",
    )
    hessian: bool = Field(
        False,
        description="Second derivatives as well, by central differences of forces: 6N further "
        "calculations for each frame",
    )
    charge: int | None = Field(
        None, description="Total charge in e (default: that of the file or SMILES, or 0)"
    )
    spin: int | None = Field(
        None, ge=1, description="Spin multiplicity (default: that of the file or SMILES, or 1)"
    )
    sampler: str | None = Field(
        None,
        description="What drives the dynamics, a method or a trained model: a file, or folder of "
        "a run or an ensemble (default: the method itself when it is an xTB one, GFN2-xTB "
        "otherwise)",
    )
    frames: int = Field(1000, ge=1, description="Number of frames to sample")
    temperature_k: float = Field(500.0, gt=0.0, description="Temperature of the dynamics in K")
    trajectories: int = Field(
        20,
        ge=1,
        description="Independent trajectories that share the frames (never more than frames)",
    )
    timestep_fs: float = Field(1.0, gt=0.0, le=5.0, description="Time step in fs")
    friction_per_ps: float = Field(50.0, gt=0.0, description="Langevin friction in 1/ps")
    equilibration_fs: float = Field(
        500.0, ge=0.0, description="Time in fs before the first frame of each trajectory"
    )
    interval_fs: float = Field(50.0, gt=0.0, description="Time in fs between frames")
    keep_broken: bool = Field(
        False,
        description="Keep frames whose bonds are not those of the start, instead of starting the "
        "trajectory again",
    )
    seed: int = Field(0, ge=0, description="Seed of conformers, velocities and noise")

    @model_validator(mode="after")
    def _no_idle_choice(self) -> Self:
        idle = [name for name in _DYNAMICS if name in self.model_fields_set]
        if self.single_points and idle:
            raise ValueError(
                f"single points have no dynamics: leave out {', '.join(idle)}, or single_points"
            )
        return self

    @model_validator(mode="after")
    def _difference_of_what(self) -> Self:
        if self.difference and not self.single_points:
            raise ValueError(
                "a difference is taken from labels of a file: ask for single_points as well"
            )
        if self.difference and self.hessian:
            raise ValueError(
                "a difference has energy, forces and stress: leave out hessian, or difference"
            )
        return self

    @model_validator(mode="after")
    def _interval_holds_a_step(self) -> Self:
        if self.interval_fs < self.timestep_fs:
            raise ValueError(
                f"interval_fs ({self.interval_fs:g}) is shorter than the time step "
                f"({self.timestep_fs:g} fs)"
            )
        return self

    @property
    def steps_per_interval(self) -> int:
        """Steps between two frames."""
        return max(1, round(self.interval_fs / self.timestep_fs))

    @property
    def equilibration_intervals(self) -> int:
        """Intervals before the first frame; the time is rounded up to whole ones."""
        length = self.steps_per_interval * self.timestep_fs
        return int(-(-self.equilibration_fs // length))

    @property
    def num_trajectories(self) -> int:
        """Number of trajectories, each of which gives a frame at least."""
        return min(self.trajectories, self.frames)

    def frames_of(self, trajectory: int) -> int:
        """Frames that one trajectory gives; the first ones take the rest of the division."""
        share, rest = divmod(self.frames, self.num_trajectories)
        return share + (trajectory < rest)
