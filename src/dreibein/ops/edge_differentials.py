"""What an edge's vector v = x_j - x_i gives: spline taps, nine numbers of a direction, derivatives.

With r = |v|, u = -v / r (from sender to receiver, as published) and phi the envelope:

    taps       w_t(r) phi(r), and their slopes with respect to r
    harmonics  sqrt(3), sqrt(2) u, five of u u^T - 1/3 (coordinates in an orthonormal basis)

Plain loops over edges, compiled; a vector of length zero has r = 0, u = 0 and no derivative.
"""

import math
from typing import Any, NamedTuple

import numba
import numpy as np

from dreibein.ops.edge_geometry import (
    ENVELOPES,
    coordinate,
    envelope,
    harmonics_back,
    put_harmonics,
    put_taps,
)
from dreibein.ops.splines import TAPS, RadialGrid

Array = np.ndarray[Any, Any]
_compile = numba.njit(nogil=True, error_model="numpy")


class Geometry(NamedTuple):
    """Numbers of edges, in the order of the edges.

    Attributes:
        length: r [E] in Å.
        unit: u [E, 3].
        base: First control point [E] int32.
        taps: Envelope times spline weights [E, 6].
        slopes: Their derivatives with respect to r [E, 6].
        harmonics: Nine numbers of the direction [E, 9].
    """

    length: Array
    unit: Array
    base: Array
    taps: Array
    slopes: Array
    harmonics: Array


def edge_geometry(vectors: Array, grid: RadialGrid, envelope_name: str) -> Geometry:
    """Numbers of edges with these vectors [E, 3]; the envelope is "smooth" or "cosine"."""
    edges, kind = len(vectors), vectors.dtype
    found = Geometry(
        np.empty(edges, kind),
        np.empty((edges, 3), kind),
        np.empty(edges, np.int32),
        np.empty((edges, TAPS), kind),
        np.empty((edges, TAPS), kind),
        np.empty((edges, 9), kind),
    )
    kind = ENVELOPES.index(envelope_name)
    _geometry_kernel(vectors, *found, grid.cutoff, grid.knots, grid.stretch, kind)
    return found


@_compile
def _geometry_kernel(  # type: ignore[no-untyped-def]
    vectors, length, unit, base, taps, slopes, harmonics, cutoff, knots, stretch, kind
):
    for e in range(len(vectors)):
        vx, vy, vz = float(vectors[e, 0]), float(vectors[e, 1]), float(vectors[e, 2])
        r = math.sqrt(vx * vx + vy * vy + vz * vz)
        scale = -1.0 / r if r > 0.0 else 0.0
        x, y, z = vx * scale, vy * scale, vz * scale
        length[e], unit[e, 0], unit[e, 1], unit[e, 2] = r, x, y, z
        put_harmonics(harmonics[e], x, y, z)
        place, rate = coordinate(r / cutoff, knots, stretch)
        base[e] = min(int(place), knots - 1)
        phi, tilt = envelope(r / cutoff, kind) if r < cutoff else (0.0, 0.0)
        put_taps(taps[e], slopes[e], place - base[e], phi, tilt / cutoff, rate / cutoff)


@_compile
def pull_kernel(gradient, to_harmonics, unit, length, pull):  # type: ignore[no-untyped-def]
    """dE/dv of each edge from dE/dr and dE/d(harmonics)."""
    for e in range(len(gradient)):
        x, y, z = float(unit[e, 0]), float(unit[e, 1]), float(unit[e, 2])
        qx, qy, qz = harmonics_back(to_harmonics[e], x, y, z)
        along = x * qx + y * qy + z * qz
        inverse = 1.0 / length[e] if length[e] > 0.0 else 0.0
        pull[e, 0] = -(gradient[e] * x + (qx - along * x) * inverse)
        pull[e, 1] = -(gradient[e] * y + (qy - along * y) * inverse)
        pull[e, 2] = -(gradient[e] * z + (qz - along * z) * inverse)


@_compile
def tangent_kernel(  # type: ignore[no-untyped-def]
    direction, unit, length, slopes, taps_slope, harmonics_slope
):
    """Derivatives of taps and harmonics as the vectors move along `direction` [E, 3]."""
    root2, root6 = math.sqrt(2.0), math.sqrt(6.0)
    for e in range(len(length)):
        x, y, z = float(unit[e, 0]), float(unit[e, 1]), float(unit[e, 2])
        wx, wy, wz = -direction[e, 0], -direction[e, 1], -direction[e, 2]
        along = x * wx + y * wy + z * wz
        for t in range(6):
            taps_slope[e, t] = slopes[e, t] * along
        inverse = 1.0 / length[e] if length[e] > 0.0 else 0.0
        dx, dy, dz = (wx - along * x) * inverse, (wy - along * y) * inverse, 0.0
        dz = (wz - along * z) * inverse
        h = harmonics_slope[e]
        h[0] = 0.0
        h[1], h[2], h[3] = root2 * dx, root2 * dy, root2 * dz
        h[4], h[5] = root2 * (dx * z + x * dz), root2 * (dx * y + x * dy)
        h[6] = 2.0 * (2.0 * y * dy - x * dx - z * dz) / root6
        h[7], h[8] = root2 * (dy * z + y * dz), root2 * (z * dz - x * dx)


@_compile
def group_kernel(keys, ptr, order):  # type: ignore[no-untyped-def]
    """Entries `order[ptr[k] : ptr[k + 1]]` have key k, in their old order."""
    ptr[:] = 0
    for e in range(len(keys)):
        ptr[keys[e] + 1] += 1
    for k in range(1, len(ptr)):
        ptr[k] += ptr[k - 1]
    for e in range(len(keys) - 1, -1, -1):
        key = keys[e] + 1
        ptr[key] -= 1
        order[ptr[key]] = e
    # every start has moved to the place of the one before
    for k in range(len(ptr) - 1):
        ptr[k] = ptr[k + 1]
    ptr[len(ptr) - 1] = len(keys)


def group(keys: Array, count: int) -> tuple[Array, Array]:
    """Starts [count + 1] and order [E], both int32, of entries grouped by key.

    >>> group(np.array([1, 0, 1]), 2)
    (array([0, 1, 3], dtype=int32), array([1, 0, 2], dtype=int32))
    """
    ptr, order = np.empty(count + 1, np.int32), np.empty(len(keys), np.int32)
    group_kernel(keys, ptr, order)
    return ptr, order
