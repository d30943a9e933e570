"""The transferred product is e3nn's, with its derivatives, at the poles too."""

import numpy as np
import pytest
import torch

from dreibein.frames import EdgeAlignment, edge_frames
from dreibein.nn.radial import lengths_and_units
from dreibein.nn.transfer import (
    AlignedProduct,
    ChannelProduct,
    channel_paths,
    full_paths,
    paths_of_e3nn,
)
from dreibein.o3 import Irreps, act, random_rotations

o3 = pytest.importorskip("e3nn.o3")
NODES, EDGES = 7, 30
CASES = {
    "true": ("3x0e+2x1o+2x2e", 2, "2x0e+3x1o+1x2e"),
    "pseudo": ("2x0e+1x0o+2x1o+2x1e+1x2e+1x2o", 3, "1x0e+2x0o+1x1e+2x1o+2x2e+1x2o+1x3o"),
    "few harmonics": ("2x0e+2x1o+1x3o", 1, "1x0e+2x1o+2x2e"),
    "whole vectors": ("8x0e+8x1o+8x1e", 2, "8x0e+16x1o+8x1e+8x2e"),  # of any processor
    "one channel from scalars": ("4x0e", 4, "1x0e+1x4e"),
}
POLES = torch.tensor(
    [[0, 1, 0], [0, -1, 0], [0, 0, 1], [1, 0, 0], [1e-9, -1, 1e-12], [1, 1, 1]],
    dtype=torch.float64,
)


def problem(irreps_in, num_weights, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    index = torch.randint(NODES, (2, EDGES), generator=generator)
    vectors = normal(EDGES, 3)
    vectors[: len(POLES)] = POLES
    given = (normal(NODES, Irreps(irreps_in).dim), vectors, normal(EDGES, num_weights))
    return index, tuple(tensor.requires_grad_() for tensor in given)


def authority(irreps_in, lmax, irreps_out):
    """e3nn's layer in float64 and the sum of its messages."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        harmonics = o3.Irreps.spherical_harmonics(lmax)
        product = o3.FullyConnectedTensorProduct(
            irreps_in, harmonics, irreps_out, shared_weights=False
        )
    finally:
        torch.set_default_dtype(before)

    def function(x, vectors, weights, index):
        y = o3.spherical_harmonics(harmonics, vectors, True, normalization="component")
        messages = product(x[index[0]], y, weights)
        return messages.new_zeros(NODES, messages.shape[1]).index_add(0, index[1], messages)

    return product, function


def derivatives(result, inputs):
    """The first derivatives of a nonlinear loss and the second of theirs."""
    first = torch.autograd.grad(result.pow(3).sum(), inputs, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
    return (result, *first, *second)


def relative(found, expected):
    return float(((found - expected).abs().max() / expected.abs().max()).detach())


@pytest.mark.parametrize("backend", ["reference", "fused"])
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_equal_to_e3nn(name, merged, backend):
    product, function = authority(*CASES[name])
    ours = AlignedProduct.from_e3nn(product, merged=merged)
    index, inputs = problem(CASES[name][0], product.weight_numel)
    x, vectors, weights = inputs
    alignment = EdgeAlignment(vectors, index, NODES, backend=backend)
    found = ours(x, alignment, ours.merge(weights) if merged else weights)
    expected = function(*inputs, index)
    for a, b in zip(derivatives(found, inputs), derivatives(expected, inputs), strict=True):
        assert relative(a, b) < 1e-12


@pytest.mark.parametrize("backend", ["reference", "fused"])
@pytest.mark.parametrize("kinds", ["3x0e+1x0o+2x1o+2x1e+1x2e", "8x0e+24x1o+40x2e"])
def test_channel_product_is_that_of_e3nn(kinds, backend):
    irreps = Irreps(kinds)
    paths = channel_paths(irreps, 2, irreps)
    entries = [(p.source, p.degree, p.target, "uvu", True) for p in paths.paths]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        harmonics = o3.Irreps.spherical_harmonics(2)
        product = o3.TensorProduct(
            str(irreps), harmonics, str(paths.irreps_out), entries,
            shared_weights=False, internal_weights=False,
        )  # fmt: skip
    finally:
        torch.set_default_dtype(before)
    ours = ChannelProduct.from_e3nn(product)
    assert [abs(a.coefficient - b.coefficient) < 1e-6 for a, b in
            zip(ours.paths.paths, paths.paths, strict=True)].count(False) == 0  # fmt: skip
    index, inputs = problem(str(irreps), product.weight_numel)
    x, vectors, weights = inputs
    y = o3.spherical_harmonics(harmonics, vectors, True, normalization="component")
    messages = product(x[index[0]], y, weights)
    expected = messages.new_zeros(NODES, messages.shape[1]).index_add(0, index[1], messages)
    units = lengths_and_units(vectors)[1]
    found = ours(x, units, index, weights, backend=backend)
    for a, b in zip(derivatives(found, inputs), derivatives(expected, inputs), strict=True):
        assert relative(a, b) < 1e-12


@pytest.mark.parametrize("merged", [False, True])
def test_whole_vectors_take_the_other_loops(merged, monkeypatch):
    """Loops on vectors and loops on any table are compared on the same problem."""
    from dreibein.ops import order_lanes

    irreps = Irreps("16x0e+16x1o+16x2e")
    product = AlignedProduct(full_paths(irreps, 2, irreps), merged=merged)
    assert order_lanes.fits(product.plan_8.numpy(), np.dtype(np.float64))
    index, inputs = problem(str(irreps), product.num_weights)

    def found():
        alignment = EdgeAlignment(inputs[1], index, NODES)
        return derivatives(product(inputs[0], alignment, inputs[2]), inputs)

    quick = found()
    monkeypatch.setattr(order_lanes, "fits", lambda *_: False)
    for a, b in zip(quick, found(), strict=True):
        assert relative(a, b) < 1e-13


def test_paths_and_norms_are_those_of_e3nn():
    irreps_in, lmax, irreps_out = CASES["pseudo"]
    product, _ = authority(irreps_in, lmax, irreps_out)
    ours, theirs = (
        full_paths(Irreps(irreps_in), lmax, Irreps(irreps_out)),
        paths_of_e3nn(product),
    )
    assert sum(ours.weight_sizes) == product.weight_numel
    for a, b in zip(ours.paths, theirs.paths, strict=True):
        assert (a.source, a.degree, a.target) == (b.source, b.degree, b.target)
        assert abs(a.coefficient - b.coefficient) < 1e-6  # e3nn keeps float32


@pytest.mark.parametrize("merged", [False, True])
def test_free_angle_does_not_matter(merged):
    """Another choice of the two axes across the edge gives the same."""
    irreps = Irreps("2x0e+1x0o+2x1o+1x1e+1x2e")
    product = AlignedProduct(full_paths(irreps, 2, irreps), merged=merged)
    index, (x, vectors, weights) = problem(str(irreps), product.num_weights)
    alignment = EdgeAlignment(vectors, index, NODES, backend="reference")
    expected = product(x, alignment, weights)
    other = EdgeAlignment(vectors, index, NODES, backend="reference")
    angle = torch.linspace(0, 6, EDGES, dtype=torch.float64)
    turn = torch.eye(3, dtype=torch.float64).repeat(EDGES, 1, 1)
    turn[:, 0, 0] = turn[:, 2, 2] = angle.cos()
    turn[:, 0, 2], turn[:, 2, 0] = angle.sin(), -angle.sin()
    other.frames = type(other.frames)(turn @ other.frames.matrices)
    assert relative(product(x, other, weights), expected) < 1e-13


def test_equivariant_under_reflections():
    irreps = Irreps("2x0e+1x0o+2x1o+1x1e+1x2e")
    product = AlignedProduct(full_paths(irreps, 2, irreps))
    index, (x, vectors, weights) = problem(str(irreps), product.num_weights)
    turns = random_rotations(4, generator=torch.Generator().manual_seed(5), improper=True)
    expected = product(x, EdgeAlignment(vectors, index, NODES), weights)
    for turn in torch.cat((turns, -turns)):
        alignment = EdgeAlignment(vectors @ turn.mT, index, NODES)
        found = product(act(irreps, turn, x), alignment, weights)
        assert relative(found, act(irreps, turn, expected)) < 1e-13


def test_edge_frames_are_rotations_to_the_polar_axis():
    matrices = edge_frames(POLES).matrices
    assert torch.dist(matrices @ matrices.mT, torch.eye(3).expand(6, 3, 3)) < 1e-14
    assert torch.linalg.det(matrices).min() > 0.999
    along = (matrices @ (POLES / POLES.norm(dim=1, keepdim=True))[:, :, None])[..., 0]
    assert torch.dist(along, torch.tensor([0.0, 1.0, 0.0]).expand(6, 3)) < 1e-14


def test_wrong_uses_are_refused():
    irreps = Irreps("2x0e+2x1o")
    with pytest.raises(ValueError, match="uvw"):
        AlignedProduct(channel_paths(irreps, 1, irreps))
    product = AlignedProduct(full_paths(irreps, 1, irreps))
    index, (x, vectors, weights) = problem(str(irreps), product.num_weights + 1)
    with pytest.raises(ValueError, match="expected 16"):
        product(x, EdgeAlignment(vectors, index, NODES), weights)
    second = o3.FullyConnectedTensorProduct("2x0e", "1x1e", "2x1e", shared_weights=False)
    with pytest.raises(ValueError, match="second factor"):
        paths_of_e3nn(second)
