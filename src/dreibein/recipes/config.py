"""One run as a typed record: data, model, training."""

from pydantic import BaseModel, ConfigDict, Field

from dreibein.data import DataConfig
from dreibein.models import ModelConfig, TensorNetConfig
from dreibein.train import TrainingConfig


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
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="how to train")
