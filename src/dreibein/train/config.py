"""How a model is trained: every choice a typed, described field."""

import difflib
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from dreibein.systems.fields import LABELS

LossKind = Literal["mse", "mae", "huber"]
Scale = Literal["auto", "forces", "energy", "total_energy", "none"]
HESSIAN = "hessian"  # second derivatives of the energy, a label with a loss of its own
NEAR = 0.8  # similarity from which an unknown label is a likely slip of a known one
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LossTerm(_Section):
    """One term of the loss: weight · mean of f(prediction − label) over the labels of a batch.

    f(r) = r² (mse), |r| (mae), or (huber) r²/(2δ) where |r| < δ and |r| − δ/2 beyond; the last
    is in the label's unit whatever δ is, and becomes mae as δ goes to 0.
    """

    weight: float = Field(default=1.0, ge=0, description="factor of this term")
    kind: LossKind = Field(default="huber", description="mse, mae or huber")
    delta: float = Field(
        default=0.01,
        gt=0,
        description="error where huber turns linear, in the label's unit",
    )


class EnergyTerm(LossTerm):
    """The energy's term; labels in eV."""

    normalization: Literal["atom", "sqrt_atom", "structure"] = Field(
        default="sqrt_atom",
        description="what an energy error is divided by: the number of atoms, its root, or nothing",
    )


class LabelTerm(LossTerm):
    """The term of any other label; errors are divided by `scale` before f.

    With the label's standard deviation as scale, a term is the unexplained share of the variance
    (mse), and one weight suits labels of any unit.
    """

    kind: LossKind = Field(default="mse", description="mse, mae or huber")
    delta: float = Field(default=0.1, gt=0, description="error over scale where huber turns linear")
    scale: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        default="auto",
        description="what an error is divided by, in the label's unit; auto: the standard "
        "deviation of the training labels",
    )
    branch: Literal["given", "nearest"] = Field(
        default="given",
        description="of a dipole in cells periodic in three directions: compared as it is given, "
        "or, where labels are folded, with the nearest value, up to e times cell vectors",
    )


class Losses(_Section):
    """Terms of the loss by label; null leaves one out. Missing labels contribute nothing.

    Any other label that the model predicts may be named too: `dipole: {weight: 2}`. A term that
    is not named in the configuration is left out by itself where the data have no such label or
    the model does not predict it; one that is named must find both.

    >>> Losses(dipole={"weight": 2.0}).terms()["dipole"].kind
    'mse'
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, LabelTerm | None]

    energy: EnergyTerm | None = Field(default=EnergyTerm(), description="energy, eV")
    forces: LossTerm | None = Field(default=LossTerm(), description="forces, eV/Å")
    stress: LossTerm | None = Field(
        default=LossTerm(weight=10.0, delta=0.001), description="stress, eV/Å^3"
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        """Names that are nearly, but not quite, those of a label; a branch of what has none."""
        for name in values if isinstance(values, dict) else ():
            given = values[name]
            branch = given.get("branch") if isinstance(given, dict) else getattr(given, "branch", 0)
            if branch == "nearest" and name != "dipole":
                raise PydanticCustomError(
                    "no_branch",
                    "branch is an option of the dipole, not of '{name}'",
                    {"name": name},
                )
            near = difflib.get_close_matches(str(name), LABELS, 1, NEAR)
            if near and name not in LABELS:
                raise PydanticCustomError(
                    "unknown_label",
                    "'{name}' is not a label; did you mean '{near}'?",
                    {"name": name, "near": near[0]},
                )
        return values

    def terms(self) -> dict[str, LossTerm]:
        """The terms in use, by label: energy, forces and stress first."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        found |= self.__pydantic_extra__ or {}
        return {name: term for name, term in found.items() if term is not None and term.weight > 0}


class Constant(_Section):
    """The learning rate stays."""

    kind: Literal["constant"] = "constant"


class Cosine(_Section):
    """Half a cosine from lr to min_lr over the whole run."""

    kind: Literal["cosine"] = "cosine"
    min_lr: float = Field(default=1e-6, ge=0, description="learning rate at the end")


class Plateau(_Section):
    """lr times `factor` whenever the monitored error has not improved for `patience` epochs."""

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(default=0.8, gt=0, lt=1, description="factor of one reduction")
    patience: int = Field(default=25, ge=0, description="epochs to wait before a reduction")
    min_lr: float = Field(default=1e-7, ge=0, description="never below this")


def _schedule(value: Any) -> Any:
    """`schedule: cosine` is short for `schedule: {kind: cosine}`."""
    return {"kind": value} if isinstance(value, str) else value


def _seconds(value: Any) -> Any:
    """Seconds of "90min", "1.5h" or a plain number of seconds."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9.]+(?:e-?[0-9]+)?)\s*(s|min|h|d)?\s*", value)
    if match is None:
        raise ValueError('a time is a number with a unit s, min, h or d, such as "90min"')
    return float(match[1]) * SECONDS[match[2] or "s"]


Schedule = Annotated[
    Annotated[Constant | Cosine | Plateau, Field(discriminator="kind")],
    BeforeValidator(_schedule),
]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]


class TrainingConfig(_Section):
    """Everything about the training of a potential."""

    epochs: int = Field(default=200, ge=1, description="passes over the training set")
    max_steps: int | None = Field(default=None, ge=1, description="stop after so many steps")
    max_time: Seconds | None = Field(
        default=None, description='stop after so long: "45s", "90min", "2h", or a number of seconds'
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="stop after so many epochs without a new best",
    )
    monitor: str = Field(
        default="loss",
        description="validation 'loss', or an error such as forces_mae_mev_per_a",
    )

    batch_size: int = Field(default=8, ge=1, description="structures in a step, over all devices")
    lr: float = Field(default=1e-3, gt=0, description="highest learning rate of AdamW")
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="AdamW's two decay rates")
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's decoupled weight decay")
    warmup_steps: int = Field(
        default=100, ge=0, description="steps over which lr grows from 0, at most a quarter of all"
    )
    schedule: Schedule = Field(default=Cosine(), description="constant, cosine or plateau")
    gradient_clip: float | None = Field(
        default=10.0, gt=0, description="largest norm of the gradient; null for no limit"
    )
    ema_decay: float | None = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="decay per step of the averaged weights, which are evaluated and saved; "
        "null for no average",
    )
    losses: Losses = Field(default=Losses(), description="terms of the loss")

    reference_energies: Literal["fit", "none"] | dict[str, float] | str = Field(
        default="fit",
        description="energy per element subtracted before training: fit (least squares), none, "
        "{H: -13.6, …} in eV, or a file with isolated atoms",
    )
    scale: Scale | Annotated[float, Field(gt=0)] = Field(
        default="auto",
        description="unit of the network's output: forces (their rms · 1 Å), energy (spread per "
        "atom), total_energy (spread per structure), or a number in eV; auto takes forces where "
        "there are some, else energy; none is 1 eV, and leaves the mean energy beside the "
        "references to the network",
    )

    uncertainty: bool = Field(
        default=True,
        description="give the model a calibrated uncertainty of its energies at the end, from its "
        "last layer: one pass over the training structures",
    )
    model_seed: int = Field(default=0, ge=0, description="seed of the initial weights")
    order_seed: int = Field(default=0, ge=0, description="seed of the order of structures")

    precision: Literal["float32", "float64"] = Field(
        default="float32", description="of the network"
    )
    matmul_precision: Literal["highest", "high", "medium"] = Field(
        default="highest", description="of float32 matrix products on a GPU; high is TF32"
    )
    accelerator: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="kind of device"
    )
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default=1, description="devices (processes) on each node; auto for all GPUs"
    )
    num_nodes: int = Field(default=1, ge=1, description="machines, started with torchrun")
    num_workers: int = Field(default=0, ge=0, description="processes that load structures")

    checkpoint_epochs: int = Field(default=1, ge=1, description="epochs between checkpoints")
    checkpoint_time: Seconds = Field(
        default=600.0, description="longest time between checkpoints, within long epochs too"
    )
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        default=(), description="loggers besides metrics.csv: tensorboard, wandb"
    )
    log_project: str = Field(default="dreibein", description="project name for wandb")
