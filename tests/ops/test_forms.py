"""Fused operators are their references, and closed under differentiation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dreibein.ops.messages import EMBEDDING, MESSAGE, edge_table, embedding, message
from dreibein.ops.products import ANTICOMMUTATOR, PRODUCT, anticommutator, product

KNOTS = 7
FORMS = {"message": MESSAGE, "embedding": EMBEDDING}
PRODUCTS = {"anticommutator": ANTICOMMUTATOR, "product": PRODUCT}
SLOTS = [(f, s) for f in FORMS for s in FORMS[f].slots]


def problem(atoms, edges, channels, seed, dtype=torch.float64):
    """Arrays of every slot, and a random graph: any order, repeated edges, empty rows."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=g).to(dtype)

    index = torch.randint(0, max(1, atoms - 1), (2, edges), generator=g)
    base = torch.randint(0, KNOTS - 5, (edges,), generator=g)
    pair = torch.randint(0, 4, (edges,), generator=g)
    arrays = {
        "taps": normal(edges, 6),
        "harmonics": normal(edges, 9),
        "table": normal(KNOTS, 3, channels),
        "pairs": normal(4, channels),
        "senders": normal(atoms, 9, channels),
        "receivers": normal(atoms, 9, channels),
    }
    return arrays, edge_table(base, index, atoms, pair)


def slots_of(form, slot, arrays):
    others = {name: arrays[name] for name in form.slots if name != slot}
    return others, arrays[slot].shape[0]


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) if b.numel() else 0.0


@pytest.mark.parametrize(("name", "slot"), SLOTS)
@settings(max_examples=8)
@given(
    atoms=st.integers(1, 12), edges=st.integers(0, 30), channels=st.integers(1, 19),
    seed=st.integers(0, 999), double=st.booleans(),
)  # fmt: skip
def test_fused_is_the_reference(name, slot, atoms, edges, channels, seed, double):
    dtype = torch.float64 if double else torch.float32
    arrays, table = problem(atoms, edges, channels, seed, dtype)
    form = FORMS[name]
    others, rows = slots_of(form, slot, arrays)
    fused, reference = (
        form(slot, others, table.plan, rows, backend=b) for b in ("fused", "reference")
    )
    assert fused.dtype == dtype
    assert fused.shape == reference.shape == arrays[slot].shape
    assert relative(fused, reference) < (1e-12 if double else 1e-5)


@pytest.mark.parametrize(("name", "slot"), SLOTS)
def test_registration(name, slot):
    """Schema, fake kernel and autograd registration, as torch checks them."""
    arrays, table = problem(4, 9, 5, 1)
    form = FORMS[name]
    others, rows = slots_of(form, slot, arrays)
    inputs = [x.requires_grad_() for x in others.values()]
    torch.library.opcheck(form.ops[slot], (*inputs, list(table.plan), rows))


@pytest.mark.parametrize(("name", "slot"), SLOTS)
def test_derivatives(name, slot):
    arrays, table = problem(3, 5, 2, 2)
    form = FORMS[name]
    others, rows = slots_of(form, slot, arrays)

    def run(*inputs):
        return form(slot, dict(zip(others, inputs, strict=True)), table.plan, rows)

    inputs = tuple(x.requires_grad_() for x in others.values())
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("slot", ["left", "right", "out"])
def test_products(name, slot):
    form = PRODUCTS[name]
    g = torch.Generator().manual_seed(3)
    others = [n for n in form.slots if n != slot]

    def inputs(shape, dtype=torch.float64):
        return [torch.randn(shape, generator=g, dtype=dtype).requires_grad_() for _ in others]

    def run(*values, backend="fused"):
        named = dict(zip(others, values, strict=True))
        return form(slot, named, (), values[0].shape[0], backend=backend)

    for shape in ((5, 9, 11), (1, 9, 16), (0, 9, 3)):
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
            values = inputs(shape, dtype)
            pair = [run(*values, backend=b).detach() for b in ("fused", "reference")]
            assert relative(*pair) < tolerance
    values = inputs((2, 9, 3))
    assert torch.autograd.gradcheck(run, values, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, values, fast_mode=True)
    torch.library.opcheck(form.ops[slot], (*inputs((2, 9, 3)), [], 2))


def test_third_derivatives():
    arrays, table = problem(3, 4, 2, 5)
    arrays = {n: x.requires_grad_() for n, x in arrays.items()}

    def cubic(backend):
        a, b, c, y = (arrays[n] for n in ("taps", "table", "harmonics", "pairs"))
        x = embedding(a, c, b, y, table, backend=backend)
        m = message(a, b, x, table, backend=backend)
        return anticommutator(x, m, backend=backend) + product(m, x, backend=backend)

    found = []
    for backend in ("fused", "reference"):
        value = cubic(backend).pow(2).sum()
        for _ in range(3):
            (slope,) = torch.autograd.grad(value, arrays["taps"], create_graph=True)
            value = slope.pow(2).sum() * 1e-3
        found.append(torch.autograd.grad(value, arrays["table"])[0])
    assert relative(*found) < 1e-11


def test_an_unknown_backend_is_refused():
    arrays, table = problem(3, 4, 2, 5)
    with pytest.raises(ValueError, match="unknown backend 'cuda'"):
        message(arrays["taps"], arrays["table"], arrays["senders"], table, backend="cuda")
