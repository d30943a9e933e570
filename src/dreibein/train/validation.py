"""Errors on held-out structures: the training's loss and the evaluation's meter."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch_geometric.data import Batch

from dreibein.train.config import LossTerm
from dreibein.train.devices import add_up
from dreibein.train.diagnosis import Finding, agree, explain
from dreibein.train.hessians import HESSIAN, predict_with_products
from dreibein.train.losses import loss_sums
from dreibein.train.steps import losses_of


class Meter(Protocol):
    """Sums errors over batches; the sums of several processes add up."""

    def update(self, predictions: Mapping[str, Tensor], structures: Batch, /) -> None:
        """Add one batch."""

    def state(self) -> Tensor:
        """The sums."""

    def load_state(self, state: Tensor, /) -> None:
        """Replace the sums."""

    def compute(self) -> dict[str, float]:
        """Errors by name."""


def validate(
    fabric: Fabric,
    potential: nn.Module,
    batches: Iterable[Batch],
    terms: Mapping[str, LossTerm],
    labels: tuple[str, ...],
    meter: Meter,
    describe: Callable[[Batch, int], str],
) -> dict[str, float]:
    """Losses and errors over all batches of all processes, each structure once.

    Args:
        fabric: The launched processes.
        potential: Evaluated in evaluation mode; left in training mode.
        batches: This process's share.
        terms: Terms of the loss.
        labels: Labels that the structures carry and the meter compares.
        meter: An empty meter.
        describe: Name of the k-th structure of a batch.

    Raises:
        ValueError: The loss is not finite; says which frames and why.
    """
    sums = torch.zeros(2, len(terms), dtype=torch.float64, device=fabric.device)
    sick: Finding | None = None
    for batch in batches:
        predictions = _predict(potential, batch, labels)
        found = loss_sums(predictions, batch, terms)
        both = torch.stack((found.sums, found.counts))
        if sick is None and not bool(torch.isfinite(both).all()):
            sick = explain(batch, predictions, terms, lambda k: describe(batch, k))  # noqa: B023
        sums += both
        meter.update({n: p for n, p in predictions.items() if n != HESSIAN}, batch)
    potential.train()
    sums = add_up(fabric, sums)
    if not bool(torch.isfinite(sums).all()):
        raise ValueError(f"validation: {agree(fabric, sick)}")
    if fabric.world_size > 1:
        meter.load_state(add_up(fabric, meter.state().to(fabric.device)))
    return {**losses_of(sums.cpu(), terms), **meter.compute()}


def _predict(potential: nn.Module, batch: Batch, labels: tuple[str, ...]) -> dict[str, Tensor]:
    """Predictions, detached; of a Hessian the differences along directions of the structures."""
    if HESSIAN not in labels:
        potential.eval()
        found: dict[str, Tensor] = potential(batch, compute=labels)
        return found
    potential.train()  # for the graph
    seed = tuple(batch.frame.tolist())
    values = predict_with_products(potential, batch, labels, seed)
    return {name: value.detach() for name, value in values.items()}
