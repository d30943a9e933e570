"""One run as a typed record: data, model, training."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dreibein.data import DataConfig
from dreibein.models import ModelConfig, TensorNetConfig
from dreibein.train import TrainingConfig


class ReplayConfig(BaseModel):
    """Old training data among the new, against forgetting."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(
        0.5, gt=0, lt=1, description="share of old frames in every epoch, drawn anew each time"
    )
    labels: Literal["data", "model"] = Field(
        "data",
        description="data: their own labels, energies moved by the change of the references; "
        "model: what the old model predicts",
    )
    data: DataConfig | None = Field(
        None, description="the old data; by default those of the run that the model is from"
    )


class FineTuneConfig(BaseModel):
    """What a run goes on from, and how much of it may move."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="trained model to start from: a file or the folder of a run")
    references: Literal["refit", "keep"] = Field(
        "refit",
        description="refit: energies of elements are fitted to what the trained network leaves of "
        "the new energies; keep: as in the file",
    )
    freeze: tuple[str, ...] = Field(
        (), description="weights that stay, by the beginning of their names: embedding, head"
    )
    low_rank: int = Field(
        0,
        ge=0,
        description="0: weights move freely; r: matrices move by products of inner dimension r, "
        "everything else stays",
    )
    replay: ReplayConfig | None = Field(
        None, description="old frames beside the new ones; null for none"
    )


class RunConfig(BaseModel):
    """Everything that decides a training run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        default="run",
        pattern=r"^[\w.+-]+$",
        description="end of the run folder's name: letters, digits and _ . + -",
    )
    data: DataConfig = Field(description="what to learn from")
    model: ModelConfig = Field(default_factory=TensorNetConfig, description="the network")
    finetune: FineTuneConfig | None = Field(
        None, description="go on from a trained model, whose hyperparameters hold"
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="how to train")
