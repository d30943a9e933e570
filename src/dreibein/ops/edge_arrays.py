"""From positions to the arrays of `Edges`, and from the gradients of edges to forces and virial."""

from typing import Any

import numba
import numpy as np

from dreibein.ops.splines import BASIS, TAPS

_compile = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})

_WEIGHTS = np.array(BASIS) / 120.0  # [tap, power]
ENVELOPES = ("smooth", "cosine")
"""Envelopes that `find_edges` knows, by their number."""


@_compile
def _envelope(t, kind):  # type: ignore[no-untyped-def]
    """phi(t) and dphi/dt for t = r / cutoff below 1."""
    if kind == 1:
        return 0.5 * (np.cos(np.pi * t) + 1.0), -0.5 * np.pi * np.sin(np.pi * t)
    square = t * t
    value = 1.0 + square * t * (t * (15.0 - 6.0 * t) - 10.0)
    return value, -30.0 * square * (1.0 - t) * (1.0 - t)


@_compile
def _put_taps(edges, slot, r, cutoff, knots, kind):  # type: ignore[no-untyped-def]
    """Spline weights of a distance times the envelope, and their slopes."""
    phi, tilt = _envelope(r / cutoff, kind)
    tilt /= cutoff
    scale = knots / cutoff
    base = min(int(r * scale), knots - 1)
    u = r * scale - base
    edges.base[slot] = base
    for t in range(TAPS):
        value, slope = _WEIGHTS[t, 5], 5.0 * _WEIGHTS[t, 5]
        for power in range(4, 0, -1):
            value = value * u + _WEIGHTS[t, power]
            slope = slope * u + power * _WEIGHTS[t, power]
        value = value * u + _WEIGHTS[t, 0]
        edges.taps[slot, t] = phi * value
        edges.slopes[slot, t] = phi * slope * scale + tilt * value


@_compile
def _put_direction(edges, slot, x, y, z):  # type: ignore[no-untyped-def]
    """Unit vector and its nine numbers: 1, [u]x and u u^T - 1/3 in the orthonormal basis."""
    edges.unit[slot, 0], edges.unit[slot, 1], edges.unit[slot, 2] = x, y, z
    root2 = np.sqrt(2.0)
    h = edges.harmonics
    h[slot, 0] = np.sqrt(3.0)
    h[slot, 1], h[slot, 2], h[slot, 3] = root2 * x, root2 * y, root2 * z
    h[slot, 4], h[slot, 5], h[slot, 7] = root2 * x * z, root2 * x * y, root2 * y * z
    h[slot, 6] = (2.0 * y * y - x * x - z * z) / np.sqrt(6.0)
    h[slot, 8] = (z * z - x * x) / root2


@_compile
def find_edges(edges, pairs, cutoff, knots, kind, first, last):  # type: ignore[no-untyped-def]
    """Fill the edges of receivers first ... last that are shorter than the cutoff.

    Args:
        edges: `Edges`, with room for all candidates.
        pairs: pos [N, 3] float64, cells [B, 3, 3] float64, batch [N], ptr [N + 1], sender [C],
            shift [C, 3] of candidates sorted by receiver.
        cutoff: In Å.
        knots: Intervals of the radial grid.
        kind: Number of the envelope in `ENVELOPES`.
        first: First receiver.
        last: One past the last receiver.
    """
    pos, cells, batch, ptr, sender, shift = pairs
    for i in range(first, last):
        slot = ptr[i]
        edges.start[i] = slot
        cell = cells[batch[i]]
        for p in range(ptr[i], ptr[i + 1]):
            j = sender[p]
            x, y, z = pos[i, 0] - pos[j, 0], pos[i, 1] - pos[j, 1], pos[i, 2] - pos[j, 2]
            for k in range(3):
                if shift[p, k] != 0:
                    x -= shift[p, k] * cell[k, 0]
                    y -= shift[p, k] * cell[k, 1]
                    z -= shift[p, k] * cell[k, 2]
            square = x * x + y * y + z * z
            if square < cutoff * cutoff:
                r = np.sqrt(square)
                inverse = 1.0 / r if r > 0.0 else 0.0
                edges.sender[slot] = j
                edges.inverse[slot] = inverse
                edges.gradient[slot] = 0.0
                _put_direction(edges, slot, x * inverse, y * inverse, z * inverse)
                _put_taps(edges, slot, r, cutoff, knots, kind)
                slot += 1
        edges.stop[i] = slot


@_compile
def collect(edges, batch, gradient, strain):  # type: ignore[no-untyped-def]
    """Add dE/dx [N, 3] and dE/d(strain) [B, 3, 3] (not symmetrised) of all edges.

    An edge depends on v = x_i - x_j (with its shift), of gradient g: x_i gets g, x_j gets -g, and a
    strain v g^T.
    """
    for i in range(len(batch)):
        total = np.zeros(3)
        box = strain[batch[i]]
        for e in range(edges.start[i], edges.stop[i]):
            j, inverse = edges.sender[e], np.float64(edges.inverse[e])
            r = 1.0 / inverse if inverse > 0.0 else 0.0
            for k in range(3):
                g = np.float64(edges.gradient[e]) * edges.unit[e, k] + edges.pull[e, k]
                total[k] += g
                gradient[j, k] -= g
                for axis in range(3):
                    box[axis, k] += r * edges.unit[e, axis] * g
        for k in range(3):
            gradient[i, k] += total[k]


def split_rows(ptr: np.ndarray[Any, Any], parts: int) -> list[tuple[int, int]]:
    """Ranges of receivers with about equal work, an edge counting 1 and an atom 16."""
    atoms = len(ptr) - 1
    work = ptr + 16 * np.arange(atoms + 1)
    marks = np.searchsorted(work, np.linspace(0, work[-1], parts + 1)[1:-1])
    bounds = [0, *(int(mark) for mark in marks), atoms]
    return [(first, last) for first, last in zip(bounds, bounds[1:]) if last > first]
