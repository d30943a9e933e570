"""Soft frames: equivariant, smooth, with finite derivatives where hard frames have none."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dreibein.frames import gram_schmidt, polar, soft_frames
from dreibein.frames.soft import damped_orthogonal
from dreibein.o3 import Irreps, act, random_rotations
from frames.clouds import CLOUDS, smooth_vectors

EPS = 0.1


def exact(v: Tensor, eps: float) -> Tensor:
    """The same from the singular values."""
    u, s, w = torch.linalg.svd(v)
    return u @ torch.diag_embed(s / (s.square() + eps).sqrt()) @ w


def rank_deficient(rank: int, generator: torch.Generator) -> Tensor:
    left = torch.randn(3, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, 3, generator=generator, dtype=torch.float64)
    return (left @ right)[None]


def with_singular_values(*values: float) -> Tensor:
    first, second = random_rotations(2, generator=torch.Generator().manual_seed(2))
    return (first @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ second)[None]


POINTS: dict[str, Callable[[], Tensor]] = {
    "zero": lambda: torch.zeros(1, 3, 3, dtype=torch.float64),
    "rank one": lambda: rank_deficient(1, torch.Generator().manual_seed(1)),
    "rank two": lambda: rank_deficient(2, torch.Generator().manual_seed(1)),
    "all equal": lambda: with_singular_values(0.7, 0.7, 0.7),
    "two equal": lambda: with_singular_values(0.7, 0.7, 0.2),
    "one and two zeros": lambda: with_singular_values(0.7, 0.0, 0.0),
    "two equal and zero": lambda: with_singular_values(0.7, 0.7, 0.0),
    "left-handed": lambda: with_singular_values(0.9, 0.5, -0.3),
    "general": lambda: with_singular_values(0.9, 0.5, 0.3),
}


@given(st.integers(0, 10_000), st.floats(-6, 1), st.integers(0, 3))
def test_it_equals_the_singular_value_form(seed, log_eps, rank):
    generator = torch.Generator().manual_seed(seed)
    v = rank_deficient(rank, generator) if rank else torch.zeros(1, 3, 3).double()
    eps = 10.0**log_eps
    assert torch.allclose(damped_orthogonal(v, eps), exact(v, eps), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("point", POINTS)
def test_first_and_second_derivatives_exist_everywhere(point):
    v = POINTS[point]().requires_grad_()
    function = partial(damped_orthogonal, eps=EPS)
    assert torch.autograd.gradcheck(function, v)
    assert torch.autograd.gradgradcheck(function, v)


@pytest.mark.parametrize("point", POINTS)
def test_third_derivatives_are_those_of_a_difference(point):
    v = POINTS[point]()
    direction = torch.linspace(-1, 1, 9, dtype=torch.float64).reshape(1, 3, 3)

    def second(v: Tensor) -> Tensor:
        v = v.clone().requires_grad_()
        value = (damped_orthogonal(v, EPS) * direction.flip(1)).sum()
        (first,) = torch.autograd.grad(value, v, create_graph=True)
        (result,) = torch.autograd.grad((first * direction).sum(), v, create_graph=True)
        return result

    v = v.requires_grad_()
    result = second(v)
    leaf = v.clone().detach().requires_grad_()
    value = (damped_orthogonal(leaf, EPS) * direction.flip(1)).sum()
    (first,) = torch.autograd.grad(value, leaf, create_graph=True)
    (again,) = torch.autograd.grad((first * direction).sum(), leaf, create_graph=True)
    (third,) = torch.autograd.grad((again * direction).sum(), leaf)
    step = 1e-5
    numeric = (second(v.detach() + step * direction) - second(v.detach() - step * direction)) / (
        2 * step
    )
    assert torch.allclose(third, numeric, atol=1e-5 * (1 + third.abs().max()))
    assert result.isfinite().all()


def check_equivariance(build: Callable[[Tensor], Tensor], generator: torch.Generator) -> None:
    """U(V g^T) = U(V) g^T for all g in O(3), at every site of every cloud."""
    for name, cloud in CLOUDS.items():
        vectors = smooth_vectors(cloud())
        before = build(vectors)
        for g in random_rotations(4, generator=generator, improper=True):
            after = build(smooth_vectors(cloud() @ g.mT))
            assert torch.allclose(after, before @ g.mT, atol=1e-10), name


def test_it_is_equivariant_at_symmetric_sites(generator):
    check_equivariance(lambda v: soft_frames(v).matrices, generator)


@pytest.mark.parametrize(
    "mutant",
    [
        lambda v: gram_schmidt(v, degenerate="axis", tolerance=1e-30).matrices,
        lambda v: gram_schmidt(v[:, :2], degenerate="zero").matrices,
        lambda v: polar(v, degenerate="axis").matrices,
        lambda v: soft_frames(v + 1e-3).matrices,
        lambda v: torch.linalg.svd(v)[2],
    ],
)
def test_the_law_catches(mutant, generator):
    with pytest.raises(AssertionError):
        check_equivariance(mutant, generator)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("methane", 0),
        ("carbon dioxide", 0),
        ("fcc", 0),
        ("water", 1),
        ("ammonia", 1),
        ("benzene", 1),
        ("random", 3),
    ],
)
def test_what_symmetry_forbids_is_absent(name, expected):
    """The rank of U at the first atom is the number of invariant directions of its site."""
    frames = soft_frames(smooth_vectors(CLOUDS[name]()))
    values = torch.linalg.svdvals(frames.matrices)[0]
    assert int((values > 1e-6).sum()) == expected


def test_the_continuity_scan_through_planar_and_collinear_shapes():
    """Steps of soft frames shrink with the step size; handedness of hard ones jumps by 2."""
    start, stop = CLOUDS["random"](), CLOUDS["random"]().clone()
    stop[:, 2] *= -1

    def largest_step(build: Callable[[Tensor], Tensor], steps: int) -> float:
        path = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        values = torch.stack([build(smooth_vectors((1 - t) * start + t * stop)) for t in path])
        return float(values.diff(dim=0).abs().max())

    def soft(v: Tensor) -> Tensor:
        return soft_frames(v).matrices

    def hard(v: Tensor) -> Tensor:
        return gram_schmidt(v, group="O(3)", degenerate="axis").matrices

    coarse, fine = largest_step(soft, 51), largest_step(soft, 501)
    assert fine < 0.15 * coarse
    assert largest_step(hard, 501) > 1.0


def test_features_fade_out_without_a_jump():
    """A water molecule straightened to a line: |act(U) x| goes to zero with the bend."""
    norms = []
    for bend in (0.3, 0.03, 0.003, 0.0):
        points = torch.tensor([[0, 0, 0], [0.96, 0, -bend], [-0.96, 0, -bend]], dtype=torch.float64)
        frames = soft_frames(smooth_vectors(points))
        vector = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
        norms.append(float(act(Irreps("1o"), frames.matrices[0], vector).norm()))
    assert norms[0] > norms[1] > norms[2] > norms[3] == 0
    assert norms[2] < 0.02 * norms[0] + 0.1


def test_types_and_quality(generator):
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        vectors = torch.randn(50, 3, 3, generator=generator, dtype=torch.float64)
        narrow = vectors.to(dtype)
        frames = soft_frames(narrow)
        assert frames.matrices.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert (frames.matrices - exact(narrow.double(), 0.01)).abs().max() < 1e-6
    frames = soft_frames(torch.cat([torch.zeros(3, 3, 3), 4 * torch.eye(3)[None]]))
    assert frames.num_near_singular == 3
    assert frames.quality[3] > 0.99


def test_two_vectors_and_their_cross_product(generator):
    vectors = torch.randn(6, 2, 3, generator=generator).double()
    g = random_rotations(1, generator=generator)[0]
    for group in ("SO(3)", "O(3)"):
        before = soft_frames(vectors, group=group).matrices
        after = soft_frames(vectors @ g.mT, group=group).matrices
        assert torch.allclose(after, before @ g.mT, atol=1e-12)
    mirrored = soft_frames(-vectors, group="O(3)").matrices
    assert torch.allclose(mirrored, -soft_frames(vectors, group="O(3)").matrices, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"vectors": torch.zeros(4, 3)}, "vectors"),
        ({"vectors": torch.zeros(4, 4, 3)}, "vectors"),
        ({"vectors": torch.zeros(4, 3, 3), "eps": 0.0}, "positive"),
        ({"vectors": torch.zeros(4, 3, 3), "group": "SU(2)"}, "SU"),
    ],
)
def test_wrong_arguments_are_named(arguments, problem):
    with pytest.raises(ValueError, match=problem):
        soft_frames(**arguments)
