"""Sums of terms over the same structures."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.nn.derivatives import gradients, strained
from dreibein.nn.terms.term import Term, surroundings
from dreibein.systems.graphs import batch_index


def term_energies(
    terms: Iterable[Term],
    structures: Data,
    pos: Tensor,
    cell: Tensor,
    network_charges: Tensor | None = None,
) -> Tensor:
    """Energies of atoms [N] in eV, summed over terms; differentiable by positions and cells.

    Args:
        terms: At least one.
        structures: `Data` or `Batch` with neighbors within the largest range of a term.
        pos: Positions [N, 3] Å.
        cell: Cells [B, 3, 3] Å.
        network_charges: Charges [N, K] of a network that predicts them.
    """
    around = surroundings(structures, pos, cell, network_charges)
    return torch.stack([term(around) for term in terms]).sum(0)


def term_gradients(
    terms: Iterable[Term], structures: Data, count: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Energies [N], dE/dx [N, 3] and dE/d(strain) [B, 3, 3] of terms, float64, detached.

    Args:
        terms: At least one.
        structures: `Data` or `Batch` with neighbors within the largest range of a term.
        count: How many atoms, the first ones, make E; None for all. N is their number then.
    """
    batch, _ = batch_index(structures)
    with torch.inference_mode(False), torch.enable_grad():
        places = structures.pos.detach().requires_grad_()
        pos, cell, strain = strained(places, structures.cell.detach(), batch)
        energies = term_energies(terms, structures, pos, cell)
        energies = energies if count is None else energies[:count]
        found = gradients(energies, [places, strain], create_graph=False)
    return energies.detach(), found[0], found[1]
