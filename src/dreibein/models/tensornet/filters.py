"""Tables of the filter networks and their gradients, without a graph of small operations.

A filter network hears the distance alone, so training evaluates it at the nodes of the grid, about
a hundred rows: through autograd the calls cost more than the arithmetic.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dreibein.models.tensornet.steps import BACK, Steps, Weights
from dreibein.ops.matmul import add_outer
from dreibein.ops.splines import RadialGrid
from dreibein.ops.workspaces import borrow, give_back

Array = np.ndarray[Any, Any]


def table_of(filters: nn.Module, grid: RadialGrid, features: Tensor) -> tuple[Tensor, Tensor]:
    """Control points [rows, 3, F] of a filter network, and its values at distance 0 [3, F].

    Both are differentiable, once, by the network's parameters.

    Args:
        filters: A linear map, or linear maps each followed by a SiLU.
        grid: Where the network is evaluated.
        features: Radial functions at the grid's nodes [rows, R]; not differentiated by.
    """
    linears = [module for module in filters.modules() if isinstance(module, nn.Linear)]
    parameters = [p for linear in linears for p in (linear.weight, linear.bias)]
    activated = not isinstance(filters, nn.Linear)
    found = _Table.apply(grid, activated, features, *parameters)
    return found[0], found[1]


class _Network(Steps):
    """Linear maps, and the activation after each where there are activations."""

    def __init__(self, parameters: tuple[Tensor, ...], activated: bool, rows: int) -> None:
        kinds = ("weight", "bias")
        names = [f"w{k // 2}.{kinds[k % 2]}" for k in range(len(parameters))]
        tensors = {n: p.detach().contiguous() for n, p in zip(names, parameters, strict=True)}
        keep = borrow(parameters[0].dtype)
        self.activated, self.names = activated, names
        self.widths = [len(p) for p in parameters[1::2]]
        super().__init__(rows, self.widths[-1] // 3, Weights(tensors, keep), keep)

    def __del__(self) -> None:
        give_back(self.keep)

    def forward(self, features: Tensor) -> Array:
        """Values [rows, 3F]."""
        self.rows("h0", features.shape[1]).copy_(features)
        for k, width in enumerate(self.widths):
            out = f"a{k}" if self.activated else f"h{k + 1}"
            self.linear(f"h{k}", f"w{k}", out, slope=False)
            if self.activated:
                self.silu(out, f"h{k + 1}", width, slope=False)
        return self.rows(f"h{len(self.widths)}", self.widths[-1]).numpy()

    def gradient(self) -> Array:
        """Where the gradient with respect to the values goes [rows, 3F]."""
        return self.rows(f"h{len(self.widths)}{BACK}", self.widths[-1]).numpy()

    def backward(self) -> list[Tensor]:
        """Gradients of the parameters, in their order."""
        self.gradients = {n: torch.zeros_like(self.weights.tensors[n]) for n in self.names}
        for k in reversed(range(len(self.widths))):
            out = f"a{k}" if self.activated else f"h{k + 1}"
            if self.activated:
                self.silu_back(out, f"h{k + 1}", self.widths[k], slope=False)
            self.gradients_of(f"w{k}", [(out + BACK, f"h{k}")])
            if k:
                self.linear_back(f"h{k}", f"w{k}", out, slope=False)
        return list(self.gradients.values())


class _Table(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, grid: RadialGrid, activated: bool, features: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.network = network = _Network(parameters, activated, grid.rows)
        values = network.forward(features)
        ctx.constants = inverse, _, at_zero = _constants(grid, parameters[0].dtype)
        control = np.zeros_like(values)
        add_outer(inverse, values, control)
        here = at_zero @ control[: len(at_zero)]
        return (
            torch.from_numpy(control).unflatten(1, (3, -1)),
            torch.from_numpy(here).unflatten(0, (3, -1)),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_control: Tensor, to_here: Tensor) -> tuple[Any, ...]:
        network, (_, inverse, at_zero) = ctx.network, ctx.constants
        given = to_control.flatten(1).numpy().copy()
        given[: len(at_zero)] += at_zero[:, None] * to_here.flatten().numpy()
        values = network.gradient()
        values[...] = 0.0
        add_outer(inverse, given, values)
        return None, None, None, *network.backward()


@lru_cache(maxsize=8)
def _constants(grid: RadialGrid, dtype: torch.dtype) -> tuple[Array, Array, Array]:
    """Values at nodes to control points, transposed and not, and the taps of distance 0 [6]."""
    inverse = grid.coefficients(torch.eye(grid.rows, dtype=torch.float64)).to(dtype)
    first, taps = grid.taps(torch.zeros(1, dtype=torch.float64))
    assert int(first[0]) == 0
    return inverse.T.contiguous().numpy(), inverse.numpy(), taps[0].to(dtype).numpy()
