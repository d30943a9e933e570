"""From positions to the arrays of `Edges`, and from the gradients of edges to forces and virial."""

from itertools import pairwise
from typing import Any

import numba
import numpy as np

from dreibein.ops.edge_geometry import (
    coordinate,
    envelope,
    harmonics_back,
    put_harmonics,
    put_taps,
)

_compile = numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "nsz"})


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
                x, y, z = x * inverse, y * inverse, z * inverse
                unit[slot, 0], unit[slot, 1], unit[slot, 2] = x, y, z
                put_harmonics(harmonics[slot], x, y, z)
                place, rate = coordinate(r / cutoff, knots, stretch)
                knot = min(int(place), knots - 1)
                base[slot] = knot
                phi, tilt = envelope(r / cutoff, kind)
                put_taps(taps[slot], slopes[slot], place - knot, phi, tilt / cutoff, rate / cutoff)
                slot += 1
        stop[i] = slot


@_compile
def collect(edges, batch, scale, gradient, strain, first, last):  # type: ignore[no-untyped-def]
    """Put what the edges of receivers first ... last add to gradients in place of zeros.

    These are dE/dx [N, 3] and dE/d(strain) [B, 3, 3], times scale; senders may be any atoms.

    An edge depends on v = x_i - x_j (with its shift), by g = dE/dr u + (1 - u u^T) dE/du / r,
    where dE/du comes from the nine numbers of u; x_i gets g, x_j -g, and a strain v g^T.
    """
    start, stop, sender, unit = edges.start, edges.stop, edges.sender, edges.unit
    inverses, slope, turned = edges.inverse, edges.gradient, edges.harmonics
    for i in range(first, last):
        box = batch[i]
        fx, fy, fz = 0.0, 0.0, 0.0
        for e in range(start[i], stop[i]):
            j, inverse = sender[e], np.float64(inverses[e])
            x, y, z = np.float64(unit[e, 0]), np.float64(unit[e, 1]), np.float64(unit[e, 2])
            gx, gy, gz = harmonics_back(turned[e], x, y, z)
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
    for i in range(len(gradient)):
        for a in range(3):
            gradient[i, a] *= scale
    for box in range(len(strain)):
        for a in range(3):
            strain[box, a, a] *= scale
            for b in range(a):
                mean = 0.5 * scale * (strain[box, a, b] + strain[box, b, a])
                strain[box, a, b] = mean
                strain[box, b, a] = mean


def split_rows(ptr: np.ndarray[Any, Any], parts: int) -> list[tuple[int, int]]:
    """Ranges of receivers with about equal work, an edge counting 1 and an atom 60."""
    atoms = len(ptr) - 1
    work = ptr + 60 * np.arange(atoms + 1)
    marks = np.searchsorted(work, np.linspace(0, work[-1], parts + 1)[1:-1])
    bounds = [0, *(int(mark) for mark in marks), atoms]
    return [(first, last) for first, last in pairwise(bounds) if last > first]
