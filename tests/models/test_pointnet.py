"""PointNet++ between frames: equivariant as a whole, ordinary in the laboratory frame."""

from functools import partial

import pytest
import torch

from dreibein.frames import (
    Frames,
    gram_schmidt,
    identity,
    neighbor_frames,
    random_global,
    soft_frames,
)
from dreibein.models import PointLevel, PointNet
from dreibein.neighbors import nearest_points
from dreibein.nn import PointFrames
from dreibein.o3 import act, parse_reps, random_rotations

OUT = "1x1n+1x0p+1x2e"
LEVELS = (
    PointLevel(8, 0.5, 6, "4x0n+2x1n"),
    PointLevel(3, 1.0, 6, "4x0n+2x1n+1x2n"),
    PointLevel(1, None, 8, "6x0n+2x1n"),
)
SIZES = (24, 15)


def network(**options):
    torch.manual_seed(0)
    return PointNet(OUT, reps="4x0n+2x1n", levels=LEVELS, **options).double()


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def points():
    return 0.4 * randn(sum(SIZES), 3), torch.arange(2).repeat_interleave(torch.tensor(SIZES))


def learned(construct):
    torch.manual_seed(1)
    return PointFrames(neighbors=8, construct=construct).double()


def from_neighbors(pos, batch, group="O(3)"):
    edges = nearest_points(pos, 3, batch=batch)
    return neighbor_frames(pos[edges[0]] - pos[edges[1]], edges, len(pos), group=group)


FRAMES = {
    "learned": learned(partial(gram_schmidt, group="O(3)")),
    "soft": learned(soft_frames),
    "neighbors": from_neighbors,
    "laboratory": lambda pos, batch: identity(dtype=torch.float64),
    "right-handed": partial(from_neighbors, group="SO(3)"),
}


def turns(reflect):
    g = random_rotations(3, generator=torch.Generator().manual_seed(5))
    return -g if reflect else g


def equivariance_error(frames, reflect, in_reps=None):
    (pos, batch), model, out = points(), network(in_reps=in_reps), parse_reps(OUT)
    x = None if in_reps is None else randn(len(pos), parse_reps(in_reps).dim, seed=2)
    before, worst = model(pos, frames(pos, batch), batch, x), 0.0
    for g in turns(reflect):
        turned = pos @ g.T + 1.0
        given = None if x is None else act(parse_reps(in_reps), g, x)
        after = model(turned, frames(turned, batch), batch, given)
        expected = act(out, g, before)
        error = (after - expected).detach().abs().max() / expected.detach().abs().max()
        worst = max(worst, float(error))
    return worst


@pytest.mark.parametrize("frames", ["learned", "soft", "neighbors"])
@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("in_reps", [None, "1x0n+1x1p"])
def test_equivariant(frames, reflect, in_reps):
    assert equivariance_error(FRAMES[frames], reflect, in_reps) < 1e-12


def test_frames_that_do_not_turn_are_caught():
    assert equivariance_error(FRAMES["laboratory"], False) > 1e-2


def test_right_handed_frames_do_not_mirror():
    """SO(3) frames turn but do not mirror: e1 × e2 is an axial vector, a normal is a polar one."""
    assert equivariance_error(FRAMES["right-handed"], False) < 1e-12
    assert equivariance_error(FRAMES["right-handed"], True) > 1e-2


def test_augmentation_is_one_random_frame_for_all():
    """The laboratory network on a turned cloud is the network with a global frame, turned back."""
    (pos, batch), model = points(), network()
    frames = random_global(
        generator=torch.Generator().manual_seed(7), batch=batch, improper=True, dtype=torch.float64
    )
    g = frames.matrices
    turned = torch.einsum("nij,nj->ni", g, pos)
    expected = model(turned, identity(dtype=torch.float64), batch)
    expected = Frames(g).to_global(parse_reps(OUT), expected)
    assert (model(pos, frames, batch) - expected).abs().max() < 1e-12


def test_batches_orders_and_places_do_not_matter():
    (pos, batch), model, frames = points(), network(), FRAMES["learned"]
    together = model(pos, frames(pos, batch), batch)
    alone = [model(pos[batch == b], frames(pos[batch == b], None)) for b in (0, 1)]
    assert (together - torch.cat(alone)).abs().max() < 1e-12
    order = torch.cat((torch.randperm(24), 24 + torch.randperm(15)))
    moved = model(pos[order], frames(pos[order], batch), batch)
    assert (moved - together[order]).abs().max() < 1e-11


def test_every_parameter_learns():
    (pos, batch), model, frames = points(), network(), FRAMES["learned"]
    frames.zero_grad()
    model(pos, frames(pos, batch), batch).square().sum().backward()
    for name, parameter in (*model.named_parameters(), *frames.named_parameters()):
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("count", [1, 2])
def test_tiny_and_coincident_clouds(count):
    pos = torch.zeros(count, 3).double()
    found = network()(pos, FRAMES["soft"](pos))
    assert found.shape == (count, 9)
    assert torch.isfinite(found).all()


def test_float32_is_near_float64():
    (pos, batch), model, frames = points(), network(), FRAMES["soft"]
    expected = model(pos, frames(pos, batch), batch)
    found = model.float()(pos, frames(pos, batch), batch)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 1e-4


def test_wrong_arguments_are_named():
    pos, batch = points()
    with pytest.raises(ValueError, match=r"MLPReps\(4\) has a learned part"):
        PointNet("m4")
    with pytest.raises(ValueError, match="takes positions and no features"):
        network()(pos, identity(), batch, pos)
    with pytest.raises(ValueError, match=r'features of TensorReps\("1x0n"\)'):
        network(in_reps="1x0n")(pos, identity(), batch)
    with pytest.raises(ValueError, match="dim"):
        network(in_reps="1x0n")(pos, identity(dtype=torch.float64), batch, pos)
