"""Envelopes and bases against their closed forms; derivatives exist at r = 0."""

import math

import pytest
import torch

from dreibein.nn import Bessel, Envelope, ExpNormal, Gaussian, radial_basis
from dreibein.nn.radial import SmoothBessel, lengths_and_units, sine_quotient

CUTOFF, NUM = 4.5, 5
R = torch.linspace(0.0, CUTOFF + 0.5, 23, dtype=torch.float64)
KINDS = ("expnorm", "gaussian", "bessel", "smooth_bessel")


def derivative(function, r, order):
    """d^order f / dr^order at each distance."""
    r = torch.as_tensor(r, dtype=torch.float64).clone().requires_grad_()
    value = function(r)
    for _ in range(order):
        (value,) = torch.autograd.grad(value.sum(), r, create_graph=True)
    return value.detach()


def test_cosine_envelope():
    inside = [0.5 * (math.cos(math.pi * r / CUTOFF) + 1.0) if r < CUTOFF else 0.0 for r in R]
    expected = torch.tensor(inside, dtype=torch.float64)
    assert torch.allclose(Envelope(CUTOFF, "cosine")(R), expected, rtol=0, atol=1e-15)


def test_smooth_envelope():
    t = (R / CUTOFF).clamp(max=1.0)
    expected = 1.0 - 10.0 * t**3 + 15.0 * t**4 - 6.0 * t**5
    assert torch.allclose(Envelope(CUTOFF)(R), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", ["smooth", "cosine"])
def test_envelopes_fall_from_one_to_zero(kind):
    phi = Envelope(CUTOFF, kind)(R)
    assert float(phi[0]) == 1.0
    assert (phi[R >= CUTOFF] == 0.0).all()
    assert (phi.diff() <= 0.0).all()


@pytest.mark.parametrize(
    ("kind", "order", "jump"),
    [
        ("smooth", 1, 0.0),
        ("smooth", 2, 0.0),
        ("smooth", 3, -60.0 / CUTOFF**3),
        ("cosine", 1, 0.0),
        ("cosine", 2, math.pi**2 / (2.0 * CUTOFF**2)),
    ],
)
def test_jumps_of_the_derivatives_at_the_cutoff(kind, order, jump):
    below, above = CUTOFF - 1e-9, CUTOFF + 1e-9
    inside, outside = derivative(Envelope(CUTOFF, kind), [below, above], order)
    assert float(inside - outside) == pytest.approx(jump, abs=1e-7)


def test_expnorm_closed_form():
    start = math.exp(-CUTOFF)
    beta = (2.0 / NUM * (1.0 - start)) ** -2
    found = ExpNormal(CUTOFF, NUM, "cosine")(R)
    phi = Envelope(CUTOFF, "cosine")(R)
    for k in range(NUM):
        mu = start + (1.0 - start) * k / (NUM - 1)
        expected = phi * torch.exp(-beta * (torch.exp(-5.0 / CUTOFF * R) - mu) ** 2)
        assert torch.allclose(found[:, k], expected, rtol=0, atol=1e-14)


def test_gaussian_closed_form():
    found = Gaussian(CUTOFF, NUM)(R)
    spacing = CUTOFF / (NUM - 1)
    for k in range(NUM):
        expected = torch.exp(-0.5 * ((R - k * spacing) / spacing) ** 2)
        assert torch.allclose(found[:, k], expected, rtol=0, atol=1e-15)


def test_bessel_closed_form():
    found = Bessel(CUTOFF, NUM)(R)
    for k in range(NUM):
        q = (k + 1) * math.pi / CUTOFF
        expected = math.sqrt(2.0 / CUTOFF) * torch.sin(q * R[1:]) / R[1:]
        assert torch.allclose(found[1:, k], expected, rtol=0, atol=1e-14)
        assert float(found[0, k]) == pytest.approx(math.sqrt(2.0 / CUTOFF) * q, abs=1e-14)


def test_smooth_bessel_functions_are_orthonormal_and_end_smoothly():
    """The integral of r^2 e_m e_n is 1 or 0; value, slope and curvature vanish at the cutoff."""
    basis = SmoothBessel(CUTOFF, NUM)
    # trapezoids are exact here: the integrand is a polynomial of cosines of whole periods
    r = torch.linspace(0.0, CUTOFF, 201, dtype=torch.float64)
    values = r[:, None] * basis(r)
    weights = torch.full_like(r, CUTOFF / 200)
    weights[[0, -1]] /= 2.0
    overlap = values.T @ (weights[:, None] * values)
    assert torch.allclose(overlap, torch.eye(NUM, dtype=torch.float64), rtol=0, atol=1e-12)
    for order in range(3):
        for n in range(NUM):
            end = derivative(lambda r, n=n: basis(r)[:, n], [CUTOFF], order)
            assert abs(float(end)) < 1e-9
    assert torch.equal(basis.float().double().mixing, SmoothBessel(CUTOFF, NUM).mixing)


def test_widths_of_each_function():
    basis = ExpNormal(CUTOFF, NUM, widths="each")
    assert basis.beta.shape == (NUM,)
    assert torch.equal(basis(R), ExpNormal(CUTOFF, NUM)(R))
    basis.beta[2] *= 1.5
    changed = (basis(R) != ExpNormal(CUTOFF, NUM)(R)).any(0)
    assert changed.tolist() == [False, False, True, False, False]


def test_sine_quotient_has_right_derivatives_everywhere():
    """Series near 0 and quotient elsewhere meet; sinc of torch is NaN here at second order."""
    x = torch.tensor([0.0, 1e-12, 1e-5, 0.05, 0.0999999, 0.1000001, 0.5, 3.0, 20.0]).double()
    assert torch.allclose(sine_quotient(x), torch.sinc(x / math.pi), rtol=0, atol=3e-16)
    t = torch.linspace(0.0, 1.0, 2001, dtype=torch.float64)
    weights = torch.full_like(t, 1.0 / 2000).index_fill(0, torch.tensor([0, 2000]), 0.5 / 2000)
    for order in range(1, 5):
        # sin(x)/x is the mean of cos(t x), t in 0 ... 1
        phase = x[:, None] * t + order * math.pi / 2.0
        expected = (t**order * torch.cos(phase)) @ weights
        found = derivative(sine_quotient, x, order)
        assert torch.allclose(found, expected, rtol=0, atol=3e-5 if order < 4 else 1e-4), order


def test_sine_quotient_passes_gradgradcheck():
    x = torch.tensor([0.0, 0.05, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sine_quotient, x)
    assert torch.autograd.gradgradcheck(sine_quotient, x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [1, 2])
def test_bases_have_finite_derivatives_at_zero(kind, order):
    """Every atom's self-loop stands at r = 0, and training differentiates twice."""
    basis = radial_basis(kind, CUTOFF, NUM)
    for k in range(NUM):
        found = derivative(lambda r, k=k: basis(r)[:, k], [0.0, 1.0], order)
        assert torch.isfinite(found).all()


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_buffers(kind):
    basis = radial_basis(kind, CUTOFF, NUM)
    assert basis(R).shape == (len(R), NUM)
    assert basis(R[:0]).shape == (0, NUM)
    assert not list(basis.parameters())
    assert all(b.dtype == torch.float64 for b in basis.buffers())


def test_unknown_names_and_too_few_functions():
    with pytest.raises(ValueError, match="gaussian, bessel or smooth_bessel"):
        radial_basis("besel", CUTOFF, NUM)
    with pytest.raises(ValueError, match="num_radial >= 2, got 1"):
        Gaussian(CUTOFF, 1)


def test_lengths_and_units():
    vectors = torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0], [0.0, -2.0, 0.0]])
    lengths, units = lengths_and_units(vectors)
    assert lengths.tolist() == [5.0, 0.0, 2.0]
    assert torch.allclose(units, torch.tensor([[0.6, 0, 0.8], [0, 0, 0], [0, -1, 0]]))


def test_lengths_and_units_differentiate_twice_at_zero():
    vectors = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]], dtype=torch.float64)
    vectors.requires_grad_()
    lengths, units = lengths_and_units(vectors)
    energy = (lengths**2).sum() + (units**3).sum() + lengths.sum()
    (first,) = torch.autograd.grad(energy, vectors, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), vectors)
    assert torch.isfinite(first).all()
    assert torch.isfinite(second).all()
    assert (first[0] == 0.0).all()
    inside = vectors.detach()[1:].requires_grad_()
    assert torch.autograd.gradgradcheck(lambda v: lengths_and_units(v)[1].pow(3).sum(), inside)
