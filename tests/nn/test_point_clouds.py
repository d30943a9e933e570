"""Set abstraction, feature propagation and dynamic graphs: equivariant, and right by loops."""

import pytest
import torch
from torch import nn

from dreibein.frames import Frames, Transport, identity
from dreibein.nn import DynamicEdgeConv, FeaturePropagation, PointCloud, SetAbstraction
from dreibein.o3 import parse_reps
from nn.cloud_samples import (
    CONSTRUCTIONS,
    SIZES,
    cloud,
    equivariance_error,
    given,
    points,
    predictor,
)
from nn.frame_samples import REPS, randn, relative, turns

OUT = parse_reps("2x0n+1x1n+1x2e")
RADIUS = 1.0


def network(width, out):
    return nn.Sequential(nn.Linear(width, 16), nn.SiLU(), nn.Linear(16, out))


def abstraction(reps, out=OUT, count=5, radius=RADIUS, neighbors=8):
    torch.manual_seed(0)
    net = network(reps.dim + 3, out.dim)
    return SetAbstraction(reps, out, net, count=count, radius=radius, neighbors=neighbors).double()


def propagation(reps, out=OUT, k=3):
    torch.manual_seed(0)
    return FeaturePropagation(reps, reps, out, network(2 * reps.dim, out.dim), k=k).double()


def dynamic(reps, out=OUT, k=4):
    torch.manual_seed(0)
    return DynamicEdgeConv(reps, out, network(2 * reps.dim, out.dim), k=k).double()


class UpFrom(nn.Module):
    """Feature propagation from the first points of each cloud."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, fine):
        if fine.batch is None:
            return self.layer(fine.select(torch.arange(len(fine)) < 4), fine)
        first = torch.searchsorted(fine.batch, fine.batch)
        return self.layer(fine.select(torch.arange(len(fine)) - first < 4), fine)


BUILDS = {
    "abstraction": abstraction,
    "propagation": lambda reps: UpFrom(propagation(reps)),
    "dynamic": dynamic,
}
LAYERS = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS.keys())
SCALARS = parse_reps("5x0n")
MIXED = parse_reps(REPS["mixed"])


@LAYERS
@pytest.mark.parametrize("reps", REPS.values(), ids=REPS.keys())
@pytest.mark.parametrize("frames", CONSTRUCTIONS)
@pytest.mark.parametrize("reflect", [False, True])
def test_equivariant(build, reps, frames, reflect):
    reps = parse_reps(reps)
    assert equivariance_error(build(reps), reps, OUT, frames, reflect=reflect) < 1e-12


@LAYERS
def test_without_frames_it_is_caught(build):
    assert equivariance_error(build(MIXED), MIXED, OUT, "laboratory") > 1e-2


def not_turned(transport, rep, x, weights):
    """A sum of features as their senders wrote them."""
    total = x.new_zeros(len(transport.targets), x.shape[1])
    return total.index_add(0, transport.receiver, x[transport.sender] * weights[:, None])


@LAYERS
def test_what_a_point_hears_does_not_depend_on_the_axes_of_others(build, monkeypatch):
    layer, (pos, batch) = build(MIXED), points()
    first = cloud(pos, batch, MIXED, given(MIXED), "gram_schmidt")
    q = torch.eye(3).double().repeat(len(pos), 1, 1)
    q[1::2] = turns(True)[0]
    turn = Frames(q)
    second = PointCloud(
        pos, Frames(q @ first.frames.matrices), turn.to_local(MIXED, first.x), batch
    )

    def difference():
        before, after = layer(first), layer(second)
        kept = (before.pos[:, None] == pos[::2]).all(-1).any(-1)
        return relative(after.x[kept], before.x[kept])

    assert difference() < 1e-12
    # the mutant, which reads what the neighbors wrote in their axes, is invariant all the same
    monkeypatch.setattr(Transport, "between", lambda self, rep, x, **_: x[self.sender])
    monkeypatch.setattr(Transport, "sum", not_turned)
    assert difference() > 1e-2
    assert equivariance_error(layer, MIXED, OUT, "gram_schmidt") < 1e-12


@LAYERS
def test_a_batch_gives_what_its_clouds_give(build):
    layer, (pos, batch) = build(MIXED), points()
    x = given(MIXED)
    together = layer(cloud(pos, batch, MIXED, x))
    parts = []
    for b in range(len(SIZES)):
        own = batch == b
        parts.append(layer(cloud(pos[own], None, MIXED, x[own])).x)
    assert relative(together.x, torch.cat(parts)) < 1e-13


@LAYERS
def test_the_order_of_the_points_does_not_matter(build):
    layer, (pos, batch) = build(MIXED), points()
    x = given(MIXED)
    order = torch.cat([torch.randperm(14), 14 + torch.randperm(9)])
    if isinstance(layer, UpFrom):  # the same coarse points
        fine = cloud(pos, batch, MIXED, x)
        coarse = fine.select(torch.tensor([0, 3, 5, 8, 15, 17, 20, 22]))
        before, after = layer.layer(coarse, fine).x, layer.layer(coarse, fine.select(order)).x
        assert relative(after, before[order]) < 1e-13
        return
    before = layer(cloud(pos, batch, MIXED, x))
    after = layer(cloud(pos[order], batch, MIXED, x[order]))
    expected = before.x[order] if isinstance(layer, DynamicEdgeConv) else before.x
    assert relative(after.x, expected) < 1e-12


def test_abstraction_is_the_published_one_for_laboratory_frames():
    """PointNet++ by loops, arXiv 1706.02413: max over the ball of MLP([x_j, p_j - p_i])."""
    layer, (pos, _) = abstraction(SCALARS, neighbors=100), points((14,))
    x = randn(14, 5)
    found = layer(PointCloud(pos, identity(dtype=torch.float64), x))
    assert len(found) == 5
    for i in range(5):
        away = pos - found.pos[i]
        near = away.norm(dim=1) <= RADIUS
        y = layer.grouping.network(torch.cat((x[near], away[near] / RADIUS), 1)).amax(0)
        assert relative(found.x[i], y) < 1e-13


def test_propagation_is_the_published_one_for_laboratory_frames():
    layer, (pos, _) = propagation(SCALARS), points((14,))
    x = randn(14, 5)
    fine = PointCloud(pos, identity(dtype=torch.float64), x)
    coarse = fine.select(torch.arange(4))
    near = (pos[:, None] - pos[:4]).norm(dim=-1)
    expected = []
    for i in range(14):
        d, j = near[i].topk(3, largest=False)
        w = 1 / (d.square() + 1e-16)
        expected.append((w[:, None] * x[j]).sum(0) / w.sum())
    expected = layer.network(torch.cat((torch.stack(expected), x), 1))
    assert relative(layer(coarse, fine).x, expected) < 1e-12


def test_dynamic_graphs_are_those_of_the_global_features():
    """Neighbors in feature space by loops; the same features in other frames, the same graph."""
    reps, (pos, batch) = parse_reps("2x0n+2x1n+1x2e"), points()
    layer, x = dynamic(reps), given(reps)
    edges = layer.neighbors(cloud(pos, batch, reps, x, "gram_schmidt"))
    for i in range(len(pos)):
        gaps = (x - x[i]).norm(dim=1)
        gaps[i] = gaps[batch != batch[i]] = torch.inf
        assert edges[0][edges[1] == i].tolist() == gaps.topk(4, largest=False)[1].tolist()
    assert torch.equal(edges, layer.neighbors(cloud(pos, batch, reps, x, "laboratory")))


def test_a_fine_point_that_is_a_coarse_one_hears_it_alone():
    reps, (pos, batch) = parse_reps("2x0n+1x1n"), points()
    layer = FeaturePropagation(reps, "1x0n", reps, nn.Identity()).double()
    layer.network = nn.Linear(reps.dim + 1, reps.dim, bias=False).double()
    layer.network.weight.data = torch.eye(reps.dim + 1)[:-1].double()
    coarse = cloud(pos, batch, reps, given(reps))
    fine = coarse.with_features(randn(len(pos), 1))
    # the way out of a frame and back is U U^T for soft frames
    frames = predictor("gram_schmidt")(pos, batch)
    coarse, fine = (PointCloud(c.pos, frames, c.x, batch) for c in (coarse, fine))
    assert relative(layer(coarse, fine).x, coarse.x) < 1e-12


@LAYERS
@pytest.mark.parametrize("frames", ["soft", "laboratory"])
def test_gradients_are_finite_for_coincident_points(build, frames):
    pos, batch = points()
    pos[3] = pos[2]
    pos[14:17] = pos[14]
    pos.requires_grad_()
    x = given(MIXED).requires_grad_()
    layer = build(MIXED)
    y = layer(cloud(pos, batch, MIXED, x, frames)).x
    assert torch.isfinite(y).all()
    for gradient in torch.autograd.grad(
        y.square().sum(), [x, pos, *layer.parameters()], allow_unused=True
    ):
        assert gradient is None or torch.isfinite(gradient).all()


def test_gradients_of_propagation_are_right():
    layer, (pos, _) = propagation(parse_reps("1x0n")), points((6,))
    x = randn(6, 1)

    def y(pos, x):
        fine = PointCloud(pos, identity(dtype=torch.float64), x)
        return layer(PointCloud(pos[:3] + 0.1, fine.frames.select(torch.arange(3)), x[:3]), fine).x

    assert torch.autograd.gradcheck(y, (pos.requires_grad_(), x.requires_grad_()))


@LAYERS
@pytest.mark.parametrize("sizes", [(1,), (2,), (1, 3)])
def test_small_clouds(build, sizes):
    """A single point, and fewer points than k, neighbors and count."""
    pos, batch = points(sizes)
    out = build(MIXED)(cloud(pos, batch, MIXED, given(MIXED, len(pos))))
    assert len(out) == len(pos)
    assert torch.isfinite(out.x).all()


def test_where_nothing_arrives_there_is_zero():
    (pos, _), reps = points((1,)), MIXED
    assert dynamic(reps)(cloud(pos, None, reps, given(reps, 1))).x.abs().max() == 0
    layer = FeaturePropagation(reps, "1x0n", reps, nn.Identity())
    layer.network = nn.Linear(reps.dim + 1, reps.dim, bias=False).double()
    fine = cloud(*points((2, 1)), SCALARS, randn(3, 5)).with_features(torch.zeros(3, 1).double())
    other = fine.select(torch.tensor([0, 1])).with_features(given(reps, 2))
    found = layer(other, fine).x  # the second cloud has no coarse point
    assert found[2].abs().max() == 0
    assert found[:2].abs().min() > 0


@LAYERS
def test_float32(build):
    pos, batch = points()
    layer = build(MIXED)
    expected = layer(cloud(pos, batch, MIXED, given(MIXED)))
    frames = predictor()(pos, batch).to(torch.float32)
    single = PointCloud(pos, frames, frames.to_local(MIXED, given(MIXED).float()), batch)
    found = layer.float()(single).x
    assert found.dtype == torch.float32
    assert relative(found.double(), expected.x) < 1e-5


WRONG = [
    (lambda: PointCloud(torch.zeros(4, 2), identity(), torch.zeros(4, 1)), r"positions are \[N, 3"),
    (
        lambda: PointCloud(torch.zeros(4, 3), identity(), torch.zeros(5, 1)),
        "a cloud of 4 points has features of 5",
    ),
    (
        lambda: PointCloud(torch.zeros(4, 3), Frames(torch.zeros(3, 3, 3)), torch.zeros(4, 1)),
        "a cloud of 4 points has frames of 3",
    ),
    (lambda: abstraction(SCALARS, count=0), "at least 1, got 0 and 8"),
    (lambda: abstraction(SCALARS, radius=0.0), "positive length, got 0.0"),
    (lambda: propagation(SCALARS, k=0), "coarse points, at least 1, got 0"),
    (lambda: dynamic(SCALARS, k=0), "neighbors, at least 1, got 0"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@LAYERS
def test_wrong_widths_are_named(build):
    layer, (pos, batch) = build(MIXED), points()
    right = cloud(pos, batch, MIXED, given(MIXED))
    with pytest.raises(ValueError, match=r"3x0n\+2x1n\+1x2e"):
        layer(right.with_features(right.x[:, 1:]))
    inner = layer.layer if isinstance(layer, UpFrom) else layer
    net = next(m for m in inner.modules() if isinstance(m, nn.Sequential))
    net[2] = nn.Linear(16, 4).double()
    with pytest.raises(ValueError, match="returns 4 numbers"):
        layer(right)
