"""How sure a potential is of its energies, from the last linear layer of its network.

With f_i = dE_i/dw, the gradient of an atom's energy by the last layer's weights and bias, and
F_A = sum_i f_i over the atoms of structure A (last-layer prediction rigidity, arXiv 2403.02251),

    sigma_A^2 = alpha^2 F_A^T (C + s 1)^-1 F_A,    C = sum over training structures of F F^T / N.

A network takes part whose `head` is a Sequential that ends in a linear layer, or that has
`last_features(x)` of its own.
"""

from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from dreibein.systems.graphs import batch_index, make_graph

ENERGY_UNCERTAINTY = "energy_uncertainty"
"""Output [B] in eV: the standard deviation of a structure's energy."""
ENERGIES_UNCERTAINTY = "energies_uncertainty"
"""Output [N] in eV: the same of each atom's share; it says where a structure is unlike the data."""
FORCES_UNCERTAINTY = "forces_uncertainty"
"""Output [N] in eV/Å: root of the trace of the covariance of each atom's force."""
UNCERTAINTIES = (ENERGY_UNCERTAINTY, ENERGIES_UNCERTAINTY, FORCES_UNCERTAINTY)


class LastLayerUncertainty(nn.Module):
    """sigma = |R F| with R^T R = alpha^2 (C + s 1)^-1, invariant as F is.

    Two copies of a structure have F twice, and so twice the sigma: their errors are one.

    Args:
        size: Number of features of an atom.
    """

    root: Tensor
    forces_factor: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("root", torch.zeros(size, size, dtype=torch.float64))
        self.register_buffer("forces_factor", torch.ones((), dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # kept in float64 whatever the network's precision: C spans many orders of magnitude
        kept = dict(self.named_buffers())
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            setattr(self, name, buffer.to(getattr(self, name).device))
        return self

    def forward(
        self, potential: Any, structures: Data, wanted: frozenset[str]
    ) -> dict[str, Tensor]:
        """Any of `UNCERTAINTIES`, detached.

        Args:
            potential: Whose network's features these are.
            structures: With neighbors.
            wanted: Names. Forces cost as many derivatives as there are features.
        """
        batch, count = batch_index(structures)
        derive = FORCES_UNCERTAINTY in wanted
        pos = structures.pos.detach().requires_grad_(derive)
        with torch.set_grad_enabled(derive):
            atoms = last_features(potential, structures, pos) @ self.root.mT
            whole = atoms.new_zeros(count, atoms.shape[1]).index_add(0, batch, atoms)
            columns = whole.sum(0).unbind() if whole.requires_grad else ()
        found = {
            ENERGY_UNCERTAINTY: torch.linalg.vector_norm(whole.detach(), dim=1),
            ENERGIES_UNCERTAINTY: torch.linalg.vector_norm(atoms.detach(), dim=1),
        }
        if derive:
            square = pos.new_zeros(len(pos))
            for column in columns:
                (slope,) = torch.autograd.grad(column, pos, retain_graph=True)
                square = square + slope.square().sum(1)
            found[FORCES_UNCERTAINTY] = self.forces_factor * square.sqrt()
        return {name: value for name, value in found.items() if name in wanted}


def has_last_layer(network: nn.Module) -> bool:
    """Whether `last_features` can be taken of a network."""
    head = getattr(network, "head", None)
    if hasattr(head, "last_features"):
        return True
    return isinstance(head, nn.Sequential) and isinstance(_flat(head)[-1], nn.Linear)


def last_features(potential: Any, structures: Data, pos: Tensor | None = None) -> Tensor:
    """f_i = dE_i/dw [N, D] of the last linear layer, in float64 and the network's unit.

    Args:
        potential: Its network `has_last_layer`.
        structures: With neighbors.
        pos: Positions in place of those of the structures.
    """
    near = potential.network_view(structures)
    place = structures.pos if pos is None else pos
    graph = make_graph(near, place, structures.cell, potential.dtype)
    head, taken = potential.network.head, []
    hook = head.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0]))
    try:
        potential.network(graph)
    finally:
        hook.remove()
    return _of_head(head, taken[0]).double()


def _of_head(head: Any, x: Tensor) -> Tensor:
    """Gradients of a head's output by the weights and bias of its last layer [N, D]."""
    if hasattr(head, "last_features"):
        own: Tensor = head.last_features(x)
        return own
    *layers, last = _flat(head)
    for layer in layers:
        x = layer(x)
    return x if last.bias is None else torch.cat((x, torch.ones_like(x[:, :1])), dim=1)


def _flat(head: nn.Sequential) -> list[nn.Module]:
    """Layers of nested sequences, in order."""

    def inside(module: nn.Module) -> Iterator[nn.Module]:
        for layer in module:  # type: ignore[attr-defined]
            yield from inside(layer) if isinstance(layer, nn.Sequential) else (layer,)

    return list(inside(head))
