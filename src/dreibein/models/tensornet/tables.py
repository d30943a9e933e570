"""TensorNet's constants for passes without autograd: filters as tables, matrices padded.

Every filter is a function of the distance alone, so its values at the nodes of a grid and a spline
stand for the network that computes it.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreibein.models.tensornet.heads import LAYERS, GatedWeights
from dreibein.models.tensornet.network import TensorNet
from dreibein.models.tensornet.passes import EmbeddingSum, Weights
from dreibein.ops.lanes import lane_count
from dreibein.ops.matmul import pack
from dreibein.ops.splines import RadialGrid, interpolate
from dreibein.ops.workspaces import realigned

Numbers = np.ndarray[Any, Any]

_MOST_KNOTS = 4096

TOWERS = ("value", "gate")
"""Of a gated head."""

STRETCH = 10.0
"""Knots at r = 0 are closer than at the cutoff by about this factor, as radial functions are."""


def filters_of(network: TensorNet) -> Callable[[Tensor], Tensor]:
    """Every filter without its envelope: distances [K] -> [L + 1, K, 3, F]."""
    dtype = next(network.parameters()).dtype
    layers: Any = network.interactions
    parts: list[Any] = [network.embedding.distance, *(layer.filter for layer in layers)]

    def filters(lengths: Tensor) -> Tensor:
        features = network.radial(lengths.to(dtype))
        values = torch.stack([part(features) for part in parts])
        return values.unflatten(-1, (3, -1)).double()

    return filters


def grid_for(network: TensorNet, bound: float) -> tuple[RadialGrid, float, float]:
    """A grid that meets the bound, and the errors on it."""
    cutoff, knots = network.config.cutoff, network.config.knots
    if knots:
        return RadialGrid(cutoff, knots), 0.0, 0.0
    knots = 32
    while knots <= _MOST_KNOTS:
        grid = RadialGrid(cutoff, knots, stretch=STRETCH)
        error, slope_error = _errors(network, grid)
        if max(error, slope_error) <= bound:
            return grid, error, slope_error
        knots *= 2
    raise ValueError(
        f"radial tables of {_MOST_KNOTS} knots err by {max(error, slope_error):.1e}, more than "
        f"{bound:.1e}; use backend='reference'"
    )


def _errors(network: TensorNet, grid: RadialGrid) -> tuple[float, float]:
    """Errors of filters and slopes half-way between the knots, relative, envelope included."""
    exact = _double(network)
    middle = ((grid.nodes[2:-3] + grid.nodes[3:-2]) / 2).requires_grad_(False)
    apart = (grid.nodes[3:-2] - grid.nodes[2:-3]) / 4
    places = torch.stack((middle - apart, middle, middle + apart))
    # neighbors are found in proportion to r^2, and nobody comes close to r = 0
    weight = (middle * network.envelope(middle) * apart.sqrt()).view(1, -1, 1, 1)
    tilt = weight / apart.view(1, -1, 1, 1)
    table = exact(grid.nodes).transpose(0, 1)
    spline = [
        interpolate(grid.coefficients(table), *grid.taps(place)).transpose(0, 1) for place in places
    ]
    truth = [exact(place) for place in places]
    slopes = [tilt * (side[2] - side[0]) for side in (spline, truth)]
    values = [weight * side[1] for side in (spline, truth)]
    return _relative(*values), _relative(*slopes)


def _relative(found: Tensor, truth: Tensor) -> float:
    """Root mean square of an error over that of the truth."""
    return float((found - truth).square().mean().sqrt() / truth.square().mean().sqrt())


def _double(network: TensorNet) -> Callable[[Tensor], Tensor]:
    """The filters of a copy in float64, where differences of slopes can be seen."""
    return filters_of(copy.deepcopy(network).double())


class _Layout:
    """Channels padded to whole vectors of a type."""

    def __init__(self, dtype: type) -> None:
        self.dtype, self.lanes = dtype, lane_count(dtype)

    def pad(self, x: Tensor, *parts: int) -> Numbers:
        """Pad the trailing dimensions; `parts` says how many blocks of F each has."""
        for axis, part in enumerate(reversed(parts), start=1):
            blocks = x.unflatten(-axis, (part, -1))
            room = list(blocks.shape)
            room[-axis] = -(-blocks.shape[-axis] // self.lanes) * self.lanes
            padded = x.new_zeros(room)
            padded.narrow(-axis, 0, blocks.shape[-axis]).copy_(blocks)
            x = padded.flatten(-axis - 1, -axis)
        return realigned(x.numpy().astype(self.dtype))

    def chunked(self, x: Tensor, first: int) -> Numbers:
        """Pad the channels and move their chunks to dimension `first`."""
        padded = self.pad(x, 1)
        chunks = padded.shape[-1] // self.lanes
        split = padded.reshape(*padded.shape[:-1], chunks, self.lanes)
        return realigned(np.moveaxis(split, -2, first))


def constants_of(network: TensorNet, grid: RadialGrid, dtype: type) -> Weights:
    """The network's constants, padded, transposed and tabulated."""
    channels, layers = network.config.channels, network.interactions
    exact = _double(network)
    tables = grid.coefficients(exact(grid.nodes).transpose(0, 1)).transpose(0, 1)
    here = exact(torch.zeros(1, dtype=torch.float64))[:, 0]  # [L + 1, 3, F]
    here = here * float(network.config.self_loops)

    layout = _Layout(dtype)
    pad, chunked = layout.pad, layout.chunked
    double = {name: value.detach().double().cpu() for name, value in network.named_parameters()}

    def both(name: str, inputs: int, outputs: int) -> tuple[Numbers, Numbers]:
        weight = double[f"{name}.weight"]
        return pack(pad(weight.mT, inputs, outputs)), pack(pad(weight, outputs, inputs))

    def mixing(pattern: str) -> tuple[Numbers, Numbers]:
        names = [pattern.format(k) for k in range(len(layers))] if "{" in pattern else [pattern]
        stacked = [double[f"{name}.weight"] for name in names]
        weight = torch.stack(stacked) if stacked else torch.zeros(0, 3, channels, channels).double()
        return pack(pad(weight.mT, 1, 1)), pack(pad(weight, 1, 1))

    element = double["embedding.element.weight"]
    pair, bias = double["embedding.pair.weight"], double["embedding.pair.bias"]
    receivers, senders = element @ pair[:, :channels].T + bias, element @ pair[:, channels:].T
    gate_in, gate_in_back = both("embedding.gate.0", 1, 2)
    gate_out, gate_out_back = both("embedding.gate.2", 2, 3)
    mix, mix_back = mixing("embedding.mix")
    mix_in, mix_in_back = mixing("interactions.{}.mix_in")
    mix_out, mix_out_back = mixing("interactions.{}.mix_out")
    out, out_back = both("out", 3, 1)
    if network.config.head == "gated":  # without the other head
        nothing = torch.zeros(1, channels, dtype=torch.float64)
        double |= {"head.0.weight": nothing, "head.2.weight": nothing}
        double |= {"head.0.bias": nothing[0, :1], "head.2.bias": nothing[0, :1]}
    hidden, hidden_back = both("head.0", 1, 1)
    return Weights(
        gated=_gated(double, network.config.head == "gated", pad),
        embedding=EmbeddingSum(
            table=chunked(tables[0], 0),
            pairs=chunked(receivers.unsqueeze(1) + senders, 0),
            loops=chunked(math.sqrt(3.0) * here[0, 0] * (receivers + senders), 0),
        ),
        tables=chunked(tables[1:], 1),
        here=chunked(here[1:], 1),
        norm=pad(torch.stack((double["embedding.norm.weight"], double["embedding.norm.bias"])), 1),
        gate_in=gate_in,
        gate_in_bias=pad(double["embedding.gate.0.bias"], 2),
        gate_in_back=gate_in_back,
        gate_out=gate_out,
        gate_out_bias=pad(double["embedding.gate.2.bias"], 3),
        gate_out_back=gate_out_back,
        mix=mix[0],
        mix_back=mix_back[0],
        mix_in=mix_in,
        mix_in_back=mix_in_back,
        mix_out=mix_out,
        mix_out_back=mix_out_back,
        out_norm=pad(torch.stack((double["out_norm.weight"], double["out_norm.bias"])), 3),
        out=out,
        out_bias=pad(double["out.bias"], 1),
        out_back=out_back,
        hidden=hidden,
        hidden_bias=pad(double["head.0.bias"], 1),
        hidden_back=hidden_back,
        last=pad(double["head.2.weight"][0], 1),
        last_bias=double["head.2.bias"].numpy().astype(dtype),
    )


def _gated(double: dict[str, Tensor], there: bool, pad: Callable[..., Numbers]) -> GatedWeights:
    """Constants of a gated head; towers without layers where there is none."""
    channels = double["out.bias"].shape[0]
    if not there:
        weights = torch.zeros(2, 0, channels, channels, dtype=torch.float64)
        biases, last, last_bias = weights[..., 0], weights.sum(1)[..., 0], torch.zeros(2)
    else:
        names = [[f"head.{tower}.{2 * k}" for k in range(LAYERS + 1)] for tower in TOWERS]
        inner = [name for tower in names for name in tower[:LAYERS]]
        weights = torch.stack([double[f"{name}.weight"] for name in inner]).unflatten(0, (2, -1))
        biases = torch.stack([double[f"{name}.bias"] for name in inner]).unflatten(0, (2, -1))
        last = torch.cat([double[f"{tower[LAYERS]}.weight"] for tower in names])
        last_bias = torch.cat([double[f"{tower[LAYERS]}.bias"] for tower in names])
    padded = pad(last, 1)
    return GatedWeights(
        layers=pack(pad(weights.mT, 1, 1)),
        biases=pad(biases, 1),
        back=pack(pad(weights, 1, 1)),
        last=padded,
        last_bias=last_bias.numpy().astype(padded.dtype),
    )
