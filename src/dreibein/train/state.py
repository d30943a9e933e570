"""Where a training stands: all that a checkpoint holds besides tensors of weights."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch


@dataclass
class TrainingState:
    """Counters and the best epoch.

    Attributes:
        epoch: Epochs completed.
        step: Steps completed.
        step_in_epoch: Steps completed of the epoch under way.
        seconds: Time spent training, over all sessions of the run.
        epoch_seconds: Time spent on the epoch under way.
        best: Lowest monitored error.
        best_epoch: Epoch (from 1) that had it, 0 before the first.
    """

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    best: float = math.inf
    best_epoch: int = 0

    def judge(self, error: float) -> bool:
        """Whether the epoch just completed is the best so far; remembers it if so."""
        if error < self.best:
            self.best, self.best_epoch = error, self.epoch
            return True
        return False

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers by name."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        for field in fields(self):
            setattr(self, field.name, state[field.name])


def random_state() -> dict[str, Any]:
    """State of torch's generators, the only ones that a network may draw from."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Take up what `random_state` gave."""
    torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
