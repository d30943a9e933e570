"""Exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """a <- d·a + (1 − d)·w after each step, with d = min(decay, (1 + step) / (10 + step)).

    The smaller decay of the first steps lets the average forget the random start.

    Args:
        module: Whose parameters are averaged.
        decay: Decay per step, or None to use the weights as they are.
    """

    def __init__(self, module: nn.Module, decay: float | None) -> None:
        self.decay = decay
        self.weights: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        self.average: list[Tensor] = []
        if decay is not None:
            self.average = [p.detach().clone() for p in self.weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step` (from 0)."""
        if self.decay is None:
            return
        decay = min(self.decay, (1.0 + step) / (10.0 + step))
        torch._foreach_lerp_(self.average, self.weights, 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the context the module holds the averaged weights."""
        if self.decay is None:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        # by copying: optimizers, DDP and captured graphs hold on to the parameters' memory
        for weight, average in zip(self.weights, self.average, strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    @torch.no_grad()
    def put(self) -> None:
        """Put the averaged weights into the module for good."""
        for weight, average in zip(self.weights, self.average):
            weight.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"average": [a.clone() for a in self.average]}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        for average, saved in zip(self.average, state["average"], strict=True):
            average.copy_(saved)
