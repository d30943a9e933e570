"""Clebsch-Gordan coefficients of real harmonics, in e3nn's basis, norm and signs.

    C[l1, l2, l3][i, j, k],    sum_ijk C^2 = 1,    z_k = sum_ij C_ijk x_i y_j                    (1)

turns as degree l3 when x and y turn as l1 and l2. They are square roots of rationals: Racah's sum
in integers, then the change to real harmonics. Along the polar axis (y, where only the order 0 of
a harmonic differs from zero) (1) keeps the order m apart from its sign,

    l1 + l2 + l3 even:  z_m = k_|m| x_m,                                                        (2)
    l1 + l2 + l3 odd:   z_-m = k_|m| x_m,  z_m = -k_|m| x_-m  for m > 0,  z_0 = 0,

so that the sum over i, j, k is a sum over one index (arXiv 2302.03655).
"""

from functools import lru_cache
from math import factorial, sqrt

import numpy as np

from .coupling import FloatArray

MIDDLE_NORM = "component"
"""Norm of the harmonic in (2): |Y_l|^2 = 2l + 1, as in `solid_harmonics`."""


@lru_cache(maxsize=512)
def clebsch_gordan(l1: int, l2: int, l3: int) -> FloatArray:
    """C [2 l1 + 1, 2 l2 + 1, 2 l3 + 1] of equation (1); l1, l2 and l3 form a triangle.

    >>> clebsch_gordan(1, 1, 0)[:, :, 0].round(4)
    array([[0.5774, 0. , 0. ], [0. , 0.5774, 0. ], [0. , 0. , 0.5774]])
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"degrees {l1} and {l2} do not couple to {l3}")
    standard = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            standard[l1 + m1, l2 + m2, l3 + m1 + m2] = _racah(l1, m1, l2, m2, l3)
    first, second, third = _real_basis(l1), _real_basis(l2), _real_basis(l3)
    real = np.einsum("ai,bj,ck,abc->ijk", first, second, third.conj(), standard)
    # a real number times a phase that the basis was chosen to remove
    table = np.ascontiguousarray(real.real) / sqrt(2 * l3 + 1)
    table.flags.writeable = False
    return table


@lru_cache(maxsize=512)
def axial_coupling(l1: int, l2: int, l3: int) -> FloatArray:
    """Factors k [min(l1, l3) + 1] of equation (2), for the harmonic of degree l2 of the polar axis.

    >>> axial_coupling(1, 0, 1).round(4), axial_coupling(1, 1, 1).round(4)
    (array([0.5774, 0.5774]), array([ 0. , -0.7071]))
    """
    middle = clebsch_gordan(l1, l2, l3)[:, l2, :] * sqrt(2 * l2 + 1)
    sign = 1 if (l1 + l2 + l3) % 2 == 0 else -1
    return np.array([middle[l1 + m, l3 + sign * m] for m in range(min(l1, l3) + 1)])


def _racah(l1: int, m1: int, l2: int, m2: int, l3: int) -> float:
    """<l1 m1 l2 m2 | l3 m1+m2>, Condon and Shortley's signs."""
    m3 = m1 + m2
    f = factorial
    first = max(0, l2 - l3 - m1, l1 - l3 + m2)
    last = min(l1 + l2 - l3, l1 - m1, l2 + m2)
    # one common denominator keeps the alternating sum in integers
    common = f(l1 + l2 - l3) * f(l1 - m1) * f(l2 + m2) * f(l3 + l2) * f(l3 + l1)
    total = sum(
        (-1) ** k
        * common
        // (f(k) * f(l1 + l2 - l3 - k) * f(l1 - m1 - k) * f(l2 + m2 - k))
        // (f(l3 - l2 + m1 + k) * f(l3 - l1 - m2 + k))
        for k in range(first, last + 1)
    )
    squares = (2 * l3 + 1) * f(l3 + l1 - l2) * f(l3 - l1 + l2) * f(l1 + l2 - l3)
    squares *= f(l3 + m3) * f(l3 - m3) * f(l1 - m1) * f(l1 + m1) * f(l2 - m2) * f(l2 + m2)
    return total / common * sqrt(squares / f(l1 + l2 + l3 + 1))


def _real_basis(l: int) -> np.ndarray:
    """Complex harmonics (rows) in real ones (columns), times (-i)^l: (1) is then real."""
    q = np.zeros((2 * l + 1, 2 * l + 1), dtype=np.complex128)
    q[l, l] = 1.0
    for m in range(1, l + 1):
        sign = (-1) ** m
        q[l - m, l + m], q[l - m, l - m] = 1 / sqrt(2), -1j / sqrt(2)
        q[l + m, l + m], q[l + m, l - m] = sign / sqrt(2), 1j * sign / sqrt(2)
    return (-1j) ** l * q
