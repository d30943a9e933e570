"""TensorNet forward and backward without autograd: passes over blocks of atoms.

Between two sums over neighbors everything belongs to one atom, so a pass takes a block of atoms,
small enough for the cache, from one sum to the next: energy and forces of L layers are 2 L + 1
passes. Within a block the nine components are ordered by component, so that matrix products
dominate; across blocks features are [N, 9, F]. Every function works on rows first ... last of all
atoms and touches no other atom's results, so threads share a pass by rows.
"""

from typing import Any, NamedTuple

import numba
import numpy as np

from dreibein.ops import atom_kernels as atom
from dreibein.ops import edge_kernels as edge
from dreibein.ops.edge_kernels import Edges

Numbers = np.ndarray[Any, Any]

EPSILON = 1e-5  # of the layer norms, PyTorch's default

_compile = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})


class Weights(NamedTuple):
    """Constants of a network; channels padded to a multiple of the lanes, matrices [in, out].

    Attributes:
        tables: Control points, the embedding's, then each layer's [L + 1, rows, 3, F].
        here: Filters at distance 0 of each layer [L, 3, F].
        pairs: Weight of each pair of elements (receiver, sender) [S S, F].
        loops: What an atom adds to its own scalar part [S, F].
        norm: Scale and shift of the embedding's layer norm [2, F].
        gate_in: [F, 2F], with bias [2F]; then the transposed matrix; likewise below.
        gate_out: [2F, 3F].
        mix: I, A, S of the embedding [3, F, F].
        mix_in: Before the message of each layer [L, 3, F, F].
        mix_out: After the product [L, 3, F, F].
        out_norm: Scale and shift of the last layer norm [2, 3F].
        out: [3F, F].
        hidden: [F, H].
        last: [H].
        last_bias: [1].
    """

    tables: Numbers
    here: Numbers
    pairs: Numbers
    loops: Numbers
    norm: Numbers
    gate_in: Numbers
    gate_in_bias: Numbers
    gate_in_back: Numbers
    gate_out: Numbers
    gate_out_bias: Numbers
    gate_out_back: Numbers
    mix: Numbers
    mix_back: Numbers
    mix_in: Numbers
    mix_in_back: Numbers
    mix_out: Numbers
    mix_out_back: Numbers
    out_norm: Numbers
    out: Numbers
    out_bias: Numbers
    out_back: Numbers
    hidden: Numbers
    hidden_bias: Numbers
    hidden_back: Numbers
    last: Numbers
    last_bias: Numbers


class State(NamedTuple):
    """What a pass leaves for later ones; N atoms, F channels, L layers.

    Attributes:
        x0: Embedding sums [N, 9, F].
        mixed: The same after channel mixing [N, 9, F].
        norm: Squared norm of x0 [N, F].
        slope_in: Derivatives of the gates' activations [N, 2F].
        slope_out: [N, 3F].
        gates: [N, 3F].
        scale: 1 / (|X|^2 + 1) [L, N, F].
        x: Normalised features [L, N, 9, F].
        y: Mixed features that neighbors listen to [L, N, 9, F].
        m: Messages; on the way back, gradients with respect to them [L, N, 9, F].
        d: Updates; on the way back, gradients with respect to the layer's result [L, N, 9, F].
        to_y: Gradients with respect to y [N, 9, F].
        energy: [N].
        kind: Row of each atom's element [N].
        charge: 1 + 0.1 Q of each atom's structure [N].
    """

    x0: Numbers
    mixed: Numbers
    norm: Numbers
    slope_in: Numbers
    slope_out: Numbers
    gates: Numbers
    scale: Numbers
    x: Numbers
    y: Numbers
    m: Numbers
    d: Numbers
    to_y: Numbers
    energy: Numbers
    kind: Numbers
    charge: Numbers


class Work(NamedTuple):
    """Scratch of one thread, for B atoms.

    Attributes:
        a: [9 B, F].
        b: [9 B, F].
        one: [B, F].
        two: [B, 2F].
        three: [B, 3F].
        slope: [B, 3F].
        moments: Mean and 1 / deviation of layer norms [B, 2].
        sums: [9].
    """

    a: Numbers
    b: Numbers
    one: Numbers
    two: Numbers
    three: Numbers
    slope: Numbers
    moments: Numbers
    sums: Numbers


class Plan(NamedTuple):
    """Sizes that a pass needs.

    Attributes:
        channels: F without padding.
        lanes: Channels of one instruction.
        block: Atoms in a block.
        layers: L.
        kinds: Number of elements S.
        chiral: SO(3) instead of O(3).
        forces: Go back as well.
    """

    channels: int
    lanes: int
    block: int
    layers: int
    kinds: int
    chiral: bool
    forces: bool


@_compile
def _mix(x, weights, out, rows):  # type: ignore[no-untyped-def]
    """I, A, S of a block through one matrix each."""
    np.dot(x[:rows], weights[0], out[:rows])
    np.dot(x[rows : 4 * rows], weights[1], out[rows : 4 * rows])
    np.dot(x[4 * rows : 9 * rows], weights[2], out[4 * rows : 9 * rows])


@_compile
def _layer_norm(x, weights, moments, rows, channels, padded):  # type: ignore[no-untyped-def]
    """X <- (x - mean) / deviation * scale + shift over all but the padding channels."""
    parts = x.shape[1] // padded
    count = parts * channels
    for b in range(rows):
        mean = x.dtype.type(0.0)
        for p in range(parts):
            for f in range(p * padded, p * padded + channels):
                mean += x[b, f]
        mean /= count
        variance = x.dtype.type(0.0)
        for p in range(parts):
            for f in range(p * padded, p * padded + channels):
                variance += (x[b, f] - mean) ** 2
        inverse = x.dtype.type(1.0 / np.sqrt(variance / count + EPSILON))
        moments[b, 0], moments[b, 1] = mean, inverse
        for f in range(x.shape[1]):
            x[b, f] = (x[b, f] - mean) * inverse * weights[0, f] + weights[1, f]


@_compile
def _layer_norm_back(g, x, weights, moments, channels, padded, row, first):  # type: ignore[no-untyped-def]
    """G <- gradient with respect to x[first + row] from that of its layer norm, one row."""
    parts = g.shape[1] // padded
    count = parts * channels
    mean, inverse = moments[row, 0], moments[row, 1]
    total, along = g.dtype.type(0.0), g.dtype.type(0.0)
    for f in range(g.shape[1]):
        scaled = g[row, f] * weights[0, f]
        total += scaled
        along += scaled * (x[first + row, f] - mean)
    total /= count
    along *= inverse * inverse / count
    for f in range(g.shape[1]):
        centered = x[first + row, f] - mean
        g[row, f] = inverse * (g[row, f] * weights[0, f] - total - centered * along)
    for p in range(parts):
        for f in range(p * padded + channels, (p + 1) * padded):
            g[row, f] = 0.0


@_compile
def _head(weights, state, work, plan, first, rows):  # type: ignore[no-untyped-def]
    """Energies from the features in work.b, and their gradient in its place."""
    padded = work.a.shape[1]
    norms, kept = work.three, work.slope
    for b in range(rows):
        for c in range(0, padded, plan.lanes):
            atom.part_norms(work.b, norms, b, rows, padded, c)
    kept[:rows] = norms[:rows]
    _layer_norm(norms, weights.out_norm, work.moments, rows, plan.channels, padded)
    features, slope = work.two[:, :padded].copy(), work.two[:, padded:].copy()
    np.dot(norms[:rows], weights.out, features[:rows])
    for b in range(rows):
        for c in range(0, padded, plan.lanes):
            atom.biased_silu(features, weights.out_bias, slope, b, b, c)
    width = weights.hidden.shape[1]
    hidden = np.empty((rows, width), work.a.dtype)
    hidden_slope = np.empty((rows, width), work.a.dtype)
    np.dot(features[:rows], weights.hidden, hidden)
    for b in range(rows):
        for c in range(0, width, plan.lanes):
            atom.biased_silu(hidden, weights.hidden_bias, hidden_slope, b, b, c)
        energy = 0.0
        for f in range(width):
            energy += hidden[b, f] * weights.last[f]
        state.energy[first + b] = energy + weights.last_bias[0]
    if plan.forces:
        for b in range(rows):
            for f in range(width):
                hidden[b, f] = weights.last[f] * hidden_slope[b, f]
        np.dot(hidden, weights.hidden_back, features[:rows])
        for b in range(rows):
            for c in range(0, padded, plan.lanes):
                atom.multiply(features, slope, b, b, c)
        np.dot(features[:rows], weights.out_back, norms[:rows])
        for b in range(rows):
            _layer_norm_back(
                norms, kept, weights.out_norm, work.moments, plan.channels, padded, b, 0
            )
            for c in range(0, padded, plan.lanes):
                atom.part_norms_back(work.b, norms, b, rows, padded, c)


@_compile
def _enter_layer(weights, state, work, plan, layer, first, rows):  # type: ignore[no-untyped-def]
    """Normalise the features in work.b and mix them into what neighbors listen to."""
    padded = work.a.shape[1]
    for b in range(rows):
        for c in range(0, padded, plan.lanes):
            atom.normalize(work.b, state.x[layer], state.scale[layer], first + b, b, rows, c)
    _mix(work.b, weights.mix_in[layer], work.a, rows)
    for b in range(rows):
        for c in range(0, padded, plan.lanes):
            atom.keep(work.a, state.y[layer], first + b, b, rows, c)


@_compile
def _leave_layer_back(weights, state, work, plan, layer, first, rows):  # type: ignore[no-untyped-def]
    """From the gradient in work.b to those with respect to Y_i and M_i of a layer."""
    padded = work.a.shape[1]
    d, m, y = state.d[layer], state.m[layer], state.y[layer]
    for b in range(rows):
        for c in range(0, padded, plan.lanes):
            atom.update_back(work.b, d, d, state.charge, first + b, b, rows, c)
    _mix(work.b, weights.mix_out_back[layer], work.a, rows)
    here = weights.here[layer]
    for b in range(rows):
        i = first + b
        for c in range(0, padded, plan.lanes):
            if plan.chiral:
                atom.combine_back_chiral(
                    work.a, y, m, here, state.charge, state.to_y, m, i, b, rows, c
                )
            else:
                atom.combine_back(work.a, y, m, here, state.charge, state.to_y, m, i, b, rows, c)


@_compile
def _pull_of_edge(edges, e, sums):  # type: ignore[no-untyped-def]
    """Gradient with respect to x_i - x_j, without the slopes of messages, from embed_back's sums.

    Harmonics: sqrt 2 (x, y, z, xz, xy), (2 yy - xx - zz) / sqrt 6, sqrt 2 yz, (zz - xx) / sqrt 2.
    """
    x, y, z = edges.unit[e, 0], edges.unit[e, 1], edges.unit[e, 2]
    root2, root6 = np.sqrt(2.0), np.sqrt(6.0)
    s, t = sums, sums[6] * (2.0 / root6)
    gx = root2 * (s[1] + s[4] * z + s[5] * y - s[8] * x) - t * x
    gy = root2 * (s[2] + s[5] * x + s[7] * z) + 2.0 * t * y
    gz = root2 * (s[3] + s[4] * x + s[7] * y + s[8] * z) - t * z
    radial, inverse = gx * x + gy * y + gz * z, edges.inverse[e]
    edges.pull[e, 0] = (gx - radial * x) * inverse
    edges.pull[e, 1] = (gy - radial * y) * inverse
    edges.pull[e, 2] = (gz - radial * z) * inverse
    edges.gradient[e] += s[0]


@_compile
def _embedding_back(weights, state, edges, work, plan, first, rows):  # type: ignore[no-untyped-def]
    """From the gradient in work.b to those with respect to the edges of a block."""
    padded, table = work.a.shape[1], weights.tables[0]
    to_gates = work.slope
    for b in range(rows):
        for c in range(0, padded, plan.lanes):
            atom.fetch(work.a, state.mixed, first + b, b, rows, c)
            atom.gate_back(
                work.b, work.a, state.gates[first : first + rows], to_gates, b, rows, padded, c
            )
        for c in range(0, 3 * padded, plan.lanes):
            atom.multiply(to_gates, state.slope_out, b, first + b, c)
    np.dot(to_gates[:rows], weights.gate_out_back, work.two[:rows])
    for b in range(rows):
        for c in range(0, 2 * padded, plan.lanes):
            atom.multiply(work.two, state.slope_in, b, first + b, c)
    np.dot(work.two[:rows], weights.gate_in_back, work.one[:rows])
    work.three[:rows, :padded] = state.norm[first : first + rows]
    _layer_norm_moments(state.norm, work.moments, first, rows, plan.channels)
    _mix(work.b, weights.mix_back, work.a, rows)
    for b in range(rows):
        i = first + b
        _layer_norm_back(
            work.one, state.norm, weights.norm, work.moments, plan.channels, padded, b, first
        )
        for c in range(0, padded, plan.lanes):
            atom.norm_back(work.a, state.x0, work.one, i, b, rows, c)
        for e in range(edges.start[i], edges.stop[i]):
            pair = state.kind[i] * plan.kinds + state.kind[edges.sender[e]]
            edge.embed_back(work.sums, work.a, table, weights.pairs, edges, e, pair, b, rows, padded)
            _pull_of_edge(edges, e, work.sums)


@_compile
def _layer_norm_moments(x, moments, first, rows, channels):  # type: ignore[no-untyped-def]
    """Mean and inverse deviation of rows first ... of x."""
    for b in range(rows):
        mean = x.dtype.type(0.0)
        for f in range(channels):
            mean += x[first + b, f]
        mean /= channels
        variance = x.dtype.type(0.0)
        for f in range(channels):
            variance += (x[first + b, f] - mean) ** 2
        moments[b, 0], moments[b, 1] = mean, 1.0 / np.sqrt(variance / channels + EPSILON)


@_compile
def embedding_pass(weights, state, edges, work, plan, first, last):  # type: ignore[no-untyped-def]
    """Embedding of atoms first ... last, up to what the first layer's neighbors listen to."""
    padded, table = work.a.shape[1], weights.tables[0]
    for begin in range(first, last, plan.block):
        rows = min(plan.block, last - begin)
        for c in range(0, padded, plan.lanes):
            for b in range(rows):
                edge.embed(
                    work.a, work.one, table, weights.pairs, weights.loops, edges, state.kind,
                    plan.kinds, begin + b, b, rows, c,
                )  # fmt: skip
                atom.keep(work.a, state.x0, begin + b, b, rows, c)
        state.norm[begin : begin + rows] = work.one[:rows]
        _layer_norm(work.one, weights.norm, work.moments, rows, plan.channels, padded)
        np.dot(work.one[:rows], weights.gate_in, work.two[:rows])
        for b in range(rows):
            for c in range(0, 2 * padded, plan.lanes):
                atom.biased_silu(work.two, weights.gate_in_bias, state.slope_in, b, begin + b, c)
        np.dot(work.two[:rows], weights.gate_out, work.three[:rows])
        for b in range(rows):
            for c in range(0, 3 * padded, plan.lanes):
                atom.biased_silu(
                    work.three, weights.gate_out_bias, state.slope_out, b, begin + b, c
                )
        state.gates[begin : begin + rows] = work.three[:rows]
        _mix(work.a, weights.mix, work.b, rows)
        for b in range(rows):
            for c in range(0, padded, plan.lanes):
                atom.keep(work.b, state.mixed, begin + b, b, rows, c)
                atom.gate(work.b, work.three, b, rows, padded, c)
        if plan.layers > 0:
            _enter_layer(weights, state, work, plan, 0, begin, rows)
        else:
            _head(weights, state, work, plan, begin, rows)
            if plan.forces:
                _embedding_back(weights, state, edges, work, plan, begin, rows)


@_compile
def layer_pass(weights, state, edges, work, plan, layer, first, last):  # type: ignore[no-untyped-def]
    """One layer; after the last one energies, and the way back to its messages."""
    padded, table = work.a.shape[1], weights.tables[layer + 1]
    y, m, here = state.y[layer], state.m[layer], weights.here[layer]
    for begin in range(first, last, plan.block):
        rows = min(plan.block, last - begin)
        for c in range(0, padded, plan.lanes):
            for b in range(rows):
                i = begin + b
                edge.message(m, table, y, here, edges, i, i, c)
                if plan.chiral:
                    atom.combine_chiral(work.a, y, m, state.charge, i, b, rows, c)
                else:
                    atom.combine(work.a, y, m, state.charge, i, b, rows, c)
        _mix(work.a, weights.mix_out[layer], work.b, rows)
        for b in range(rows):
            for c in range(0, padded, plan.lanes):
                atom.update(
                    work.b, state.d[layer], state.x[layer], state.charge, begin + b, b, rows, c
                )
        if layer + 1 < plan.layers:
            _enter_layer(weights, state, work, plan, layer + 1, begin, rows)
        else:
            _head(weights, state, work, plan, begin, rows)
            if plan.forces:
                _leave_layer_back(weights, state, work, plan, layer, begin, rows)


@_compile
def back_pass(weights, state, edges, work, plan, layer, first, last):  # type: ignore[no-untyped-def]
    """From the gradients of a layer's messages to those of the layer before, or of the edges."""
    padded, table = work.a.shape[1], weights.tables[layer + 1]
    for begin in range(first, last, plan.block):
        rows = min(plan.block, last - begin)
        for c in range(0, padded, plan.lanes):
            for b in range(rows):
                edge.message_back(
                    work.a, table, state.to_y, state.m[layer], state.y[layer], edges, begin + b, b,
                    rows, c,
                )  # fmt: skip
        _mix(work.a, weights.mix_in_back[layer], work.b, rows)
        for b in range(rows):
            for c in range(0, padded, plan.lanes):
                atom.normalize_back(
                    work.b, state.d[layer], state.x[layer], state.scale[layer], begin + b, b, rows,
                    c,
                )  # fmt: skip
        if layer > 0:
            _leave_layer_back(weights, state, work, plan, layer - 1, begin, rows)
        else:
            _embedding_back(weights, state, edges, work, plan, begin, rows)
