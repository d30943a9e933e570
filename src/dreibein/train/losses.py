"""Weighted sums of errors over the labels that are there."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch_geometric.data import Batch

from dreibein.systems.fields import mask_name
from dreibein.train.config import LABELS, EnergyTerm, LossTerm


def penalty_sum(prediction: Tensor, label: Tensor, term: LossTerm) -> Tensor:
    """Sum of f(prediction − label): r² (mse), |r| (mae), r²/(2δ) within δ, else |r| − δ/2 (huber).

    >>> term = LossTerm(kind="huber", delta=1.0)
    >>> penalty_sum(torch.tensor([0.5, -3.0]), torch.zeros(2), term)
    tensor(2.6250)
    """
    if term.kind == "mse":
        return functional.mse_loss(prediction, label, reduction="sum")
    if term.kind == "mae":
        return functional.l1_loss(prediction, label, reduction="sum")
    return functional.smooth_l1_loss(prediction, label, reduction="sum", beta=term.delta)


@dataclass(frozen=True)
class LossSums:
    """Sums over one batch, one entry for each of energy, forces, stress.

    Attributes:
        sums: Penalties summed over labels [3] float64, with graph.
        counts: Number of labels summed over [3] float64: structures, force components, stress
            components.
    """

    sums: Tensor
    counts: Tensor


def loss_sums(
    predictions: Mapping[str, Tensor], structures: Batch, terms: Mapping[str, LossTerm]
) -> LossSums:
    """Penalties of prediction − label, in float64 throughout.

    Energies are compared as float64 totals, so references cancel to 1e-12 of them. Labels whose
    mask is False count nothing, whatever number fills their place.

    Args:
        predictions: energy [B], forces [N, 3], stress [B, 3, 3].
        structures: The batch with its labels and masks.
        terms: Terms of the loss by label.
    """
    device = structures.pos.device
    zero = torch.zeros((), dtype=torch.float64, device=device)
    sums = [zero] * len(LABELS)
    counts: list[Tensor | float] = [0.0] * len(LABELS)
    for row, name in enumerate(LABELS):
        if name not in terms:
            continue
        term, mask = terms[name], structures.get(mask_name(name))
        prediction, label = predictions[name].double(), structures[name].double()
        if isinstance(term, EnergyTerm) and term.normalization != "structure":
            prediction = prediction - label  # before the division: the difference of totals
            label = torch.zeros_like(label)
            atoms = structures.ptr.diff().double()
            prediction = prediction / (atoms if term.normalization == "atom" else atoms.sqrt())
        counts[row] = float(label.numel())
        if mask is not None:
            present = mask.view(-1, *[1] * (label.dim() - 1)).expand_as(label)
            prediction = torch.where(present, prediction, 0.0)
            label = torch.where(present, label, 0.0)
            counts[row] = present.sum(dtype=torch.float64)
        sums[row] = penalty_sum(prediction, label, term)
    return LossSums(torch.stack(sums), _as_tensor(counts, device))


def _as_tensor(counts: list[Tensor | float], device: torch.device) -> Tensor:
    """Counts [3]; those of masks stay on their device."""
    if all(isinstance(count, float) for count in counts):
        return torch.tensor(counts, dtype=torch.float64, device=device)
    rows = [torch.as_tensor(c, dtype=torch.float64, device=device) for c in counts]
    return torch.stack(rows)


def weights(terms: Mapping[str, LossTerm], device: torch.device) -> Tensor:
    """Weights of energy, forces, stress [3] float64; 0 for a term that is not in use."""
    values = [terms[name].weight if name in terms else 0.0 for name in LABELS]
    return torch.tensor(values, dtype=torch.float64, device=device)
