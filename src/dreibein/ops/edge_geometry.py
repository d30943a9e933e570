"""What one edge's distance and direction give: spline taps, nine numbers, and the way back.

Functions of one edge, for compiled loops over edges.
"""

import math

import numba
import numpy as np

from dreibein.ops.splines import BASIS, DECAY, TAPS

_compile = numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "nsz"})

_ROOT2, _ROOT3, _ROOT6 = math.sqrt(2.0), math.sqrt(3.0), math.sqrt(6.0)
_WEIGHTS = np.array(BASIS) / 120.0  # [tap, power]
ENVELOPES = ("smooth", "cosine")
"""Envelopes that are known, by their number."""


@_compile
def envelope(t, kind):  # type: ignore[no-untyped-def]
    """phi(t) and dphi/dt for t = r / cutoff below 1."""
    if kind == 1:
        return 0.5 * (np.cos(np.pi * t) + 1.0), -0.5 * np.pi * np.sin(np.pi * t)
    square = t * t
    value = 1.0 + square * t * (t * (15.0 - 6.0 * t) - 10.0)
    return value, -30.0 * square * (1.0 - t) * (1.0 - t)


@_compile
def coordinate(t, knots, stretch):  # type: ignore[no-untyped-def]
    """Place on the grid of t = r / cutoff, in knots, and its derivative; see `RadialGrid`."""
    if stretch == 0.0:
        return knots * t, 1.0 * knots
    decay = np.exp(-DECAY * t)
    scale = knots / (1.0 + stretch * (1.0 - np.exp(-DECAY)) / DECAY)
    return scale * (t + stretch * (1.0 - decay) / DECAY), scale * (1.0 + stretch * decay)


@_compile
def put_taps(taps, slopes, u, phi, tilt, scale):  # type: ignore[no-untyped-def]
    """Spline weights at u of an interval times the envelope, and their slopes."""
    for t in range(TAPS):
        value, slope = _WEIGHTS[t, 5], 5.0 * _WEIGHTS[t, 5]
        for power in range(4, 0, -1):
            value = value * u + _WEIGHTS[t, power]
            slope = slope * u + power * _WEIGHTS[t, power]
        value = value * u + _WEIGHTS[t, 0]
        taps[t] = phi * value
        slopes[t] = phi * slope * scale + tilt * value


@_compile
def put_harmonics(h, x, y, z):  # type: ignore[no-untyped-def]
    """Nine numbers of a unit vector u: 1, [u]x and u u^T - 1/3 in the orthonormal basis."""
    h[0] = _ROOT3
    h[1], h[2], h[3] = _ROOT2 * x, _ROOT2 * y, _ROOT2 * z
    h[4], h[5], h[7] = _ROOT2 * x * z, _ROOT2 * x * y, _ROOT2 * y * z
    h[6] = (2.0 * y * y - x * x - z * z) * (1.0 / _ROOT6)
    h[8] = (z * z - x * x) * (1.0 / _ROOT2)


@_compile
def harmonics_back(t, x, y, z):  # type: ignore[no-untyped-def]
    """Gradient with respect to a vector u from that with respect to its nine numbers [9]."""
    a1, a2, a3 = np.float64(t[1]), np.float64(t[2]), np.float64(t[3])
    xz, xy, yz, zz = np.float64(t[4]), np.float64(t[5]), np.float64(t[7]), np.float64(t[8])
    yy = np.float64(t[6]) * (2.0 / _ROOT6)
    gx = _ROOT2 * (a1 + xz * z + xy * y - zz * x) - yy * x
    gy = _ROOT2 * (a2 + xy * x + yz * z) + 2.0 * yy * y
    gz = _ROOT2 * (a3 + xz * x + yz * y + zz * z) - yy * z
    return gx, gy, gz
