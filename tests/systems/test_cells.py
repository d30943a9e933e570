"""Cells: against ASE and numpy, with gradients and refusals."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.geometry import complete_cell as ase_complete_cell
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from dreibein.systems.cells import (
    complete_cell,
    from_voigt,
    heights,
    strain,
    to_voigt,
    volume,
    wrap,
)

seeds = st.integers(0, 10_000)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def flags(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


@given(seeds)
def test_volume_is_the_absolute_determinant(seed: int) -> None:
    cells = randn(2, 3, 3, 3, seed=seed)
    torch.testing.assert_close(volume(cells), torch.linalg.det(cells).abs())


def test_no_cell_has_no_volume() -> None:
    assert volume(torch.zeros(1, 3, 3)).tolist() == [0.0]


@given(seeds)
def test_heights_are_volume_over_area(seed: int) -> None:
    cell = randn(3, 3, seed=seed)
    a, b, c = (row.numpy() for row in cell)
    areas = [np.linalg.norm(np.cross(u, v)) for u, v in ((b, c), (c, a), (a, b))]
    expected = abs(np.linalg.det(cell.numpy())) / np.array(areas)
    np.testing.assert_allclose(heights(cell).numpy(), expected, rtol=1e-9)


def test_voigt_is_ases_order() -> None:
    matrix = randn(4, 3, 3)
    matrix = matrix + matrix.mT
    expected = np.stack([full_3x3_to_voigt_6_stress(m) for m in matrix.numpy()])
    np.testing.assert_array_equal(to_voigt(matrix).numpy(), expected)
    back = np.stack([voigt_6_to_full_3x3_stress(v) for v in expected])
    np.testing.assert_array_equal(from_voigt(torch.from_numpy(expected)).numpy(), back)
    assert torch.equal(from_voigt(to_voigt(matrix)), matrix)


def test_strain_moves_atoms_with_the_cell() -> None:
    pos, cell, eps = randn(5, 3), randn(2, 3, 3, seed=1), 0.1 * randn(2, 3, 3, seed=2)
    batch = torch.tensor([0, 0, 1, 1, 1])
    moved, box = strain(pos, cell, eps, batch)
    for b in range(2):
        deform = torch.eye(3) + 0.5 * (eps[b] + eps[b].T)
        torch.testing.assert_close(moved[batch == b], pos[batch == b] @ deform)
        torch.testing.assert_close(box[b], cell[b] @ deform)
    fractional = torch.linalg.solve(cell[1].T, pos[2:].T)
    torch.testing.assert_close(torch.linalg.solve(box[1].T, moved[2:].T), fractional)


def test_strain_of_a_rotation_does_nothing() -> None:
    pos, cell = randn(3, 3), randn(1, 3, 3)
    turn = torch.tensor([[[0, 1, 2], [-1, 0, 3], [-2, -3, 0]]], dtype=torch.float64)
    moved, box = strain(pos, cell, turn, torch.zeros(3, dtype=torch.long))
    assert torch.equal(moved, pos)
    assert torch.equal(box, cell)


def test_gradients() -> None:
    cell = (randn(2, 3, 3) + 3 * torch.eye(3)).requires_grad_()
    eps = (0.1 * randn(2, 3, 3, seed=1)).requires_grad_()
    pos = randn(4, 3, seed=2).requires_grad_()
    batch = torch.tensor([0, 1, 1, 0])
    assert torch.autograd.gradcheck(volume, cell)
    assert torch.autograd.gradcheck(heights, cell)
    assert torch.autograd.gradcheck(lambda p, c, e: strain(p, c, e, batch), (pos, cell, eps))
    everywhere = flags(1, 1, 1)
    assert torch.autograd.gradcheck(lambda p: wrap(p, cell[0].detach(), everywhere), pos)
    (stress,) = torch.autograd.grad(volume(strain(pos, cell, eps, batch)[1]).sum(), eps)
    torch.testing.assert_close(stress, stress.mT)


@given(seeds, st.tuples(*[st.booleans()] * 3), st.tuples(*[st.booleans()] * 3))
def test_complete_cell_keeps_what_is_there(seed: int, pbc: tuple, missing: tuple) -> None:
    cell = randn(3, 3, seed=seed)
    assume(volume(cell) > 0.05)
    for k in range(3):
        if missing[k] and not pbc[k]:
            cell[k] = 0.0
    full = complete_cell(cell, flags(*pbc))
    assert volume(full) > 1e-3
    normals = []
    for k in range(3):
        if cell[k].any():
            assert torch.equal(full[k], cell[k])
        else:
            normals.append(k)
            assert float(full[k].norm()) == pytest.approx(1.0)
    for k in normals:
        others = [m for m in range(3) if m != k]
        torch.testing.assert_close(full[others] @ full[k], torch.zeros(2, dtype=full.dtype))
    expected = ase_complete_cell(cell.numpy())
    assert float(volume(full)) == pytest.approx(abs(np.linalg.det(expected)), rel=1e-9)


def test_complete_cell_of_nothing_is_a_unit_cube_and_keeps_its_shape() -> None:
    full = complete_cell(torch.zeros(1, 3, 3, dtype=torch.float64), flags(0, 0, 0)[None])
    assert torch.equal(full, torch.eye(3, dtype=torch.float64)[None])


def test_a_dependent_vector_without_period_is_replaced() -> None:
    cell = torch.tensor([[2.0, 0, 0], [4.0, 0, 0], [0, 0, 3.0]], dtype=torch.float64)
    full = complete_cell(cell, flags(1, 0, 1))
    assert full.tolist() == [[2, 0, 0], [0, 1, 0], [0, 0, 3]]


@pytest.mark.parametrize(
    ("cell", "pbc", "message"),
    [
        ([[2, 0, 0], [0, 2, 0], [0, 0, 0]], (1, 1, 1), "periodic along c but .* no such vector"),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], (1, 0, 0), "periodic along a but .* no such vector"),
        ([[2, 0, 0], [4, 0, 0], [0, 0, 3]], (1, 1, 1), "singular: vector b lies in the span"),
        ([[2, 0, 0], [0, 1, 0], [2, 3, 0]], (1, 1, 1), "singular: vector c lies in the span"),
        ([[2, 0, 0], [0, float("nan"), 0], [0, 0, 3]], (1, 1, 1), "NaN or infinity"),
    ],
)
def test_bad_cells_are_refused_in_one_sentence(cell: list, pbc: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        complete_cell(torch.tensor(cell, dtype=torch.float64), flags(*pbc))
    assert "\n" not in str(refusal.value)


@given(seeds, st.tuples(*[st.booleans()] * 3))
def test_wrap_agrees_with_ase(seed: int, pbc: tuple) -> None:
    cell, pos = randn(3, 3, seed=seed), 10 * randn(6, 3, seed=seed + 1)
    assume(volume(cell) > 0.05)
    inside = wrap(pos, cell, flags(*pbc))
    atoms = Atoms("H6", positions=pos.numpy(), cell=cell.numpy(), pbc=pbc)
    atoms.wrap(eps=0.0)
    np.testing.assert_allclose(inside.numpy(), atoms.positions, atol=1e-9)
    periods = (inside - pos) @ torch.linalg.inv(cell)
    torch.testing.assert_close(periods, periods.round(), atol=1e-7, rtol=0)


def test_wrap_never_returns_the_far_face() -> None:
    pos = torch.tensor([[-1e-17, 0.0, 3.0], [-1e-30, 6.0, -3.0]], dtype=torch.float64)
    cell = 3 * torch.eye(3, dtype=torch.float64)
    fractional = wrap(pos, cell, flags(1, 1, 1)) / 3
    assert bool((fractional < 1).all())
    assert bool((fractional >= -1e-15).all())
