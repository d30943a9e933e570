"""Layer normalisation n = gamma x + beta, x = (s - mean) rho, compiled, with second derivatives.

Rows [N, width]. Reductions may be reordered, so that they are vector instructions.
"""

from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, Any]
_compile = numba.njit(
    nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"}
)


@_compile
def norm_kernel(s, gamma, beta, eps, n, x, rho):  # type: ignore[no-untyped-def]
    """n, x and rho of rows s."""
    rows, width = s.shape
    for i in range(rows):
        row = s[i]
        mean = row.dtype.type(0)
        for f in range(width):
            mean += row[f]
        mean /= width
        variance = row.dtype.type(0)
        for f in range(width):
            variance += (row[f] - mean) * (row[f] - mean)
        scale = 1.0 / np.sqrt(variance / width + eps)
        rho[i] = scale
        scale = rho[i]
        for f in range(width):
            x[i, f] = (row[f] - mean) * scale
        for f in range(width):
            n[i, f] = gamma[f] * x[i, f] + beta[f]


@_compile
def norm_back_kernel(x, rho, gamma, to_n, to_s):  # type: ignore[no-untyped-def]
    """Gradient with respect to s from that with respect to n."""
    rows, width = x.shape
    for i in range(rows):
        mean, along = x.dtype.type(0), x.dtype.type(0)
        for f in range(width):
            g = to_n[i, f] * gamma[f]
            mean += g
            along += g * x[i, f]
        mean /= width
        along /= width
        for f in range(width):
            to_s[i, f] = rho[i] * (to_n[i, f] * gamma[f] - mean - x[i, f] * along)


@_compile
def norm_slope_kernel(x, rho, gamma, s_slope, n_slope, x_slope, rho_slope):  # type: ignore[no-untyped-def]
    """Derivatives of n, x and rho as s moves along s_slope."""
    rows, width = x.shape
    for i in range(rows):
        mean, along = x.dtype.type(0), x.dtype.type(0)
        for f in range(width):
            mean += s_slope[i, f]
            along += s_slope[i, f] * x[i, f]
        mean /= width
        along /= width
        rho_slope[i] = -rho[i] * rho[i] * along
        for f in range(width):
            x_slope[i, f] = rho[i] * (s_slope[i, f] - mean - x[i, f] * along)
        for f in range(width):
            n_slope[i, f] = gamma[f] * x_slope[i, f]


@_compile
def norm_second_kernel(  # type: ignore[no-untyped-def]
    x, x_slope, rho, rho_slope, gamma, to_n, to_n_slope, to_s_slope, to_gamma, to_beta
):
    """Derivative of `norm_back`, and of the gradients of gamma and beta, which are added up."""
    rows, width = x.shape
    zero = x.dtype.type(0)
    for i in range(rows):
        mean, along, mean_slope, along_slope = zero, zero, zero, zero
        for f in range(width):
            g, g_slope = to_n[i, f] * gamma[f], to_n_slope[i, f] * gamma[f]
            mean += g
            along += g * x[i, f]
            mean_slope += g_slope
            along_slope += g_slope * x[i, f] + g * x_slope[i, f]
        mean, along = mean / width, along / width
        mean_slope, along_slope = mean_slope / width, along_slope / width
        for f in range(width):
            g, g_slope = to_n[i, f] * gamma[f], to_n_slope[i, f] * gamma[f]
            to_s_slope[i, f] = rho_slope[i] * (g - mean - x[i, f] * along) + rho[i] * (
                g_slope - mean_slope - x_slope[i, f] * along - x[i, f] * along_slope
            )
        for f in range(width):
            to_gamma[f] += to_n_slope[i, f] * x[i, f] + to_n[i, f] * x_slope[i, f]
            to_beta[f] += to_n_slope[i, f]
