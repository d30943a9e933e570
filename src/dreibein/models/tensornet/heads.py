"""The heads of TensorNet and its layer norms without autograd, for a block of atoms."""

from typing import Any, NamedTuple

import numba
import numpy as np

from dreibein.ops import atom_kernels as atom
from dreibein.ops.matmul import matmul

Numbers = np.ndarray[Any, Any]
EPSILON = 1e-5  # of the layer norms, PyTorch's default
LAYERS = 3
"""Linear layers of a tower before the last one."""


# made part of the pass that calls it
_part = numba.njit(inline="always")


class GatedWeights(NamedTuple):
    """Constants of L(x) sigmoid(G(x)); the towers L and G have four layers each.

    Attributes:
        layers: Packed matrices [2, 3, F, F] of L and of G; none without a gated head.
        biases: [2, 3, F].
        back: Packed transposed matrices [2, 3, F, F].
        last: [2, F].
        last_bias: [2].
    """

    layers: Numbers
    biases: Numbers
    back: Numbers
    last: Numbers
    last_bias: Numbers


@numba.njit(nogil=True, error_model="numpy")
def gated_head(features, weights, energy, first, rows):  # type: ignore[no-untyped-def]
    """Energies of a block's features [rows, F], whose gradient takes their place."""
    shape = features.shape
    value, result = np.empty((2, rows), features.dtype), np.empty((2, *shape), features.dtype)
    slope = np.empty((2, LAYERS, *shape), features.dtype)
    spare = np.empty(shape, features.dtype)
    for tower in range(2):
        given = features
        for k in range(LAYERS):
            out = spare if k == 1 else result[tower]
            matmul(given, weights.layers[tower, k], out, 0, rows)
            atom.biased_silu(out, weights.biases[tower, k], slope[tower, k], 0, rows)
            given = out
        for b in range(rows):
            total = weights.last_bias[tower]
            for f in range(shape[1]):
                total += given[b, f] * weights.last[tower, f]
            value[tower, b] = total
    for b in range(rows):
        gate = 1.0 / (1.0 + np.exp(-value[1, b]))
        energy[first + b] = value[0, b] * gate
        for f in range(shape[1]):
            result[0, b, f] = gate * weights.last[0, f]
            result[1, b, f] = value[0, b] * gate * (1.0 - gate) * weights.last[1, f]
    for tower in range(2):
        given = result[tower]
        for k in range(LAYERS - 1, -1, -1):
            atom.multiply(given, slope[tower, k], 0, rows)
            out = spare if k != 1 else result[tower]
            matmul(given, weights.back[tower, k], out, 0, rows)
            given = out
        for b in range(rows):
            for f in range(shape[1]):
                features[b, f] = spare[b, f] if tower == 0 else features[b, f] + spare[b, f]


@_part
def norm_moments(x, moments, rows, channels, padded):  # type: ignore[no-untyped-def]
    """Mean and 1 / deviation of each row, without the padding channels."""
    parts = x.shape[1] // padded
    count = parts * channels
    for b in range(rows):
        mean, variance = x.dtype.type(0.0), x.dtype.type(0.0)
        for p in range(parts):
            for f in range(p * padded, p * padded + channels):
                mean += x[b, f]
        mean /= count
        for p in range(parts):
            for f in range(p * padded, p * padded + channels):
                variance += (x[b, f] - mean) ** 2
        moments[b, 0], moments[b, 1] = mean, 1.0 / np.sqrt(variance / count + EPSILON)


@_part
def layer_norm(x, weights, moments, rows):  # type: ignore[no-untyped-def]
    """X <- (x - mean) / deviation * scale + shift."""
    for b in range(rows):
        mean, inverse = moments[b, 0], moments[b, 1]
        for f in range(x.shape[1]):
            x[b, f] = (x[b, f] - mean) * inverse * weights[0, f] + weights[1, f]


@_part
def layer_norm_back(g, x, weights, moments, rows, channels, padded):  # type: ignore[no-untyped-def]
    """G <- gradient with respect to x from that of its layer norm."""
    parts = g.shape[1] // padded
    count = parts * channels
    for b in range(rows):
        mean, inverse = moments[b, 0], moments[b, 1]
        total, along = g.dtype.type(0.0), g.dtype.type(0.0)
        for f in range(g.shape[1]):
            scaled = g[b, f] * weights[0, f]
            total += scaled
            along += scaled * (x[b, f] - mean)
        total /= count
        along *= inverse * inverse / count
        for f in range(g.shape[1]):
            centered = x[b, f] - mean
            g[b, f] = inverse * (g[b, f] * weights[0, f] - total - centered * along)
        for p in range(parts):
            for f in range(p * padded + channels, (p + 1) * padded):
                g[b, f] = 0.0


@_part
def head(weights, state, work, plan, first, rows):  # type: ignore[no-untyped-def]
    """Energies from the features in work.b, and their gradient in its place."""
    padded, width = work.a.shape[1], len(weights.last)
    norms, kept, energy, last = work.three, work.slope, state.energy, weights.last
    atom.part_norms(work.b, norms, rows)
    kept[:rows] = norms[:rows]
    norm_moments(norms, work.moments, rows, plan.channels, padded)
    layer_norm(norms, weights.out_norm, work.moments, rows)
    features = np.empty((rows, padded), norms.dtype)
    matmul(norms, weights.out, features, 0, rows)
    if plan.gated:
        for b in range(rows):
            for f in range(padded):
                features[b, f] += weights.out_bias[f]
        gated_head(features, weights.gated, energy, first, rows)
    else:
        slope = np.empty((rows, padded), norms.dtype)
        hidden = np.empty((rows, width), norms.dtype)
        hidden_slope = np.empty((rows, width), norms.dtype)
        atom.biased_silu(features, weights.out_bias, slope, 0, rows)
        matmul(features, weights.hidden, hidden, 0, rows)
        atom.biased_silu(hidden, weights.hidden_bias, hidden_slope, 0, rows)
        for b in range(rows):
            total = weights.last_bias[0]
            for f in range(width):
                total += hidden[b, f] * last[f]
                hidden[b, f] = last[f] * hidden_slope[b, f]
            energy[first + b] = total
        if plan.forces:
            matmul(hidden, weights.hidden_back, features, 0, rows)
            atom.multiply(features, slope, 0, rows)
    if plan.forces:
        matmul(features, weights.out_back, norms, 0, rows)
        scale, moments = weights.out_norm, work.moments
        layer_norm_back(norms, kept, scale, moments, rows, plan.channels, padded)
        atom.part_norms_back(work.b, norms, rows)
