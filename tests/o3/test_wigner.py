"""Wigner matrices against e3nn, at the points where angles fail, and as a group law."""

import math
from collections.abc import Callable

import e3nn.o3
import pytest
import torch
from torch import Tensor

from dreibein.o3 import (
    cofactor,
    determinant,
    from_axis_angle,
    random_rotations,
    wigner_matrix,
)
from dreibein.o3.coupling import generators

ANGLES = (0.0, 1e-8, 1e-6, 1e-4, 0.3, math.pi - 1e-6, math.pi)
Wigner = Callable[[int, Tensor], Tensor]


@pytest.mark.parametrize("l", range(9))
def test_two_thousand_random_rotations_agree_with_e3nn(l, generator):
    rotations = random_rotations(2000, generator=generator)
    expected = e3nn.o3.Irreps([(1, (l, 1))]).D_from_matrix(rotations)
    assert (wigner_matrix(l, rotations) - expected).abs().max() < 1e-13


@pytest.mark.parametrize("p", [1, -1])
@pytest.mark.parametrize("l", [0, 1, 2, 3, 5])
def test_improper_matrices_agree_with_e3nn(l, p, generator):
    matrices = random_rotations(50, generator=generator, improper=True)
    expected = e3nn.o3.Irreps([(1, (l, p))]).D_from_matrix(matrices)
    found = wigner_matrix(l, matrices, pseudo=p != (-1) ** l)
    assert (found - expected).abs().max() < 1e-13


@pytest.mark.parametrize("l", range(9))
@pytest.mark.parametrize("axis", range(3))
def test_rotations_about_the_axes_match_the_exponential(l, axis):
    """exp(angle J) is exact to rounding, and knows no gimbal lock."""
    for angle in ANGLES:
        turn = from_axis_angle(torch.eye(3)[axis], torch.tensor(angle))
        exact = torch.linalg.matrix_exp(angle * torch.tensor(generators(l)[axis].copy()))
        assert (wigner_matrix(l, turn) - exact).abs().max() < 1e-12
    assert (wigner_matrix(l, torch.eye(3)) - torch.eye(2 * l + 1)).abs().max() < 1e-14


def check_homomorphism(wigner: Wigner, generator: torch.Generator) -> None:
    """D(R1 R2) = D(R1) D(R2), D(R) orthogonal, D(R^T) = D(R)^T."""
    first, second = random_rotations(20, generator=generator, improper=True).chunk(2)
    for l in range(1, 9):
        a, b = wigner(l, first), wigner(l, second)
        assert torch.allclose(wigner(l, first @ second), a @ b, atol=1e-13)
        assert torch.allclose(a @ a.mT, torch.eye(2 * l + 1), atol=1e-13)
        assert torch.allclose(wigner(l, first.mT), a.mT, atol=1e-13)


def check_two_sided(wigner: Wigner, generator: torch.Generator) -> None:
    """P(g M h) = P(g) P(M) P(h) for orthogonal g, h and any M, of any rank."""
    left, right = random_rotations(16, generator=generator, improper=True).chunk(2)
    matrix = torch.randn(8, 3, 3, generator=generator)
    matrix[0], matrix[1, 1:], matrix[2, 2] = 0, 0, 0
    for l in range(7):
        found = wigner(l, left @ matrix @ right)
        expected = wigner(l, left) @ wigner(l, matrix) @ wigner(l, right)
        assert torch.allclose(found, expected, atol=1e-11 * expected.abs().max())


def test_wigner_matrices_are_a_representation(generator):
    check_homomorphism(wigner_matrix, generator)
    check_homomorphism(lambda l, m: wigner_matrix(l, m, pseudo=True), generator)


def test_the_extension_is_equivariant_on_both_sides(generator):
    check_two_sided(wigner_matrix, generator)
    check_two_sided(lambda l, m: wigner_matrix(l, m, pseudo=True), generator)


def through_angles(l: int, matrix: Tensor) -> Tensor:
    """The way by Euler angles, which is right only for proper matrices."""
    return e3nn.o3.Irreps([(1, (l, 1))]).D_from_matrix(
        determinant(matrix)[..., None, None] * matrix
    )


MUTANTS: dict[str, Wigner] = {
    "transposed": lambda l, m: wigner_matrix(l, m).mT,
    "one sign wrong": lambda l, m: wigner_matrix(l, m) * (1 - 2 * torch.eye(2 * l + 1)[0]),
    "shrunk": lambda l, m: wigner_matrix(l, m) * 0.999,
    "degree forgets M": lambda l, m: wigner_matrix(l, m @ m),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_group_law_catches(name, generator):
    with pytest.raises(AssertionError):
        check_homomorphism(MUTANTS[name], generator)


TWO_SIDED_MUTANTS: dict[str, Wigner] = {
    "nearest rotation by angles": through_angles,
    "ivanic": lambda l, m: (
        wigner_matrix(l, m) + (m @ m.mT - torch.eye(3)).sum((-1, -2))[:, None, None]
    ),
}


@pytest.mark.parametrize("name", TWO_SIDED_MUTANTS)
def test_the_two_sided_law_catches(name, generator):
    with pytest.raises((AssertionError, RuntimeError)):
        check_two_sided(TWO_SIDED_MUTANTS[name], generator)


POINTS = {
    "identity": torch.eye(3, dtype=torch.float64),
    "about y": from_axis_angle(
        torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64)
    ),
    "zero": torch.zeros(3, 3, dtype=torch.float64),
    "rank one": torch.ones(3, 3, dtype=torch.float64) / 3,
    "any": torch.linspace(-1, 1, 9, dtype=torch.float64).reshape(3, 3),
}


@pytest.mark.parametrize("pseudo", [False, True])
@pytest.mark.parametrize("point", POINTS)
def test_first_and_second_derivatives(point, pseudo):
    matrix = POINTS[point].clone().requires_grad_()
    for l in (1, 2, 4):

        def function(m: Tensor, l: int = l) -> Tensor:
            return wigner_matrix(l, m, pseudo=pseudo)[: l + 1]

        assert torch.autograd.gradcheck(function, matrix)
        if l < 4:
            assert torch.autograd.gradgradcheck(function, matrix)


@pytest.mark.parametrize("l", [1, 2, 3, 6])
def test_derivative_along_the_group_is_the_generator(l, generator):
    """dD(exp(w) R)/dw_i at 0 = J_i D(R), for all R, also where |R_yy| > 0.95."""
    rotations = random_rotations(200, generator=generator)
    rotations = rotations[rotations[:, 1, 1].abs().argsort(descending=True)][:30]
    assert rotations[0, 1, 1].abs() > 0.95
    turn = torch.tensor(generators(1).copy())
    for i in range(3):
        _, found = torch.func.jvp(
            lambda m: wigner_matrix(l, m), (rotations,), (turn[i] @ rotations,)
        )
        expected = torch.tensor(generators(l)[i].copy()) @ wigner_matrix(l, rotations)
        assert torch.allclose(found, expected, atol=1e-12)


def test_cofactor_carries_cross_products(generator):
    matrix = torch.randn(5, 3, 3, generator=generator)
    a, b = torch.randn(2, 5, 3, generator=generator)
    left = torch.linalg.cross((matrix @ a[..., None])[..., 0], (matrix @ b[..., None])[..., 0])
    right = (cofactor(matrix) @ torch.linalg.cross(a, b)[..., None])[..., 0]
    assert torch.allclose(left, right, atol=1e-12)
    assert torch.allclose(determinant(matrix), torch.linalg.det(matrix), atol=1e-12)


def test_float32_stays_within_its_rounding(generator):
    rotations = random_rotations(500, generator=generator)
    for l in range(1, 9):
        narrow = wigner_matrix(l, rotations.float())
        assert narrow.dtype == torch.float32
        assert (narrow - wigner_matrix(l, rotations)).abs().max() < 1e-6 * l
