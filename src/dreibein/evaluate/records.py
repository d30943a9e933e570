"""The record of one evaluation: typed, and JSON on disk."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dreibein.evaluate.calibration import Calibration
from dreibein.evaluate.checks import Checks
from dreibein.systems import atomic_path

FORMAT = 1


class ElementErrors(BaseModel):
    """Force errors of one element in meV/Å."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    symbol: str
    z: int
    atoms: int
    forces_mae_mev_per_a: float
    forces_rmse_mev_per_a: float


class TargetErrors(BaseModel):
    """Errors of one label beside energy, forces and stress, in its unit.

    Attributes:
        name: Of the label.
        unit: Of everything here, inside the package.
        scope: "structure", "atom" or "bond".
        values: Numbers compared: components of structures or atoms.
        mae: Over all components.
        rmse: Likewise.
        scatter: RMSE of predicting the means of the labels (see `ErrorMeter.scatter`).
        relative: RMSE over scatter.
        elements: MAE and RMSE by symbol, of labels of atoms.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    name: str
    unit: str
    scope: str
    values: int
    mae: float
    rmse: float
    scatter: float | None
    relative: float | None
    elements: dict[str, tuple[float, float]] = Field(default_factory=dict)


class GroupErrors(BaseModel):
    """Errors of the frames of one `config_type`."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    name: str
    frames: int
    metrics: dict[str, float]


class FrameErrors(BaseModel):
    """Errors of one frame; None where it has no such label.

    Attributes:
        row: Position in the evaluated set, which is also its row in the predictions file.
        frame: Index in its data set.
        source: Where it came from, in words.
        formula: Composition.
        config_type: Its group, or "".
        n_atoms: Number of atoms.
        energy_mev_per_atom: Prediction minus reference.
        forces_rmse_mev_per_a: Over atoms and components.
        forces_max_mev_per_a: Largest length of an atom's force error.
        worst_atom: That atom.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    row: int
    frame: int
    source: str
    formula: str
    config_type: str
    n_atoms: int
    energy_mev_per_atom: float | None
    forces_rmse_mev_per_a: float | None
    forces_max_mev_per_a: float | None
    worst_atom: int | None


class Timing(BaseModel):
    """Speed of this evaluation; neighbor lists are not part of `seconds`.

    Attributes:
        seconds: Time inside the model, energies and derivatives.
        seconds_total: Wall time, neighbor lists and reading included.
        atoms_per_second: Atoms through the model per second.
        frames_per_second: Frames likewise.
        device: Where the model ran.
        precision: Of the network.
        threads: CPU threads of torch.
        batch_size: Frames evaluated at once.
    """

    seconds: float
    seconds_total: float
    atoms_per_second: float
    frames_per_second: float
    device: str
    precision: str
    threads: int
    batch_size: int


class Evaluation(BaseModel):
    """Everything measured on one data set, ready for JSON.

    Attributes:
        format: Of this record.
        metrics: MAE and RMSE by name (see `errors.metric_name`).
        spread: Size of the labels in the same units: mean absolute value of forces, standard
            deviation of energies per atom (isolated atoms subtracted) and of stress.
        units: Unit of each quantity.
        counts: Frames, atoms, and labels of each kind.
        elements: Forces by element.
        targets: Every label beside energy, forces and stress.
        calibrations: Errors against their predicted uncertainties, where the model gives them.
        config_types: By group; empty when there is at most one.
        worst: By force error, worst first; by energy error where there are no forces.
        worst_energies: By energy error per atom.
        timing: Speed.
        model: What the caller knows of the model (file, parameters).
        data: What the caller knows of the data (sources, keys, units, split).
        checks: Measured laws, if they were.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    format: int = FORMAT
    metrics: dict[str, float]
    spread: dict[str, float]
    units: dict[str, str]
    counts: dict[str, int]
    elements: list[ElementErrors]
    targets: list[TargetErrors] = Field(default_factory=list)
    calibrations: list[Calibration] = Field(default_factory=list)
    config_types: list[GroupErrors]
    worst: list[FrameErrors]
    worst_energies: list[FrameErrors]
    timing: Timing
    model: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    checks: Checks | None = None

    @property
    def split(self) -> str:
        """Which frames these are: "test", unless the record of the data says otherwise."""
        return str(self.data.get("split") or "test")

    def save(self, path: str | Path) -> None:
        """Write JSON, whole or not at all."""
        with atomic_path(path) as side:
            side.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Evaluation":
        """Read what `save` wrote.

        Raises:
            ValueError: The file is no such record.
        """
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except ValidationError as error:
            raise ValueError(
                f"{path} is not an evaluation that this version reads "
                f"({error.error_count()} errors, first: {error.errors()[0]['msg']}); "
                "write it again with: dreibein evaluate MODEL DATA -o FOLDER"
            ) from error
