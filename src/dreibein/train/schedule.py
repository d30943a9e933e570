"""The learning rate as a function of the step and of what validation showed."""

import math
from typing import Any

from dreibein.train.config import Cosine, Plateau, TrainingConfig


class LearningRate:
    """lr(step) = lr · min(1, (step + 1) / warm-up) · decay(step).

    decay is 1 (constant), half a cosine over all steps, or the plateau factor to the power of
    the reductions so far. Steps count from 0. The optimizer's groups are set before each step,
    so there is no order of calls to get wrong on resuming. The warm-up
    takes at most a quarter of the run.

    Args:
        config: Learning rate, warm-up and schedule.
        total_steps: Length of the whole run, for the cosine.

    >>> rate = LearningRate(TrainingConfig(lr=1.0, warmup_steps=2, schedule="cosine"), 102)
    >>> [round(rate(step), 3) for step in (0, 1, 51, 101)]
    [0.5, 1.0, 0.5, 0.0]
    """

    def __init__(self, config: TrainingConfig, total_steps: int) -> None:
        self.config = config
        self.total_steps = total_steps
        self.warmup = min(config.warmup_steps, total_steps // 4)
        self.factor = 1.0
        self.best = math.inf
        self.bad_epochs = 0

    def __call__(self, step: int) -> float:
        """Learning rate of step `step`."""
        config, schedule = self.config, self.config.schedule
        rate = config.lr
        if isinstance(schedule, Cosine):
            start = self.warmup
            progress = (step - start + 1) / max(1, self.total_steps - start)
            progress = min(max(progress, 0.0), 1.0)
            low = min(schedule.min_lr, rate)
            rate = low + 0.5 * (rate - low) * (1.0 + math.cos(math.pi * progress))
        elif isinstance(schedule, Plateau):
            rate = max(rate * self.factor, min(schedule.min_lr, rate))
        if step < self.warmup:
            rate *= (step + 1) / self.warmup
        return rate

    def end_epoch(self, error: float) -> None:
        """Count an epoch without improvement; reduce when there were too many."""
        if not isinstance(self.config.schedule, Plateau):
            return
        if error < self.best * (1.0 - 1e-4):  # as torch's ReduceLROnPlateau
            self.best, self.bad_epochs = error, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self.config.schedule.patience:
            self.factor *= self.config.schedule.factor
            self.bad_epochs = 0

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"factor": self.factor, "best": self.best, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.factor, self.best = state["factor"], state["best"]
        self.bad_epochs = state["bad_epochs"]
