"""From positions to the arrays of `Edges`, and from the gradients of edges to forces and virial."""

import math
from itertools import pairwise
from typing import Any

import numba
import numpy as np

from dreibein.ops.splines import BASIS, DECAY, TAPS

_compile = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})

_ROOT2, _ROOT3, _ROOT6 = math.sqrt(2.0), math.sqrt(3.0), math.sqrt(6.0)
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
def _coordinate(t, knots, stretch):  # type: ignore[no-untyped-def]
    """Place on the grid of t = r / cutoff, in knots, and its derivative; see `RadialGrid`."""
    if stretch == 0.0:
        return knots * t, 1.0 * knots
    decay = np.exp(-DECAY * t)
    scale = knots / (1.0 + stretch * (1.0 - np.exp(-DECAY)) / DECAY)
    return scale * (t + stretch * (1.0 - decay) / DECAY), scale * (1.0 + stretch * decay)


@_compile
def _put_taps(taps, slopes, u, envelope, tilt, scale):  # type: ignore[no-untyped-def]
    """Spline weights at u of an interval times the envelope, and their slopes."""
    for t in range(TAPS):
        value, slope = _WEIGHTS[t, 5], 5.0 * _WEIGHTS[t, 5]
        for power in range(4, 0, -1):
            value = value * u + _WEIGHTS[t, power]
            slope = slope * u + power * _WEIGHTS[t, power]
        value = value * u + _WEIGHTS[t, 0]
        taps[t] = envelope * value
        slopes[t] = envelope * slope * scale + tilt * value


@_compile
def _put_direction(unit, h, x, y, z):  # type: ignore[no-untyped-def]
    """Unit vector and its nine numbers: 1, [u]x and u u^T - 1/3 in the orthonormal basis."""
    unit[0], unit[1], unit[2] = x, y, z
    h[0] = _ROOT3
    h[1], h[2], h[3] = _ROOT2 * x, _ROOT2 * y, _ROOT2 * z
    h[4], h[5], h[7] = _ROOT2 * x * z, _ROOT2 * x * y, _ROOT2 * y * z
    h[6] = (2.0 * y * y - x * x - z * z) * (1.0 / _ROOT6)
    h[8] = (z * z - x * x) * (1.0 / _ROOT2)


@_compile
def find_edges(edges, pairs, cutoff, knots, stretch, kind, first, last):  # type: ignore[no-untyped-def]
    """Fill the edges of receivers first ... last that are shorter than the cutoff.

    Args:
        edges: `Edges`, with room for all candidates.
        pairs: pos [N, 3] float64, cells [B, 3, 3] float64, batch [N], ptr [N + 1], sender [C],
            shift [C, 3] of candidates sorted by receiver.
        cutoff: In Å.
        knots: Intervals of the radial grid.
        stretch: Of the radial grid.
        kind: Number of the envelope in `ENVELOPES`.
        first: First receiver.
        last: One past the last receiver.
    """
    pos, cells, batch, ptr, sender, shift = pairs
    to, taps, slopes, base = edges.sender, edges.taps, edges.slopes, edges.base
    unit, harmonics, inverses, gradient = edges.unit, edges.harmonics, edges.inverse, edges.gradient
    start, stop = edges.start, edges.stop
    for i in range(first, last):
        slot = ptr[i]
        start[i] = slot
        box = batch[i]
        for p in range(ptr[i], ptr[i + 1]):
            j = sender[p]
            x, y, z = pos[i, 0] - pos[j, 0], pos[i, 1] - pos[j, 1], pos[i, 2] - pos[j, 2]
            for k in range(3):
                if shift[p, k] != 0:
                    x -= shift[p, k] * cells[box, k, 0]
                    y -= shift[p, k] * cells[box, k, 1]
                    z -= shift[p, k] * cells[box, k, 2]
            square = x * x + y * y + z * z
            if square < cutoff * cutoff:
                r = np.sqrt(square)
                inverse = 1.0 / r if r > 0.0 else 0.0
                to[slot] = j
                inverses[slot] = inverse
                gradient[slot] = 0.0
                _put_direction(unit[slot], harmonics[slot], x * inverse, y * inverse, z * inverse)
                x, rate = _coordinate(r / cutoff, knots, stretch)
                knot = min(int(x), knots - 1)
                base[slot] = knot
                phi, tilt = _envelope(r / cutoff, kind)
                _put_taps(taps[slot], slopes[slot], x - knot, phi, tilt / cutoff, rate / cutoff)
                slot += 1
        stop[i] = slot


@_compile
def collect(edges, batch, gradient, strain):  # type: ignore[no-untyped-def]
    """Add dE/dx [N, 3] and dE/d(strain) [B, 3, 3] (not symmetrised) of all edges.

    An edge depends on v = x_i - x_j (with its shift), by g = dE/dr u + (1 - u u^T) dE/du / r, where
    dE/du comes from the nine numbers of u; x_i gets g, x_j gets -g, and a strain v g^T.
    """
    start, stop, sender, unit = edges.start, edges.stop, edges.sender, edges.unit
    inverses, slope, turned = edges.inverse, edges.gradient, edges.harmonics
    for i in range(len(batch)):
        box = batch[i]
        fx, fy, fz = 0.0, 0.0, 0.0
        for e in range(start[i], stop[i]):
            j, inverse = sender[e], np.float64(inverses[e])
            x, y, z = np.float64(unit[e, 0]), np.float64(unit[e, 1]), np.float64(unit[e, 2])
            a1, a2, a3, xz, xy, yz = (
                np.float64(turned[e, 1]), np.float64(turned[e, 2]), np.float64(turned[e, 3]),
                np.float64(turned[e, 4]), np.float64(turned[e, 5]), np.float64(turned[e, 7]),
            )  # fmt: skip
            yy, zz = np.float64(turned[e, 6]) * (2.0 / _ROOT6), np.float64(turned[e, 8])
            gx = _ROOT2 * (a1 + xz * z + xy * y - zz * x) - yy * x
            gy = _ROOT2 * (a2 + xy * x + yz * z) + 2.0 * yy * y
            gz = _ROOT2 * (a3 + xz * x + yz * y + zz * z) - yy * z
            along = (gx * x + gy * y + gz * z) * inverse - np.float64(slope[e] + turned[e, 0])
            gx, gy, gz = (
                gx * inverse - along * x,
                gy * inverse - along * y,
                gz * inverse - along * z,
            )
            fx, fy, fz = fx + gx, fy + gy, fz + gz
            gradient[j, 0] -= gx
            gradient[j, 1] -= gy
            gradient[j, 2] -= gz
            if inverse > 0.0:
                x, y, z = x / inverse, y / inverse, z / inverse
            strain[box, 0, 0] += x * gx
            strain[box, 0, 1] += x * gy
            strain[box, 0, 2] += x * gz
            strain[box, 1, 0] += y * gx
            strain[box, 1, 1] += y * gy
            strain[box, 1, 2] += y * gz
            strain[box, 2, 0] += z * gx
            strain[box, 2, 1] += z * gy
            strain[box, 2, 2] += z * gz
        gradient[i, 0] += fx
        gradient[i, 1] += fy
        gradient[i, 2] += fz


def split_rows(ptr: np.ndarray[Any, Any], parts: int) -> list[tuple[int, int]]:
    """Ranges of receivers with about equal work, an edge counting 1 and an atom 16."""
    atoms = len(ptr) - 1
    work = ptr + 16 * np.arange(atoms + 1)
    marks = np.searchsorted(work, np.linspace(0, work[-1], parts + 1)[1:-1])
    bounds = [0, *(int(mark) for mark in marks), atoms]
    return [(first, last) for first, last in pairwise(bounds) if last > first]
