"""Potentials that break one law each, by little: a law that misses its mutant is no law."""

from functools import partial

import torch
from torch import nn

from dreibein.nn import Potential
from dreibein.nn.radial import lengths_and_units
from laws.cases import tensornet

HEALTHY = tensornet(layers=1)


class AddedTerm(nn.Module):
    """A healthy network plus `size · term(graph)` [N]."""

    def __init__(self, term, size=1e-6, network=None):
        super().__init__()
        self.network = HEALTHY().network if network is None else network
        self.term, self.size = term, size
        self.cutoff, self.elements = self.network.cutoff, self.network.elements
        self.config = self.network.config

    def forward(self, graph):
        return self.network(graph) + self.size * self.term(graph)


def with_term(term, **options) -> Potential:
    return Potential(AddedTerm(term, **options)).double().eval()


def _sum_edges(graph, values):
    """Sum of edge values [E] or [E, 3] over each receiver."""
    out = values.new_zeros(graph.num_atoms, *values.shape[1:])
    return out.index_add(0, graph.receiver, values)


def _decay(graph):
    lengths, _ = lengths_and_units(graph.vectors)
    return torch.exp(-lengths) * (lengths < 3.5) * (1.0 - lengths / 3.5).clamp(min=0.0) ** 3


def turned_axes(graph):
    """Knows the x axis: breaks rotation and reflection, not translation."""
    return _sum_edges(graph, graph.vectors[:, 0] ** 2 * _decay(graph))


def handed(graph):
    """A triple product of three profiles: a pseudoscalar, breaks reflection alone."""
    decay = _decay(graph)
    lengths, _ = lengths_and_units(graph.vectors)
    weights = [graph.z[graph.sender].to(decay.dtype), lengths, lengths**2]
    a, b, c = (_sum_edges(graph, (decay * w).unsqueeze(-1) * graph.vectors) for w in weights)
    return (a * torch.linalg.cross(b, c)).sum(-1)


def place_in_list(graph):
    """Knows the index of an atom: breaks permutation."""
    return torch.arange(graph.num_atoms, dtype=graph.vectors.dtype) ** 2


def company(graph):
    """Knows how many structures are in the batch."""
    return torch.full_like(graph.charge.index_select(0, graph.batch), graph.num_structures)


def crowd(graph):
    """Grows with the number of atoms of the structure: not extensive."""
    counts = torch.bincount(graph.batch, minlength=graph.num_structures)
    return counts.index_select(0, graph.batch).to(graph.vectors.dtype)


def undefined_at_zero(graph):
    """1 / r: infinite for coincident atoms."""
    return _sum_edges(graph, _decay(graph) / graph.vectors.norm(dim=-1))


def noise(graph):
    """Different at every call."""
    return torch.rand(graph.num_atoms, dtype=graph.vectors.dtype)


def steep(graph):
    """Adds what it takes away again: bad in float32."""
    return _sum_edges(graph, (1e4 + _decay(graph)) - 1e4)


class WrongSecondDerivative(torch.autograd.Function):
    """x² with the right first and a missing second derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return 2.0 * ctx.saved_tensors[0].detach() * gradient


def once_differentiable(graph):
    """Right forces, wrong Hessian."""
    return _sum_edges(graph, WrongSecondDerivative.apply(_decay(graph)))


class DetachedWeight(nn.Module):
    """A weight that acts on the energy and gets no gradient."""

    def __init__(self):
        super().__init__()
        self.network = HEALTHY().network
        self.weight = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))
        self.cutoff, self.elements = self.network.cutoff, self.network.elements

    def forward(self, graph):
        return self.network(graph) * (1.0 + self.weight.detach())


class Truncated(nn.Module):
    """Pair energies [N] that end at the cutoff with a jump of derivative `order`."""

    def __init__(self, order):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.01, dtype=torch.float64))
        self.order, self.cutoff, self.elements = order, 3.5, HEALTHY().elements

    def forward(self, graph):
        lengths, _ = lengths_and_units(graph.vectors)
        return _sum_edges(graph, self.weight * (1.0 - lengths / self.cutoff) ** self.order)


class Changed(Potential):
    """A healthy potential with one fault in what surrounds the network."""

    def __init__(self, *, results=None, energies=None):
        super().__init__(HEALTHY().network)
        self.change_results = results or (lambda found, structures: found)
        self.change_energies = energies

    def forward(self, structures, compute=("energy", "forces")):
        return self.change_results(super().forward(structures, compute), structures)

    def _energies(self, structures, pos, cell, field):
        healthy = partial(super()._energies, field=field)
        if self.change_energies is None:
            return healthy(structures, pos, cell)
        return self.change_energies(healthy, structures, pos, cell)


def changed(**faults) -> Potential:
    return Changed(**faults).double().eval()


def replaced(name, new):
    """One result goes through `new`, where it was asked for."""

    def change(found, structures):
        return found | ({name: new(found[name])} if name in found else {})

    return changed(results=change)


def nearest_image_only():
    """Keeps one image of each pair: the minimum-image convention in a cell too small for it."""

    def change(healthy, structures, pos, cell):
        cut = structures.clone()
        sender, receiver = cut.edge_index
        order = structures.pos[sender] - structures.pos[receiver]
        cells = structures.cell[0] if structures.cell.shape[0] == 1 else None
        shift = cut.shift.double()
        if cells is None:
            batch = structures.batch[receiver]
            offset = torch.einsum("es,esc->ec", shift, structures.cell[batch])
        else:
            offset = shift @ cells
        length = (order + offset).norm(dim=-1)
        nearest = {}
        for edge, pair in enumerate(zip(sender.tolist(), receiver.tolist(), strict=True)):
            if pair not in nearest or length[edge] < length[nearest[pair]]:
                nearest[pair] = edge
        keep = torch.tensor(sorted(nearest.values()), dtype=torch.int64)
        cut.edge_index, cut.shift = cut.edge_index[:, keep], cut.shift[keep]
        return healthy(cut, pos, cell)

    return changed(energies=change)


def without_shifts():
    """Forgets S: edges to images become edges to the atoms themselves."""

    def change(healthy, structures, pos, cell):
        cut = structures.clone()
        cut.shift = torch.zeros_like(cut.shift)
        return healthy(cut, pos, cell)

    return changed(energies=change)


def edges_in_float32():
    """Rounds positions before their difference is taken."""
    return changed(energies=lambda healthy, s, pos, cell: healthy(s, pos.float(), cell.float()))


def anchored():
    """Knows where the origin is."""
    return changed(
        energies=lambda healthy, s, pos, cell: healthy(s, pos, cell) + 1e-6 * pos[:, 0] ** 2
    )
