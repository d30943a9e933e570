"""Derivatives of an energy: forces, virial, stress, Hessian.

With positions x -> x + x·eps and cell -> cell + cell·eps for a symmetric strain eps,

    forces = -dE/dx,    virial = -dE/deps,    stress = dE/deps / V  (tension positive).
"""

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor

from dreibein.systems.cells import strain as apply_strain
from dreibein.systems.cells import volume


def strained(pos: Tensor, cell: Tensor, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Positions and cells under a zero strain to differentiate by.

    Args:
        pos: Positions [N, 3] in Å.
        cell: Cells [B, 3, 3] in Å.
        batch: Structure of each atom [N].

    Returns:
        Positions, cells, and the strain [B, 3, 3] (zero, requires grad).
    """
    strain = torch.zeros_like(cell, requires_grad=True)
    pos, cell = apply_strain(pos, cell, strain, batch)
    return pos, cell, strain


def gradients(
    energy: Tensor, inputs: list[Tensor], *, create_graph: bool, retain_graph: bool = False
) -> list[Tensor]:
    """d(sum of energies) / d(input) for each input; zero where the energy does not depend on it.

    Args:
        energy: Energies [B]; each depends on its own structure alone, so the gradient of the
            sum is the gradient of each.
        inputs: Tensors that require grad.
        create_graph: Whether the result can be differentiated again.
        retain_graph: Whether the energy will be differentiated again.
    """
    if not energy.requires_grad:  # no atom has a neighbor, or there are no atoms
        return [torch.zeros_like(x) for x in inputs]
    found = torch.autograd.grad(
        energy.sum(),
        inputs,
        create_graph=create_graph,
        retain_graph=create_graph or retain_graph,
        allow_unused=True,
    )
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


def forces_from_pull(pull: Tensor, edge_index: Tensor, num_atoms: int) -> Tensor:
    """Forces [N, 3] from dE/d(edge vectors) [E, 3], the vectors being x_sender - x_receiver."""
    forces = pull.new_zeros(num_atoms, 3).index_add(0, edge_index[1], pull)
    return forces.index_add(0, edge_index[0], -pull)


def strain_gradient_from_pull(
    pull: Tensor, vectors: Tensor, structure: Tensor, num_structures: int
) -> Tensor:
    """dE/deps [B, 3, 3] = sum_e sym(r_e dE/dr_e) for a symmetric strain of all edge vectors.

    Args:
        pull: dE/dr_e [E, 3].
        vectors: r_e [E, 3] in Å.
        structure: Structure of each edge [E].
        num_structures: B.
    """
    outer = vectors.unsqueeze(2) * pull.unsqueeze(1)
    total = pull.new_zeros(num_structures, 3, 3).index_add(0, structure, outer)
    return 0.5 * (total + total.mT)


def stress_from_strain_gradient(gradient: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    """Stress dE/deps / V [B, 3, 3] in eV/Å^3; NaN for structures not periodic in three directions.

    Args:
        gradient: dE/deps [B, 3, 3] in eV.
        cell: Cells [B, 3, 3] in Å.
        pbc: Periodicity [B, 3].
    """
    periodic = pbc.all(-1).view(-1, 1, 1)
    volumes = volume(cell).abs().view(-1, 1, 1)
    # the division is made safe before the choice, or its NaN would enter the gradient
    stress = gradient / torch.where(periodic, volumes, torch.ones_like(volumes))
    return torch.where(periodic, stress, torch.full_like(stress, torch.nan))


def hessian(
    energy: Callable[[Tensor], Tensor], pos: Tensor, sizes: list[int] | None = None
) -> Tensor:
    """Second derivatives d2E / dx_i dx_j [N, 3, M, 3] in eV/Å^2.

    One derivative of the gradient serves the k-th atoms of all structures together, since a
    structure's energy depends on its own atoms alone.

    Args:
        energy: Differentiable map from positions [N, 3] to energies.
        pos: Positions [N, 3] in Å.
        sizes: Atoms of each structure; None for a single one.

    Returns:
        Rows of all atoms; columns are the atoms of the same structure in their order, M of the
        largest, zero beyond a structure's own.
    """
    sizes = [len(pos)] if sizes is None else sizes
    most = max(sizes, default=0)
    pos = pos.detach().requires_grad_()
    found = pos.new_zeros(*pos.shape, most, 3)
    value = energy(pos)
    if not value.requires_grad:
        return found
    (gradient,) = torch.autograd.grad(value.sum(), pos, create_graph=True)
    if not gradient.requires_grad:
        return found
    starts = [0, *accumulate(sizes)][:-1]
    for k in range(most):
        rows = [start + k for start, size in zip(starts, sizes, strict=True) if size > k]
        for axis in range(3):
            component = gradient[rows, axis].sum()
            (column,) = torch.autograd.grad(component, pos, retain_graph=True, allow_unused=True)
            if column is not None:
                found[:, :, k, axis] = column
    return found
