"""Hard frames: orthonormal, equivariant, finite and counted where the vectors fail."""

from functools import partial

import pytest
import torch
from torch import Tensor

from dreibein.frames import (
    Frames,
    fixed_axis,
    gram_schmidt,
    inertia_frames,
    neighbor_frames,
    polar,
    soft_frames,
)
from dreibein.o3 import determinant, from_axis_angle, random_rotations
from frames.clouds import CLOUDS, edges, smooth_vectors

BUILDERS = {
    "Gram-Schmidt": gram_schmidt,
    "Gram-Schmidt O(3)": partial(gram_schmidt, group="O(3)"),
    "polar": polar,
    "polar O(3)": partial(polar, group="O(3)"),
}


def from_points(name: str, points: Tensor) -> Frames:
    """Frames of points by any constructor."""
    index, r = edges(points)
    group = "O(3)" if "O(3)" in name else "SO(3)"
    if name.startswith("neighbors"):
        return neighbor_frames(r, index, len(points), group=group)
    if name.startswith("inertia"):
        weights = torch.exp(-r.square().sum(-1))
        return inertia_frames(r, index, len(points), weights=weights, group=group)
    return BUILDERS[name](smooth_vectors(points))


NAMES = [*BUILDERS, "neighbors", "neighbors O(3)", "inertia", "inertia O(3)"]


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_orthonormal_and_turn_with_the_points(name, generator):
    points = CLOUDS["random"]()
    before = from_points(name, points).matrices
    eye = torch.eye(3, dtype=torch.float64)
    assert (before @ before.mT - eye).abs().max() < 1e-12
    for g in random_rotations(6, generator=generator, improper="O(3)" in name):
        after = from_points(name, points @ g.mT + 3.0).matrices
        assert torch.allclose(after, before @ g.mT, atol=1e-10)
    if "O(3)" not in name:
        assert torch.allclose(determinant(before), torch.ones(len(points)).double())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cloud", [name for name in CLOUDS if name != "random"])
def test_degenerate_sites_are_finite_deterministic_and_equivariant(name, cloud, generator):
    """Undetermined axes are zero, so the law holds there as well; the sites are counted.

    Fixed points of a mirror plane have proper frames only, so reflections are tried for O(3) alone.
    """
    points = CLOUDS[cloud]()
    frames = from_points(name, points)
    assert torch.equal(frames.matrices, from_points(name, points).matrices)
    assert frames.matrices.isfinite().all()
    assert frames.quality.isfinite().all()
    assert frames.num_near_singular > 0
    for g in random_rotations(4, generator=generator, improper="O(3)" in name):
        after = from_points(name, points @ g.mT).matrices
        assert torch.allclose(after, frames.matrices @ g.mT, atol=1e-6), (name, cloud)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_at_every_site(name):
    for cloud in CLOUDS.values():
        points = cloud().requires_grad_()
        matrices = from_points(name, points).matrices
        (first,) = torch.autograd.grad(
            (matrices * torch.linspace(-1, 1, 9).reshape(3, 3)).sum(), points, create_graph=True
        )
        assert first.isfinite().all()
        if first.requires_grad:
            (second,) = torch.autograd.grad(first.square().sum(), points, allow_unused=True)
            assert second is None or second.isfinite().all()


@pytest.mark.parametrize("name", BUILDERS)
def test_derivatives_of_regular_frames(name, generator):
    vectors = torch.randn(3, 3, 3, generator=generator).double().requires_grad_()

    def function(v: Tensor) -> Tensor:
        return BUILDERS[name](v).matrices

    assert torch.autograd.gradcheck(function, vectors)
    assert torch.autograd.gradgradcheck(function, vectors)


def test_polar_is_the_nearest_rotation(generator):
    """Against the singular value decomposition, left-handed and flat V included."""
    v = torch.randn(200, 3, 3, generator=generator).double()
    v[:20, 2] = v[:20, 0] + v[:20, 1]
    u, s, w = torch.linalg.svd(v)
    sign = torch.sign(determinant(u @ w))
    middle = torch.diag_embed(torch.stack([sign**0, sign**0, sign], 1))
    gap = s[:, 1] + sign * s[:, 2]
    clear = gap > 0.02 * s[:, 0]
    found = polar(v).matrices
    assert torch.allclose(found[clear], (u @ middle @ w)[clear], atol=1e-9)
    found = polar(v[20:], group="O(3)").matrices
    assert torch.allclose(found, (u @ w)[20:], atol=1e-9)
    two = polar(v[20:, :2]).matrices
    assert torch.allclose(two[:, 2], torch.linalg.cross(two[:, 0], two[:, 1]), atol=1e-12)


@pytest.mark.parametrize("build", [gram_schmidt, polar])
@pytest.mark.parametrize("group", ["SO(3)", "O(3)"])
def test_axes_in_place_of_missing_ones_are_orthonormal(build, group, generator):
    v = torch.randn(8, 3, 3, generator=generator).double()
    v[0], v[1, 1], v[2, 1], v[3, 0] = 0, 0, -2 * v[2, 0], 0
    v[4, :, 2] = 0
    frames = build(v, group=group, degenerate="axis")
    product = frames.matrices @ frames.matrices.mT
    assert (product - torch.eye(3).double()).abs().max() < 1e-12
    assert frames.quality[0] == 0
    assert frames.near_singular[0]


@pytest.mark.parametrize("build", [gram_schmidt, polar])
def test_rounding_noise_decides_nothing(build):
    """Vectors that cancel to 1e-17 are treated as the zeros that they are."""
    v = torch.zeros(2, 2, 3).double()
    v[0] = 1e-17
    v[1, 0, 0], v[1, 1, 0], v[1, 1, 1] = 1.0, 0.5, 1e-17
    matrices = build(v).matrices
    assert matrices[0].abs().max() == 0
    assert matrices[1, 1:].abs().max() == 0


def test_float64_inside_float32(generator):
    """Nearly parallel vectors: the axes are orthonormal to the rounding of the result."""
    v = torch.randn(100, 2, 3, generator=generator)
    v[:, 1] = v[:, 0] * 1.5 + 1e-2 * v[:, 1]
    for build in (gram_schmidt, polar):
        frames = build(v)
        assert frames.matrices.dtype == torch.float32
        good = frames.quality > 0
        product = (frames.matrices @ frames.matrices.mT)[good] - torch.eye(3)
        assert good.sum() > 60
        assert product.abs().max() < 4e-7
    assert build(v.bfloat16()).matrices.dtype == torch.float32


def test_a_fixed_axis_leaves_turns_about_it(generator):
    axis = torch.tensor([0.0, 0.0, 1.0]).double()
    v = torch.randn(5, 2, 3, generator=generator).double()
    g = from_axis_angle(axis, torch.tensor(0.7).double())
    for build, vectors in ((gram_schmidt, v[:, 0]), (soft_frames, v), (polar, v[:, 0])):
        before = fixed_axis(axis, vectors, build).matrices
        after = fixed_axis(axis, vectors @ g.mT, build).matrices
        assert torch.allclose(after, before @ g.mT, atol=1e-12)
    assert torch.equal(fixed_axis(axis, v[:, 0]).matrices[:, 0], axis.expand(5, 3))
    other = random_rotations(1, generator=generator)[0]
    moved = fixed_axis(axis, v[:, 0] @ other.mT).matrices
    assert not torch.allclose(moved, fixed_axis(axis, v[:, 0]).matrices @ other.mT, atol=0.1)


def test_neighbor_frames_by_hand():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [5, 5, 5]]).double()
    index, r = edges(points)
    frames = neighbor_frames(r, index, 4)
    assert torch.equal(frames.matrices[0], torch.eye(3).double())
    tie = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9]]).double()
    index, r = edges(tie)
    assert neighbor_frames(r, index, 4).matrices[0].abs().max() == 0
    assert neighbor_frames(r[:0], index[:, :0], 4).num_near_singular == 4


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: gram_schmidt(torch.zeros(3, 1, 3)), r"\[N, 2 or 3, 3\]"),
        (lambda: gram_schmidt(torch.zeros(3, 2, 3), group="O(3)"), r"\[N, 3, 3\]"),
        (lambda: polar(torch.zeros(3, 2, 2)), r"got the shape \[3, 2, 2\]"),
        (lambda: polar(torch.zeros(3, 2, 3), degenerate="random"), "'zero' or 'axis'"),
        (lambda: gram_schmidt(torch.zeros(3, 2, 3), group="E(3)"), r"E\(3\)"),
        (lambda: fixed_axis(torch.zeros(2), torch.zeros(4, 3)), r"axis is \[3\]"),
        (
            lambda: inertia_frames(torch.zeros(1, 3), torch.zeros(2, 1).long(), 1, group="E(3)"),
            r"E\(3\)",
        ),
    ],
)
def test_wrong_arguments_are_named(call, problem):
    with pytest.raises(ValueError, match=problem):
        call()
