"""The gated head of TensorNet without autograd, for a block of atoms."""

from typing import Any, NamedTuple

import numba
import numpy as np

from dreibein.ops import atom_kernels as atom
from dreibein.ops.matmul import matmul

Numbers = np.ndarray[Any, Any]
LAYERS = 3
"""Linear layers of a tower before the last one."""


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


@numba.njit(nogil=True, cache=True, error_model="numpy")
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
