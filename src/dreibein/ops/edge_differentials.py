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

from dreibein.ops.splines import BASIS, TAPS, RadialGrid

Array = np.ndarray[Any, Any]
_SPLINES = np.array(BASIS) / 120.0
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


def edge_geometry(vectors: Array, grid: RadialGrid, envelope: str) -> Geometry:
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
    _geometry_kernel(vectors, *found, _SPLINES, grid.cutoff, grid.knots, envelope == "cosine")
    return found


@_compile
def _envelope(r, cutoff, cosine):  # type: ignore[no-untyped-def]
    t = r / cutoff
    if t >= 1.0:
        return 0.0, 0.0
    if cosine:
        phase = math.pi * t
        return 0.5 * (math.cos(phase) + 1.0), -0.5 * math.pi / cutoff * math.sin(phase)
    value = 1.0 + t * t * t * (t * (15.0 - 6.0 * t) - 10.0)
    return value, -30.0 * t * t * (1.0 - t) * (1.0 - t) / cutoff


@_compile
def _geometry_kernel(  # type: ignore[no-untyped-def]
    vectors, length, unit, base, taps, slopes, harmonics, splines, cutoff, knots, cosine
):
    root2, root3, root6 = math.sqrt(2.0), math.sqrt(3.0), math.sqrt(6.0)
    spacing = cutoff / knots
    for e in range(len(vectors)):
        vx, vy, vz = float(vectors[e, 0]), float(vectors[e, 1]), float(vectors[e, 2])
        r = math.sqrt(vx * vx + vy * vy + vz * vz)
        scale = -1.0 / r if r > 0.0 else 0.0
        x, y, z = vx * scale, vy * scale, vz * scale
        length[e], unit[e, 0], unit[e, 1], unit[e, 2] = r, x, y, z
        place = r / spacing
        first = min(int(place), knots - 1)
        base[e] = first
        p = place - first
        phi, tilt = _envelope(r, cutoff, cosine)
        for t in range(6):
            value, slope = splines[t, 5], 0.0
            for k in range(4, -1, -1):
                slope = slope * p + value
                value = value * p + splines[t, k]
            taps[e, t] = phi * value
            slopes[e, t] = tilt * value + phi * slope / spacing
        harmonics[e, 0] = root3
        harmonics[e, 1], harmonics[e, 2], harmonics[e, 3] = root2 * x, root2 * y, root2 * z
        harmonics[e, 4], harmonics[e, 5] = root2 * x * z, root2 * x * y
        harmonics[e, 6] = (2.0 * y * y - x * x - z * z) / root6
        harmonics[e, 7], harmonics[e, 8] = root2 * y * z, (z * z - x * x) / root2


@_compile
def pull_kernel(gradient, to_harmonics, unit, length, pull):  # type: ignore[no-untyped-def]
    """dE/dv of each edge from dE/dr and dE/d(harmonics)."""
    root2, root6 = math.sqrt(2.0), math.sqrt(6.0)
    for e in range(len(gradient)):
        x, y, z = float(unit[e, 0]), float(unit[e, 1]), float(unit[e, 2])
        t = to_harmonics[e]
        qx = root2 * (t[1] + z * t[4] + y * t[5] - x * t[8]) - 2.0 * x * t[6] / root6
        qy = root2 * (t[2] + x * t[5] + z * t[7]) + 4.0 * y * t[6] / root6
        qz = root2 * (t[3] + x * t[4] + y * t[7] + z * t[8]) - 2.0 * z * t[6] / root6
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
