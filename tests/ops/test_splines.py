"""Radial tables: exact on quintics, convergence of the right order, derivatives of every order."""

import pytest
import torch

from dreibein.ops.splines import RadialGrid, interpolate


def curve(r: torch.Tensor) -> torch.Tensor:
    return torch.stack((torch.exp(-0.5 * (r - 2.0) ** 2), torch.sin(3.0 * r)), dim=-1)


def errors(knots: int) -> tuple[float, float]:
    grid = RadialGrid(5.0, knots)
    control = grid.coefficients(curve(grid.nodes))
    r = torch.linspace(0.0, 5.0, 997, dtype=torch.float64, requires_grad=True)
    found = interpolate(control, *grid.taps(r))
    slope = torch.autograd.grad(found[:, 1].sum(), r)[0]
    value_error = (found - curve(r)).abs().max().item()
    return value_error, (slope - 3.0 * torch.cos(3.0 * r)).abs().max().item()


def test_a_quintic_is_reproduced_with_its_derivatives() -> None:
    grid = RadialGrid(4.0, 8)
    control = grid.coefficients(grid.nodes.pow(5))
    r = torch.rand(50, dtype=torch.float64) * 4.0
    r[0], r[1] = 0.0, 4.0
    r.requires_grad_()
    value = interpolate(control, *grid.taps(r))
    for order, factor in enumerate((1.0, 5.0, 20.0, 60.0, 120.0)):
        exact = factor * r.detach() ** (5 - order)
        torch.testing.assert_close(value.detach(), exact, rtol=0, atol=1e-8)
        (value,) = torch.autograd.grad(value.sum(), r, create_graph=True)


def test_the_error_falls_with_the_sixth_power_of_the_spacing() -> None:
    coarse, fine = errors(32), errors(64)
    assert coarse[0] / fine[0] > 40.0
    assert coarse[1] / fine[1] > 20.0
    assert errors(256)[1] < 1e-8


def test_it_passes_through_the_nodes() -> None:
    grid = RadialGrid(5.0, 20)
    values = torch.randn(grid.rows, 2, 3, dtype=torch.float64)
    inner = grid.nodes[2:-2]
    found = interpolate(grid.coefficients(values), *grid.taps(inner))
    torch.testing.assert_close(found, values[2:-2], rtol=0, atol=1e-12)


def test_derivatives_up_to_the_fourth_are_continuous_at_a_knot() -> None:
    grid = RadialGrid(5.0, 10)
    control = grid.coefficients(torch.randn(grid.rows, dtype=torch.float64))
    sides = torch.tensor([2.0 - 1e-9, 2.0 + 1e-9], dtype=torch.float64, requires_grad=True)
    value = interpolate(control, *grid.taps(sides))
    for _ in range(4):
        (value,) = torch.autograd.grad(value.sum(), sides, create_graph=True)
        assert abs(float((value[0] - value[1]).detach())) < 1e-5


def test_gradients_of_first_and_second_order() -> None:
    grid = RadialGrid(5.0, 6)
    values = torch.randn(grid.rows, 2, dtype=torch.float64, requires_grad=True)
    r = (torch.rand(5, dtype=torch.float64) * 5.0).requires_grad_()

    def through(v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return interpolate(grid.coefficients(v), *grid.taps(x))

    assert torch.autograd.gradcheck(through, (values, r))
    assert torch.autograd.gradgradcheck(through, (values, r))


@pytest.mark.parametrize(("cutoff", "knots", "said"), [(5.0, 3, "4 knots"), (0.0, 8, "cutoff")])
def test_impossible_grids_are_refused(cutoff: float, knots: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RadialGrid(cutoff, knots)


def test_a_stretched_grid_is_finer_near_the_origin_and_as_exact() -> None:
    grid = RadialGrid(5.0, 96, stretch=10.0)
    gaps = grid.nodes.diff()
    assert 9.0 < float(gaps[-1] / gaps[0]) < 13.0
    torch.testing.assert_close(grid.nodes[[2, -3]], torch.tensor([0.0, 5.0]).double())
    control = grid.coefficients(curve(grid.nodes))
    r = torch.linspace(0.0, 5.0, 499, dtype=torch.float64, requires_grad=True)
    found = interpolate(control, *grid.taps(r))
    (slope,) = torch.autograd.grad(found[:, 1].sum(), r)
    torch.testing.assert_close(found.detach(), curve(r).detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(slope, 3.0 * torch.cos(3.0 * r.detach()), rtol=0, atol=1e-3)


def test_control_points_need_no_subnormal_numbers() -> None:
    """Over which processors take a hundred times as long."""
    grid = RadialGrid(5.0, 128)
    single = grid.coefficients(torch.eye(grid.rows))
    assert not ((single != 0.0) & (single.abs() < torch.finfo(torch.float32).tiny)).any()
    assert (single == 0.0).any()
