"""Training on forces differentiates twice: those derivatives exist and are right."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.nn import Potential
from dreibein.testing.derivatives import STENCIL
from dreibein.testing.probing import connected, mode, require

PARAMETER_STEP = 2e-4


def assert_second_derivatives(
    potential: Potential, structure: Data, *, tolerance: float = 1e-6, step: float = 1e-4
) -> float:
    """The gradient of w · F with respect to the positions equals its differences.

    The list of neighbors stays the same, so this is `gradgradcheck` of the energy through the path
    that training takes (training mode, forces that keep their graph).

    Args:
        potential: In float64.
        structure: Molecule or crystal.
        tolerance: Relative to the largest component.
        step: Of the differences in Å.
    """
    graph = connected(structure, potential)
    weights = _weights(graph.pos)
    directions = torch.eye(graph.pos.numel(), dtype=torch.float64).unflatten(1, graph.pos.shape)

    def loss(pos: Tensor) -> Tensor:
        moved = graph.clone()
        moved.pos = pos
        return (potential(moved, compute=("forces",))["forces"] * weights).sum()

    with mode(potential, training=True):
        pos = graph.pos.clone().requires_grad_()
        (found,) = torch.autograd.grad(loss(pos), pos)
        expected = torch.stack(
            [
                sum((w * loss(graph.pos + k * step * d) for k, w in STENCIL), torch.zeros(()))
                for d in directions
            ]
        )
    error = _error(found.flatten(), expected.detach() / step)
    return require(error, tolerance, "second derivatives with respect to positions")


def assert_force_loss_gradients(
    potential: Potential,
    structure: Data,
    *,
    tolerance: float = 1e-6,
    step: float = PARAMETER_STEP,
    seed: int = 0,
) -> float:
    """The gradient of E + w · F (+ w' · stress) with respect to every parameter is right.

    Each parameter tensor is moved along one random direction; one without a gradient must not
    change the loss.

    Args:
        potential: In float64; its parameters are restored.
        structure: Molecule or crystal.
        tolerance: Relative to the largest of the derivatives.
        step: Along the (unit) direction.
        seed: Of the directions.
    """
    graph = connected(structure, potential)
    weights = _weights(graph.pos)
    compute = ("energy", "forces", "stress") if bool(graph.pbc.all()) else ("energy", "forces")
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        found = potential(graph, compute=compute)
        value = found["energy"].sum() + (found["forces"] * weights).sum()
        return value + (found["stress"] * _weights(graph.cell)).sum() if len(found) > 2 else value

    parameters = [p for p in potential.parameters() if p.requires_grad]
    with mode(potential, training=True):
        gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
        found, expected = [], []
        for parameter, gradient in zip(parameters, gradients, strict=True):
            direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
            direction = (direction / direction.norm()).to(parameter)
            zero = parameter.new_zeros(())
            found.append(zero if gradient is None else (gradient * direction).sum())
            expected.append(_difference(loss, parameter.data, direction, step))
    error = _error(torch.stack(found), torch.stack(expected))
    return require(error, tolerance, "gradients of a loss on forces with respect to parameters")


def _difference(
    loss: Callable[[], Tensor], values: Tensor, direction: Tensor, step: float
) -> Tensor:
    """Derivative of the loss along `direction` in place; the values come back."""
    kept = values.clone()
    total = torch.zeros((), dtype=torch.float64)
    for k, weight in STENCIL:
        values.copy_(kept + k * step * direction)
        total = total + weight * loss().detach().cpu()
    values.copy_(kept)
    return total / step


def _weights(like: Tensor) -> Tensor:
    """Fixed numbers of order one, all different."""
    count = torch.arange(like.numel(), dtype=like.dtype, device=like.device)
    return torch.cos(1.0 + 0.7 * count).view_as(like)


def _error(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-8)
