"""Coefficients against e3nn, the group, and their form along the polar axis."""

import numpy as np
import pytest
import torch

from dreibein.o3 import random_rotations, wigner_matrix
from dreibein.o3.clebsch_gordan import axial_coupling, clebsch_gordan

e3nn = pytest.importorskip("e3nn.o3")
TRIANGLES = [
    (a, b, c) for a in range(5) for b in range(5) for c in range(abs(a - b), min(a + b, 5) + 1)
]


def test_equal_to_e3nn():
    for degrees in TRIANGLES:
        expected = e3nn.wigner_3j(*degrees, dtype=torch.float64).numpy()
        assert np.abs(clebsch_gordan(*degrees) - expected).max() < 1e-14, degrees


@pytest.mark.parametrize("degrees", [(1, 1, 1), (2, 1, 3), (3, 4, 2), (4, 4, 4)])
def test_invariant(degrees):
    turn = random_rotations(1, generator=torch.Generator().manual_seed(0))[0]
    first, second, third = (wigner_matrix(l, turn).numpy() for l in degrees)
    table = clebsch_gordan(*degrees)
    turned = np.einsum("ai,bj,ck,ijk->abc", first, second, third, table)
    assert np.abs(turned - table).max() < 1e-14


def test_polar_axis_keeps_the_order():
    for one, two, three in TRIANGLES:
        middle = clebsch_gordan(one, two, three)[:, two] * np.sqrt(2 * two + 1)
        k = axial_coupling(one, two, three)
        expected = np.zeros_like(middle)
        odd = (one + two + three) % 2
        for m in range(1 - len(k), len(k)):
            sign = -1 if odd and m < 0 else 1
            expected[one + m, three - m if odd else three + m] = sign * k[abs(m)]
        assert np.abs(middle - expected).max() < 1e-14, (one, two, three)


def test_no_triangle_is_refused():
    with pytest.raises(ValueError, match="do not couple"):
        clebsch_gordan(1, 1, 3)
