"""Why a loss is not a number: which frames, and whether the labels or the predictions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch_geometric.data import Batch

from dreibein.systems.fields import mask_name, of_atoms

SHOWN = 5


class Cause(IntEnum):
    """Why, the most telling first."""

    LABEL = 0
    PREDICTION = 1
    GRADIENT = 2


@dataclass(frozen=True)
class Finding:
    """A cause and the sentence about it."""

    cause: Cause
    text: str


def explain(
    structures: Batch,
    predictions: Mapping[str, Tensor],
    labels: Iterable[str],
    describe: Callable[[int], str],
) -> Finding:
    """What is wrong with a batch whose loss or gradient is not finite.

    Args:
        structures: The batch.
        predictions: What the potential gave for it.
        labels: Labels in the loss.
        describe: Name of the k-th structure of the batch.
    """
    labels = tuple(labels)
    for name in labels:
        mask = structures.get(mask_name(name))
        bad = _frames_with(structures, name, structures[name], mask)
        if bad:
            text = (
                f"the label '{name}' is not a number in {_listed(bad, describe)}: "
                "remove the frames, or mask the label with data.allow_nan"
            )
            return Finding(Cause.LABEL, text)
    for name in labels:
        bad = _frames_with(structures, name, predictions[name], structures.get(mask_name(name)))
        if not bad:
            continue
        hint = "see whether atoms coincide there, or lower training.lr"
        if name == "stress" and not bool(structures.pbc[bad].all()):
            hint = "a stress needs a cell that is periodic in three directions: mask that label"
        text = (
            f"the labels are in order, but the predicted '{name}' is not a number for "
            f"{_listed(bad, describe)}: {hint}"
        )
        return Finding(Cause.PREDICTION, text)
    everything = list(range(structures.num_graphs))
    text = (
        "labels and predictions are finite, but the gradient is not, for the batch of "
        f"{_listed(everything, describe)}: see whether atoms coincide there, or lower training.lr"
    )
    return Finding(Cause.GRADIENT, text)


def agree(fabric: Fabric, finding: Finding | None) -> str:
    """The most telling sentence of all processes; each must call this."""
    if fabric.world_size == 1:
        found = [finding]
    else:
        found = [None] * fabric.world_size
        torch.distributed.all_gather_object(found, finding)
    told = sorted((f.cause, f.text) for f in found if f is not None)
    return told[0][1] if told else "the loss is not finite"


def _frames_with(structures: Batch, name: str, value: Tensor, mask: Tensor | None) -> list[int]:
    """Structures of the batch in which an unmasked entry of `value` is not finite."""
    rows = ~torch.isfinite(value).flatten(1).all(1) if value.dim() > 1 else ~torch.isfinite(value)
    if mask is not None:
        rows = rows & mask.view(-1)
    found = rows.nonzero().flatten()
    if of_atoms(name, value.shape[0], structures.z.shape[0]):
        found = structures.batch[found]
    return sorted(set(found.tolist()))


def _listed(frames: list[int], describe: Callable[[int], str]) -> str:
    text = "; ".join(describe(k) for k in frames[:SHOWN])
    return text + (f" and {len(frames) - SHOWN} more" if len(frames) > SHOWN else "")
