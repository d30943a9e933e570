"""TensorNet forward and backward without autograd: passes over blocks of atoms.

Between two sums over neighbors everything belongs to one atom, so a pass takes a block of atoms,
small enough for the cache, from one sum to the next: energy and forces of L layers are 2 L + 1
passes. Within a block the nine components are ordered by component, so that matrix products
dominate; across blocks features are [C, N, 9, V]. A pass works on atoms first ... last and touches
no other atom's results, so threads share it by atoms.

Channels come in chunks of V, the lanes of one instruction; C is the number of chunks.
"""

from typing import Any, NamedTuple

import numba
import numpy as np

from dreibein.models.tensornet import heads
from dreibein.models.tensornet.heads import (
    GatedWeights,
    head,
    layer_norm,
    layer_norm_back,
    norm_moments,
)
from dreibein.ops import atom_kernels as atom
from dreibein.ops import edge_kernels as edge
from dreibein.ops.edge_arrays import collect, find_edges
from dreibein.ops.matmul import matmul
from dreibein.ops.meeting import meet
from dreibein.ops.sources import sources_number

Numbers = np.ndarray[Any, Any]

_compile = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"}
)
# made part of the one function that is called: a function of its own is compiled once for itself
# and once more in each that calls it
_part = numba.njit(inline="always")


class EmbeddingSum(NamedTuple):
    """Constants of the sum over neighbors that makes the first features.

    Attributes:
        table: Control points [C, knots, 3, V].
        pairs: Weight of each pair of elements, receiver and sender [C, S, S, V].
        loops: What an atom adds to its own scalar part [C, S, V].
    """

    table: Numbers
    pairs: Numbers
    loops: Numbers


class Weights(NamedTuple):
    """Constants of a network, channels padded to a multiple of V.

    Matrices [in, out] are as `ops.matmul` packs them.

    Attributes:
        gated: Of a gated head.
        embedding: Of the first sum.
        tables: Control points of each layer [L, C, knots, 3, V].
        here: Filters at distance 0 of each layer [L, C, 3, V].
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

    gated: GatedWeights
    embedding: EmbeddingSum
    tables: Numbers
    here: Numbers
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
        x0: Embedding sums [C, N, 9, V].
        mixed: The same after channel mixing [C, N, 9, V].
        norm: Squared norm of x0 [N, F].
        slope_in: Derivatives of the gates' activations [N, 2F].
        slope_out: [N, 3F].
        gates: [N, 3F].
        scale: 1 / (|X|^2 + 1) [L, C, N, V].
        x: Normalised features [L, C, N, 9, V].
        y: Mixed features that neighbors listen to [L, C, N, 9, V].
        m: Messages; on the way back, gradients with respect to them [L, C, N or more, 9, V].
        d: Updates; on the way back, gradients with respect to the layer's result [L, C, N, 9, V].
        to_y: Gradients with respect to y [C, N, 9, V].
        energy: [N].
        kind: Row of each atom's element, those included that are heard alone [N or more].
        charge: 1 + charge_scale Q of each atom's structure [N].
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
        gradient: With respect to the embedding sums [B, C, 9, V].
        moments: Mean and 1 / deviation of layer norms [B, 2].
    """

    a: Numbers
    b: Numbers
    one: Numbers
    two: Numbers
    three: Numbers
    slope: Numbers
    gradient: Numbers
    moments: Numbers


class Share(NamedTuple):
    """What one thread does: in a pass it takes its atoms among those within h edges of the first.

    Attributes:
        first: Its first atom [L + 1], by h.
        last: One past its last atom [L + 1].
        threads: How many threads there are.
        meeting: Counts arrivals, [1] int64, zero at the start, one for all threads.
        gradient: Zeros; gets what its edges add to dE/dx of all atoms [N or more, 3].
        strain: Zeros; gets what they add to dE/d(strain) [B, 3, 3].
    """

    first: Numbers
    last: Numbers
    threads: int
    meeting: Numbers
    gradient: Numbers
    strain: Numbers


class Plan(NamedTuple):
    """Sizes that a pass needs.

    Attributes:
        channels: F without padding.
        block: Atoms in a block.
        layers: L.
        chiral: SO(3) instead of O(3).
        gated: A gated head.
        forces: Go back as well.
    """

    channels: int
    block: int
    layers: int
    chiral: bool
    gated: bool
    forces: bool


@_part
def _mix(x, weights, out, rows):  # type: ignore[no-untyped-def]
    """I, A, S of a block through one matrix each."""
    matmul(x, weights[0], out, 0, rows)
    matmul(x, weights[1], out, rows, 3 * rows)
    matmul(x, weights[2], out, 4 * rows, 5 * rows)


@_part
def _enter_layer(weights, state, work, layer, first, rows):  # type: ignore[no-untyped-def]
    """Normalise the features in work.b and mix them into what neighbors listen to."""
    atom.normalize(work.b, state.x[layer], state.scale[layer], first, rows)
    _mix(work.b, weights.mix_in[layer], work.a, rows)
    atom.keep(work.a, state.y[layer], first, rows)


@_part
def _leave_layer_back(weights, state, work, plan, layer, first, rows):  # type: ignore[no-untyped-def]
    """From the gradient in work.b to those with respect to Y_i and M_i of a layer."""
    d, m, y, here = state.d[layer], state.m[layer], state.y[layer], weights.here[layer]
    atom.update_back(work.b, d, d, state.charge, first, rows)
    _mix(work.b, weights.mix_out_back[layer], work.a, rows)
    if plan.chiral:
        atom.combine_back_chiral(work.a, y, m, here, state.charge, state.to_y, first, rows)
    else:
        atom.combine_back(work.a, y, m, here, state.charge, state.to_y, first, rows)


@_part
def _embedding_back(weights, state, edges, work, plan, first, rows):  # type: ignore[no-untyped-def]
    """From the gradient in work.b to those with respect to the edges of a block."""
    padded, one, two, three = work.a.shape[1], work.one, work.two, work.three
    atom.gate_back(work.b, state.mixed, state.gates, three, first, rows)
    atom.multiply(three, state.slope_out, first, rows)
    matmul(three, weights.gate_out_back, two, 0, rows)
    atom.multiply(two, state.slope_in, first, rows)
    matmul(two, weights.gate_in_back, one, 0, rows)
    norm = state.norm[first : first + rows]
    norm_moments(norm, work.moments, rows, plan.channels, padded)
    layer_norm_back(one, norm, weights.norm, work.moments, rows, plan.channels, padded)
    _mix(work.b, weights.mix_back, work.a, rows)
    atom.norm_back(work.gradient, work.a, state.x0, one, first, rows)
    edge.embed_back(work.gradient, weights.embedding, state.kind, edges, first, rows)


@_part
def embedding_pass(weights, state, edges, work, plan, first, last):  # type: ignore[no-untyped-def]
    """Embedding of atoms first ... last, up to what the first layer's neighbors listen to."""
    padded, one, two, three = work.a.shape[1], work.one, work.two, work.three
    for begin in range(first, last, plan.block):
        rows = min(plan.block, last - begin)
        edge.embed(work.a, one, state.x0, weights.embedding, state.kind, edges, begin, rows)
        state.norm[begin : begin + rows] = one[:rows]
        norm_moments(one, work.moments, rows, plan.channels, padded)
        layer_norm(one, weights.norm, work.moments, rows)
        matmul(one, weights.gate_in, two, 0, rows)
        atom.biased_silu(two, weights.gate_in_bias, state.slope_in, begin, rows)
        matmul(two, weights.gate_out, three, 0, rows)
        atom.biased_silu(three, weights.gate_out_bias, state.slope_out, begin, rows)
        state.gates[begin : begin + rows] = three[:rows]
        _mix(work.a, weights.mix, work.b, rows)
        atom.gate(work.b, state.mixed, three, begin, rows)
        if plan.layers > 0:
            _enter_layer(weights, state, work, 0, begin, rows)
        else:
            head(weights, state, work, plan, begin, rows)
            if plan.forces:
                _embedding_back(weights, state, edges, work, plan, begin, rows)


@_part
def layer_pass(weights, state, edges, work, plan, layer, first, last):  # type: ignore[no-untyped-def]
    """One layer; after the last one energies, and the way back to its messages."""
    table, here, charge = weights.tables[layer], weights.here[layer], state.charge
    x, y, m, d = state.x[layer], state.y[layer], state.m[layer], state.d[layer]
    for begin in range(first, last, plan.block):
        rows = min(plan.block, last - begin)
        edge.message(m, table, y, here, edges, begin, rows)
        if plan.chiral:
            atom.combine_chiral(work.a, y, m, charge, begin, rows)
        else:
            atom.combine(work.a, y, m, charge, begin, rows)
        _mix(work.a, weights.mix_out[layer], work.b, rows)
        atom.update(work.b, d, x, charge, begin, rows)
        if layer + 1 < plan.layers:
            _enter_layer(weights, state, work, layer + 1, begin, rows)
        else:
            head(weights, state, work, plan, begin, rows)
            if plan.forces:
                _leave_layer_back(weights, state, work, plan, layer, begin, rows)


@_part
def back_pass(weights, state, edges, work, plan, layer, first, last):  # type: ignore[no-untyped-def]
    """From the gradients of a layer's messages to those of the layer before, or of the edges."""
    table, m, y = weights.tables[layer], state.m[layer], state.y[layer]
    x, d, scale = state.x[layer], state.d[layer], state.scale[layer]
    for begin in range(first, last, plan.block):
        rows = min(plan.block, last - begin)
        edge.message_back(work.a, table, state.to_y, m, y, edges, begin, rows)
        _mix(work.a, weights.mix_in_back[layer], work.b, rows)
        atom.normalize_back(work.b, d, x, scale, begin, rows)
        if layer > 0:
            _leave_layer_back(weights, state, work, plan, layer - 1, begin, rows)
        else:
            _embedding_back(weights, state, edges, work, plan, begin, rows)


def _passes_of(sources: int) -> Any:
    """The compiled function; kept code of other sources is not taken for it."""

    @_compile
    def all_passes(weights, state, edges, pairs, grid, scale, work, plan, share):  # type: ignore[no-untyped-def]
        """One thread's share of energies and gradients: every pass, meeting the others in between.

        With L layers the energies of the atoms at h = 0 need the embedding up to h = L, and layer l
        up to h = L - 1 - l; its way back goes one edge farther, where gradients are zero before.

        Args:
            weights: `Weights`.
            state: `State`.
            edges: `Edges`, to be filled.
            pairs: Candidates, see `find_edges`.
            grid: Cutoff, knots, stretch and envelope of the tables.
            scale: Of the gradients.
            work: `Work` of this thread.
            plan: `Plan`.
            share: `Share` of this thread.
        """
        if sources < 0:  # never; named here so that it marks the kept code, see `ops.sources`
            return
        firsts, lasts, layers = share.first, share.last, plan.layers
        first, last = firsts[layers], lasts[layers]
        cutoff, knots, stretch, envelope = grid
        find_edges(edges, pairs, cutoff, knots, stretch, envelope, first, last)
        embedding_pass(weights, state, edges, work, plan, first, last)
        for layer in range(layers):
            meet(share.meeting, share.threads)
            first, last = firsts[layers - 1 - layer], lasts[layers - 1 - layer]
            layer_pass(weights, state, edges, work, plan, layer, first, last)
        if plan.forces:
            for layer in range(layers - 1, -1, -1):
                meet(share.meeting, share.threads)
                first, last = firsts[layers - layer], lasts[layers - layer]
                back_pass(weights, state, edges, work, plan, layer, first, last)
            first, last = firsts[layers], lasts[layers]
            collect(edges, pairs[2], scale, share.gradient, share.strain, first, last)

    return all_passes


all_passes = _passes_of(sources_number(__file__, heads.__file__))
