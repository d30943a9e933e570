"""Weighted sums of errors over the labels that are there."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch_geometric.data import Batch

from dreibein.systems.cells import nearest_dipole
from dreibein.systems.fields import mask_name, of_bonds
from dreibein.systems.structures import bond_slots
from dreibein.train.config import HESSIAN, EnergyTerm, LabelTerm, LossTerm


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
    """Sums over one batch, one entry for each of T terms, in their order.

    Attributes:
        sums: Penalties summed over labels [T] float64, with graph.
        counts: Number of labels summed over [T] float64: structures, force components, tensor
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
        predictions: energy [B], forces [N, 3], stress [B, 3, 3], … by label; of the Hessian the
            differences of `predict_with_products`.
        structures: The batch with its labels and masks.
        terms: Terms of the loss by label.

    Raises:
        ValueError: A label has another number of components than its prediction.
    """
    sums: list[Tensor] = []
    counts: list[Tensor | float] = []
    for name, term in terms.items():
        mask = structures.get(mask_name(name))
        prediction = predictions[name].double()
        if name == HESSIAN:  # the difference itself, along random directions
            label = torch.zeros_like(prediction)
        else:
            label = label_like(prediction, structures, name)
        if isinstance(term, LabelTerm) and term.branch == "nearest":
            label = nearest_dipole(label, prediction, structures.cell, structures.pbc)
        if isinstance(term, EnergyTerm) and term.normalization != "structure":
            prediction = prediction - label  # before the division: the difference of totals
            label = torch.zeros_like(label)
            atoms = structures.ptr.diff().double()
            prediction = prediction / (atoms if term.normalization == "atom" else atoms.sqrt())
        if isinstance(term, LabelTerm) and term.scale != "auto":
            prediction, label = prediction / term.scale, label / term.scale
        count: Tensor | float = float(label.numel())
        if mask is not None or of_bonds(name):
            present = _present(structures, label, name, mask)
            prediction = torch.where(present, prediction, 0.0)
            label = torch.where(present, label, 0.0)
            count = present.sum(dtype=torch.float64)
        sums.append(penalty_sum(prediction, label, term))
        counts.append(count)
    return LossSums(torch.stack(sums), _as_tensor(counts, structures.pos.device))


def label_like(prediction: Tensor, structures: Batch, name: str) -> Tensor:
    """The label in float64 in the prediction's shape; files write tensors as nine numbers in a row.

    Raises:
        ValueError: It has another number of components.
    """
    label: Tensor = structures[name].double()
    if label.shape == prediction.shape:
        return label
    if label.numel() != prediction.numel():
        raise ValueError(
            f"the label '{name}' has {list(label.shape[1:])} numbers an item, the model predicts "
            f"{list(prediction.shape[1:])}: give the target the rank of its label"
        )
    return label.reshape(prediction.shape)


def _present(structures: Batch, label: Tensor, name: str, mask: Tensor | None) -> Tensor:
    """Which numbers of a label are there [...]: rows that have it, of bonds their slots."""
    rows = torch.ones(len(label), dtype=torch.bool, device=label.device) if mask is None else mask
    present = rows.view(-1, *[1] * (label.dim() - 1)).expand_as(label)
    if of_bonds(name):
        slots = bond_slots(structures)
        present = present & slots.view(*slots.shape, *[1] * (label.dim() - 2))
    return present


def _as_tensor(counts: list[Tensor | float], device: torch.device) -> Tensor:
    """Counts [T]; those of masks stay on their device."""
    if all(isinstance(count, float) for count in counts):
        return torch.tensor(counts, dtype=torch.float64, device=device)
    rows = [torch.as_tensor(c, dtype=torch.float64, device=device) for c in counts]
    return torch.stack(rows)


def weights(terms: Mapping[str, LossTerm], device: torch.device) -> Tensor:
    """Weights of the terms [T] float64."""
    return torch.tensor(
        [term.weight for term in terms.values()], dtype=torch.float64, device=device
    )
