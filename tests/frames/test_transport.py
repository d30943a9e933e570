"""Transport: invariance, round trips, the two backends, soft frames, learned parts, types."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dreibein.frames import (
    Frames,
    Transport,
    gram_schmidt,
    identity,
    random_global,
    soft_frames,
    update_by_matrix,
    update_by_quaternion,
)
from dreibein.o3 import MLPReps, Reps, act, parse_reps, random_rotations
from frames.clouds import random, smooth_vectors

REPS = (
    "3x0e+2x1o+1x2e+2x0o+1x1e",
    "5x0p+3x1n+2x2p+1x0n+1x3n+1x4n",
    "2x1o+3x2n+1x0e+2x1p+1x3o",
)
Between = Callable[[Transport, Reps, Tensor], Tensor]


def graph(nodes: int = 7, edges: int = 20, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(nodes, (2, edges), generator=generator)


def hard(nodes: int = 7, seed: int = 1, improper: bool = True) -> Frames:
    generator = torch.Generator().manual_seed(seed)
    return Frames(random_rotations(nodes, generator=generator, improper=improper))


def per_edge(transport: Transport, rep: Reps, x: Tensor) -> Tensor:
    """The definition, one edge after the other: act(R_i) act(R_j^T) x_j."""
    rows = []
    for j, i in transport.edge_index.T.tolist():
        turned = act(rep, transport.frames.matrices[j].mT, x[j])
        rows.append(act(rep, transport.targets.matrices[i], turned))
    return torch.stack(rows)


@pytest.mark.parametrize("backend", ["reference", "fused", "auto"])
@pytest.mark.parametrize("text", REPS)
def test_between_is_its_definition(text, backend, generator):
    rep = parse_reps(text)
    if backend == "fused" and "4n" in text:
        rep = parse_reps(text.replace("+1x4n", ""))
    x = torch.randn(7, rep.dim, generator=generator, dtype=torch.float64)
    for frames in (hard(), soft_frames(smooth_vectors(random()))):
        transport = Transport(frames, graph(), backend=backend)
        found = transport.between(rep, x)
        assert torch.allclose(found, per_edge(transport, rep, x), atol=1e-12)
        nodes = [act(rep, m, f) for m, f in zip(frames.matrices, x)]
        assert torch.allclose(transport.to_local(rep, x), torch.stack(nodes), atol=1e-12)
        nodes = [act(rep, m.mT, f) for m, f in zip(frames.matrices, x)]
        assert torch.allclose(transport.to_global(rep, x), torch.stack(nodes), atol=1e-12)
        e = torch.randn(20, rep.dim, generator=generator, dtype=torch.float64)
        edge = [act(rep, frames.matrices[i], f) for i, f in zip(transport.receiver, e)]
        assert torch.allclose(transport.edges_to_local(rep, e), torch.stack(edge), atol=1e-12)
        edge = [act(rep, frames.matrices[i].mT, f) for i, f in zip(transport.receiver, e)]
        assert torch.allclose(transport.edges_to_global(rep, e), torch.stack(edge), atol=1e-12)


@given(st.sampled_from(REPS), st.integers(0, 100))
def test_orthogonal_frames_form_one_gauge(text, seed):
    """Round trips are exact, transitions compose, and between is act(R_i R_j^T)."""
    rep, frames = parse_reps(text), hard(seed=seed)
    x = torch.randn(7, rep.dim, dtype=torch.float64)
    assert torch.allclose(frames.to_global(rep, frames.to_local(rep, x)), x, atol=1e-13)
    transport = Transport(frames, graph(seed=seed))
    u = transport.transitions
    expected = act(rep, u, x[transport.sender])
    assert torch.allclose(transport.between(rep, x), expected, atol=1e-12)
    chain = Transport(frames, torch.tensor([[0, 1, 0], [1, 2, 2]])).transitions
    assert torch.allclose(chain[1] @ chain[0], chain[2], atol=1e-14)


def check_invariance(between: Between, generator: torch.Generator) -> None:
    """Local messages stay the same under rotations, reflections and a change of the origin."""
    points = random()
    for text in REPS:
        rep = parse_reps(text)
        x = torch.randn(7, rep.dim, generator=generator, dtype=torch.float64)
        for build in (soft_frames, lambda v: gram_schmidt(v, group="O(3)")):
            results = []
            for g in [torch.eye(3).double(), *random_rotations(3, generator=generator) * -1]:
                frames = build(smooth_vectors(points @ g.mT - 1.0))
                local = frames.to_local(rep, act(rep, g, x))
                results.append(between(Transport(frames, graph()), rep, local))
            for other in results[1:]:
                assert torch.allclose(results[0], other, atol=1e-10)


def test_messages_are_invariant(generator):
    check_invariance(lambda transport, rep, x: transport.between(rep, x), generator)
    check_invariance(lambda transport, rep, x: transport.sum(rep, x), generator)


@pytest.mark.parametrize(
    "mutant",
    [
        lambda t, rep, x: t.frames.to_global(rep, x),
        lambda t, rep, x: act(rep, t.frames.matrices[t.sender], x[t.sender]),
        lambda t, rep, x: Transport(Frames(t.frames.matrices.mT), t.edge_index).between(rep, x),
    ],
)
def test_the_law_catches(mutant, generator):
    with pytest.raises(AssertionError):
        check_invariance(mutant, generator)


@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_a_sum_is_the_sum_of_messages(backend, generator):
    rep = parse_reps("3x0e+2x1o+1x2e+1x1p")
    x = torch.randn(7, rep.dim, generator=generator, dtype=torch.float64)
    weights = torch.randn(20, rep.num_channels, generator=generator, dtype=torch.float64)
    for frames in (hard(), soft_frames(smooth_vectors(random()))):
        transport = Transport(frames, graph(), backend=backend)
        for w, full in (
            (None, torch.ones(20, 1)),
            (weights[:, 0], weights[:, :1]),
            (weights, weights[:, list(rep.channel_index)]),
        ):
            expected = torch.zeros(7, rep.dim, dtype=torch.float64)
            expected.index_add_(0, transport.receiver, transport.between(rep, x) * full)
            assert torch.allclose(transport.sum(rep, x, w), expected, atol=1e-12)


def test_backends_agree_in_gradients_of_features_and_frames(generator):
    rep = parse_reps("3x0e+2x1o+1x2e+1x3o+2x2n+1x1p")
    points, x = random(), torch.randn(7, rep.dim, generator=generator, dtype=torch.float64)
    target = torch.randn(20, rep.dim, generator=generator, dtype=torch.float64)
    results = []
    for backend in ("reference", "fused"):
        leaves = points.clone().requires_grad_(), x.clone().requires_grad_()
        frames = soft_frames(smooth_vectors(leaves[0]))
        transport = Transport(frames, graph(), backend=backend)
        out = transport.between(rep, leaves[1])
        value = (transport.edges_to_local(rep, out.tanh()) * target).sum()
        first = torch.autograd.grad(value, leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
        results.append([*first, *second])
    for reference, fused in zip(*results):
        assert torch.allclose(reference, fused, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("text", ["1x0e+1x1o+1x2e+1x1e", "1x0n+1x1n+1x2n"])
@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_gradcheck_through_matrices(text, backend, generator):
    rep, index = parse_reps(text), graph(4, 6)
    matrices = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    x = torch.randn(4, rep.dim, generator=generator, dtype=torch.float64, requires_grad=True)

    def function(m: Tensor, x: Tensor) -> Tensor:
        return Transport(Frames(m), index, backend=backend).between(rep, x)

    assert torch.autograd.gradcheck(function, (matrices, x))
    assert torch.autograd.gradgradcheck(function, (matrices, x), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frame_type", [torch.float64, torch.float32])
def test_narrow_types_forward_and_backward(dtype, frame_type, generator):
    rep = parse_reps("4x0e+2x1o+2x2e+1x2n")
    frames, index = hard(), graph()
    x = torch.randn(7, rep.dim, generator=generator, dtype=torch.float64).to(dtype)
    exact_leaf = x.double().requires_grad_()
    exact = Transport(frames, index).between(rep, exact_leaf)
    exact.square().sum().backward()
    matrices = frames.matrices.to(frame_type).requires_grad_()
    leaf = x.clone().requires_grad_()
    found = Transport(Frames(matrices), index).between(rep, leaf)
    assert found.dtype == dtype
    found.float().square().sum().backward()
    tolerance = 30 * torch.finfo(dtype).eps
    assert (found.double() - exact).abs().max() < tolerance
    assert leaf.grad.dtype == dtype
    assert (leaf.grad.double() - exact_leaf.grad).abs().max() < 20 * tolerance
    assert matrices.grad.isfinite().all()


def test_learned_parts_see_the_transition(generator):
    rep = parse_reps("2x0e+1x1o") + MLPReps(4)
    frames = hard()
    x = torch.randn(7, rep.dim, generator=generator, dtype=torch.float64)
    transport = Transport(frames, graph())
    found = transport.between(rep, x, learned=lambda u, part: part * u[:, :1, 0])
    plain = transport.between(parse_reps("2x0e+1x1o"), x[:, :5])
    assert torch.allclose(found[:, :5], plain, atol=1e-13)
    expected = x[transport.sender, 5:] * transport.transitions[:, :1, 0]
    assert torch.allclose(found[:, 5:], expected, atol=1e-13)
    with pytest.raises(ValueError, match="learned="):
        transport.between(rep, x)
    with pytest.raises(ValueError, match="learned="):
        transport.to_local(rep, x)


def test_frames_of_all_nodes_at_once(generator):
    """Identity and one random frame: transitions are the identity, and nothing is multiplied."""
    rep = parse_reps("2x0e+1x1o+1x2e")
    x = torch.randn(7, rep.dim, generator=generator)
    trivial = Transport(identity(), graph())
    assert torch.equal(trivial.between(rep, x), x[trivial.sender])
    assert trivial.to_local(rep, x) is x
    batch = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    for frames in (
        random_global(generator=generator),
        random_global(generator=generator, batch=batch),
    ):
        transport = Transport(frames, graph())
        assert torch.equal(transport.between(rep, x), x[transport.sender])
        assert not torch.allclose(transport.to_local(rep, x), x)
        assert torch.allclose(frames.to_global(rep, frames.to_local(rep, x)), x, atol=1e-5)
        e = torch.randn(20, rep.dim, generator=generator)
        expected = act(rep, frames.matrices.expand(7, 3, 3)[transport.receiver], e)
        assert torch.allclose(transport.edges_to_local(rep, e), expected, atol=1e-5)
        weighted = transport.sum(rep, x, torch.rand(20, generator=generator))
        assert weighted.shape == (7, rep.dim)


def test_random_global_frames_repeat_with_their_generator():
    def draw() -> Tensor:
        return random_global(generator=torch.Generator().manual_seed(3)).matrices

    assert torch.equal(draw(), draw())
    state = torch.random.get_rng_state()
    draw()
    soft_frames(torch.zeros(3, 3, 3))
    assert torch.equal(state, torch.random.get_rng_state())


def test_bipartite_graphs_have_frames_at_both_ends(generator):
    rep = parse_reps("2x0e+1x1o+1x2e")
    sources, targets = hard(9), hard(4, seed=8)
    index = torch.stack([torch.arange(9), torch.tensor([0, 0, 1, 1, 1, 3, 3, 3, 3])])
    x = torch.randn(9, rep.dim, generator=generator, dtype=torch.float64)
    for backend in ("reference", "fused"):
        transport = Transport(sources, index, targets=targets, backend=backend)
        assert torch.allclose(transport.between(rep, x), per_edge(transport, rep, x), atol=1e-12)
        total = torch.zeros(4, rep.dim, dtype=torch.float64)
        total.index_add_(0, index[1], transport.between(rep, x))
        assert torch.allclose(transport.sum(rep, x), total, atol=1e-12)


def test_matrices_are_built_once(monkeypatch, generator):
    calls = []
    original = torch.Tensor.__matmul__

    def counted(self: Tensor, other: Tensor) -> Tensor:
        calls.append(self.shape)
        return original(self, other)

    rep = parse_reps("2x0e+1x1o+1x4e")
    x = torch.randn(7, rep.dim, generator=generator, dtype=torch.float64)
    transport = Transport(hard(), graph(), backend="fused")
    first = transport.between(rep, x)
    monkeypatch.setattr(torch.Tensor, "__matmul__", counted)
    assert torch.equal(transport.between(rep, x), first)
    assert calls == []


def test_no_gradient_is_lost_to_what_was_kept(generator):
    rep = parse_reps("1x1o+1x2e")
    x = torch.randn(7, rep.dim, generator=generator, dtype=torch.float64)
    for backend in ("reference", "fused"):
        matrices = hard().matrices.clone().requires_grad_()
        transport = Transport(Frames(matrices), graph(), backend=backend)
        with torch.no_grad():
            transport.between(rep, x)
        with torch.inference_mode():
            transport.between(rep, x)
        transport.between(rep, x).square()[:, 0].sum().backward()
        assert matrices.grad.abs().max() > 0


@pytest.mark.parametrize("update", [update_by_quaternion, update_by_matrix])
def test_updates_carry_features_along(update, generator):
    """New frames are frames; global features are unchanged; no change is the identity."""
    points, rep = random(), parse_reps("1x0e+1x1o+1x2e+1x1p")
    width = (4,) if update is update_by_quaternion else (3, 3)
    change = 0.7 * torch.randn(7, *width, generator=generator, dtype=torch.float64)
    x = torch.randn(7, rep.dim, generator=generator, dtype=torch.float64)
    g = random_rotations(1, generator=generator)[0]
    for build in (soft_frames, gram_schmidt):
        frames = build(smooth_vectors(points))
        new, turn = update(frames, change)
        moved, _ = update(build(smooth_vectors(points @ g.mT)), change)
        assert torch.allclose(moved.matrices, new.matrices @ g.mT, atol=1e-10)
        local = frames.to_local(rep, x)
        assert torch.allclose(turn.to_local(rep, local), new.to_local(rep, x), atol=1e-11)
        eye = turn.matrices @ turn.matrices.mT
        assert torch.allclose(eye, torch.eye(3).double().expand(7, 3, 3), atol=1e-12)
        same, _ = update(frames, torch.zeros_like(change))
        assert torch.allclose(same.matrices, frames.matrices, atol=1e-14)
    leaf = change.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda c: update(frames, c)[0].matrices, leaf)


def test_updates_without_a_rotation_are_finite():
    frames = hard(2)
    opposite = torch.tensor([[-1.0, 0, 0, 0], [0.3, 0, 0, 0]]).double().requires_grad_()
    new, turn = update_by_quaternion(frames, opposite)
    (gradient,) = torch.autograd.grad(new.matrices.square().sum() + new.matrices.sum(), opposite)
    assert gradient.isfinite().all()
    assert turn.num_near_singular == 1
    new, turn = update_by_matrix(frames, -torch.eye(3).double().expand(2, 3, 3))
    assert torch.allclose(new.matrices, frames.matrices, atol=1e-15)
    assert turn.num_near_singular == 2


def test_a_frame_moves_between_devices_and_types():
    frames = soft_frames(smooth_vectors(random()))
    assert frames.to(torch.float32).matrices.dtype == torch.float32
    assert frames.to(torch.bfloat16).matrices.dtype == torch.float32
    assert len(frames.select(torch.tensor([1, 1, 3]))) == 3
    assert frames.select(torch.tensor([2])).quality[0] == frames.quality[2]
    leaf = torch.eye(3)[None].clone().requires_grad_()
    assert not Frames(leaf).detach().matrices.requires_grad
    assert Frames(leaf).num_near_singular == 0


def test_auto_takes_the_compiled_kernels_for_large_graphs():
    rep, small = parse_reps("16x0e+16x1o"), hard()
    transport = Transport(small, graph())
    assert transport.backend_for(rep, torch.zeros(7, rep.dim)) == "reference"
    large = Transport(hard(100), graph(100, 2000))
    assert large.backend_for(rep, torch.zeros(100, rep.dim)) == "fused"
    assert large.backend_for(rep, torch.zeros(100, rep.dim).bfloat16()) == "reference"
    assert large.backend_for(parse_reps("1x4n"), torch.zeros(100, 81)) == "reference"


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: Frames(torch.zeros(4, 3)), r"\[N, 3, 3\], got the shape \[4, 3\]"),
        (lambda: Transport(hard(), torch.zeros(3, 4).long()), r"edge_index is \[2, E\]"),
        (lambda: Transport(hard(), torch.zeros(2, 4)), "int64"),
        (lambda: Transport(hard(), graph(), backend="gpu"), "'gpu'"),
        (
            lambda: Transport(hard(), graph()).between(parse_reps("1o"), torch.zeros(7, 4)),
            r"1x1o.*dimension 3",
        ),
        (
            lambda: Transport(hard(), graph()).to_local(parse_reps("1o"), torch.zeros(5, 3)),
            "features of 5 nodes meet frames of 7",
        ),
        (
            lambda: Transport(hard(), graph(), backend="fused").between(
                parse_reps("1x4n"), torch.zeros(7, 81)
            ),
            "81",
        ),
        (lambda: update_by_quaternion(hard(), torch.zeros(7, 3)), r"\[N, 4\]"),
        (lambda: update_by_matrix(hard(), torch.zeros(7, 3)), r"\[N, 3, 3\]"),
    ],
)
def test_wrong_arguments_are_named(call, problem):
    with pytest.raises(ValueError, match=problem):
        call()


def test_it_compiles_without_a_break():
    rep, index = parse_reps("2x0e+2x1o+1x2e"), graph(30, 400)
    x = torch.randn(30, rep.dim)

    def function(matrices: Tensor, x: Tensor) -> Tensor:
        return Transport(Frames(matrices), index, backend="reference").between(rep, x)

    matrices = hard(30).matrices.float()
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(matrices, x), function(matrices, x), atol=1e-6)
