"""Weighted sums of errors over the labels that are there."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Batch

from dreibein.systems.fields import mask_name
from dreibein.train.config import LABELS, EnergyTerm, LossKind, LossTerm


def penalty(residual: Tensor, kind: LossKind, delta: float) -> Tensor:
    """f(r): r² (mse), |r| (mae), r²/(2δ) within δ and |r| − δ/2 beyond (huber).

    >>> penalty(torch.tensor([0.5, -3.0]), "huber", 1.0)
    tensor([0.1250, 2.5000])
    """
    if kind == "mse":
        return residual.square()
    if kind == "mae":
        return residual.abs()
    return torch.nn.functional.smooth_l1_loss(
        residual, torch.zeros_like(residual), reduction="none", beta=delta
    )


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

    The energy's residual is a difference of float64 totals, so references cancel exactly. Labels
    whose mask is False count nothing, whatever number fills their place.

    Args:
        predictions: energy [B], forces [N, 3], stress [B, 3, 3].
        structures: The batch with its labels and masks.
        terms: Terms of the loss by label.
    """
    zero = structures.pos.new_zeros((), dtype=torch.float64)
    sums, counts = [], []
    for name in LABELS:
        if name not in terms:
            sums.append(zero)
            counts.append(zero)
            continue
        term = terms[name]
        residual = predictions[name].double() - structures[name].double()
        if isinstance(term, EnergyTerm) and term.normalization != "structure":
            atoms = structures.ptr.diff().double()
            residual = residual / (atoms if term.normalization == "atom" else atoms.sqrt())
        mask = structures.get(mask_name(name))
        if mask is not None:
            present = mask.view(-1, *[1] * (residual.dim() - 1)).expand_as(residual)
            residual = torch.where(present, residual, 0.0)
            counts.append(present.sum(dtype=torch.float64))
        else:
            counts.append(torch.full_like(zero, residual.numel()))
        sums.append(penalty(residual, term.kind, term.delta).sum())
    return LossSums(torch.stack(sums), torch.stack(counts))


def weights(terms: Mapping[str, LossTerm], device: torch.device) -> Tensor:
    """Weights of energy, forces, stress [3] float64; 0 for a term that is not in use."""
    values = [terms[name].weight if name in terms else 0.0 for name in LABELS]
    return torch.tensor(values, dtype=torch.float64, device=device)
