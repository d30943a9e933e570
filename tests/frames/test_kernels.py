"""Compiled sums against the plain ones, and their derivatives of both orders."""

import pytest
import torch
from torch import Tensor

from dreibein.frames.kernels import (
    _outer,
    carry,
    gather,
    reference_carry,
    reference_gather,
    reference_outer,
)
from dreibein.frames.layout import EdgePlan, Layout, layout_of, plan_edges, plan_rows
from dreibein.o3 import parse_reps

REPS = ("3x0e+2x1o+1x2e+2x1o", "2x0p+1x2n+3x0n+1x1p", "1x3o+1x4e+1x5o+1x6e", "1x3n+2x0e", "4x0e")


def case(
    text: str, dtype: torch.dtype = torch.float64, nodes: int = 5, edges: int = 17
) -> tuple[Tensor, Tensor, Tensor, EdgePlan, Layout]:
    """Matrices, node features, edge features, and a graph with an empty node and unsorted edges."""
    generator = torch.Generator().manual_seed(len(text) + edges)
    layout, rep = layout_of(parse_reps(text)), parse_reps(text)
    sender = torch.randint(nodes + 1, (edges,), generator=generator)
    receiver = torch.randint(nodes - 1, (edges,), generator=generator)
    plan = plan_edges(sender, receiver, nodes + 1, nodes)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return draw(nodes, layout.width), draw(nodes + 1, rep.dim), draw(edges, rep.dim), plan, layout


def outer(y: Tensor, x: Tensor, plan: EdgePlan, layout: Layout) -> Tensor:
    return _outer(y, x, plan.sender, plan.ptr, plan.order, layout.flat, layout.width)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("text", REPS)
def test_the_compiled_sums_equal_the_plain_ones(text, dtype):
    d, x, y, plan, layout = case(text, dtype)
    tolerance = {"atol": 200 * torch.finfo(dtype).eps, "rtol": 1e-5}
    expected = reference_carry(d, x, plan, layout.blocks)
    assert torch.allclose(carry(d, x, plan, layout), expected, **tolerance)
    expected = reference_gather(d, y, plan, layout.blocks)
    assert torch.allclose(gather(d, y, plan, layout), expected, **tolerance)
    expected = reference_outer(y, x, plan, layout.blocks, layout.width)
    assert torch.allclose(outer(y, x, plan, layout), expected, **tolerance)


@pytest.mark.parametrize("text", REPS)
def test_they_are_the_derivatives_of_one_form(text):
    """sum_e y . carry(D, x) = sum_j x . gather(D, y) = sum_i D . outer(y, x) on turned blocks."""
    d, x, y, plan, layout = case(text)
    whole = (y * carry(d, x, plan, layout)).sum()
    assert torch.allclose(whole, (x * gather(d, y, plan, layout)).sum())
    turned = [slice(start, start + mul * size) for mul, size, start, o in layout.blocks if o >= 0]
    part = sum((y * carry(d, x, plan, layout))[:, columns].sum() for columns in turned)
    assert torch.allclose(torch.as_tensor(part).double(), (d * outer(y, x, plan, layout)).sum())


@pytest.mark.parametrize("text", ["3x0e+2x1o+1x2e+2x1o", "2x0p+1x2n+3x0n+1x1p"])
def test_first_and_second_derivatives(text):
    d, x, y, plan, layout = case(text, nodes=3, edges=6)
    d, x, y = (t.requires_grad_() for t in (d, x, y))
    for function, arguments in (
        (lambda d, x: carry(d, x, plan, layout), (d, x)),
        (lambda d, y: gather(d, y, plan, layout), (d, y)),
        (lambda y, x: outer(y, x, plan, layout), (y, x)),
    ):
        assert torch.autograd.gradcheck(function, arguments)
        assert torch.autograd.gradgradcheck(function, arguments)


def test_third_derivatives_go_through_the_pair():
    """The derivative of (outer, gather) in one pass against that of the plain sums."""
    d, x, y, plan, layout = case("2x0e+2x1o+1x2e")
    results = []
    for function in (
        lambda d, x: carry(d, x, plan, layout),
        lambda d, x: reference_carry(d, x, plan, layout.blocks),
    ):
        leaves = [t.clone().requires_grad_() for t in (d, x, y)]
        value = (function(leaves[0], leaves[1]).sin() * leaves[2]).sum()
        for _ in range(3):
            gradients = torch.autograd.grad(value, leaves, create_graph=True)
            value = sum(g.cos().sum() for g in gradients)
        results.append(gradients)
    for ours, plain in zip(*results):
        assert torch.allclose(ours, plain, atol=1e-9)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_work_and_change_nothing(threads):
    before = torch.get_num_threads()
    d, x, y, plan, layout = case("32x0e+16x1o+16x2e", nodes=60, edges=3000)
    expected = reference_carry(d, x, plan, layout.blocks)
    try:
        torch.set_num_threads(threads)
        assert torch.allclose(carry(d, x, plan, layout), expected, atol=1e-12)
        leaves = d.requires_grad_(), x.requires_grad_()
        found = torch.autograd.grad((carry(*leaves, plan, layout) * y).sum(), leaves)
    finally:
        torch.set_num_threads(before)
    assert torch.allclose(found[1], reference_gather(d, y, plan, layout.blocks), atol=1e-11)
    expected = reference_outer(y, x, plan, layout.blocks, layout.width)
    assert torch.allclose(found[0], expected, atol=1e-10)


def test_empty_graphs_and_rows():
    layout = layout_of(parse_reps("2x0e+1x1o"))
    d, x = torch.ones(3, layout.width), torch.ones(4, 5)
    none = torch.zeros(0, dtype=torch.int64)
    plan = plan_edges(none, none, 4, 3)
    assert carry(d, x, plan, layout).shape == (0, 5)
    assert torch.equal(gather(d, x[:0], plan, layout), torch.zeros(4, 5))
    assert torch.equal(outer(x[:0], x, plan, layout), torch.zeros(3, 9))
    rows = plan_rows(4)
    assert torch.equal(rows.sender, torch.arange(4))


def test_operators_are_registered_in_full():
    d, x, y, plan, layout = case("2x0e+1x1o")
    for operator, arguments in (
        (torch.ops.dreibein.transport_carry, (d, x)),
        (torch.ops.dreibein.transport_gather, (d, y)),
    ):
        rest = (plan.sender, plan.ptr, plan.order, layout.flat)
        if operator is torch.ops.dreibein.transport_gather:
            rest = (*rest, plan.num_senders)
        leaves = [t.clone().requires_grad_() for t in arguments]
        torch.library.opcheck(
            operator.default, (*leaves, *rest), test_utils=("test_schema", "test_faketensor")
        )
