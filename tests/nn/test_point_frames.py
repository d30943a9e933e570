"""Learned frames of clouds turn with them, mirror with them, and are smooth in the points."""

import pytest
import torch

from dreibein.frames import soft_frames
from dreibein.nn import PointFrames, centered
from nn.cloud_samples import points, predictor
from nn.frame_samples import randn, relative, turns


@pytest.mark.parametrize("construct", ["soft", "gram_schmidt"])
@pytest.mark.parametrize("reflect", [False, True])
def test_frames_turn_with_the_cloud(construct, reflect):
    frames, (pos, batch) = predictor(construct), points()
    before = frames(pos, batch).matrices
    for g in turns(reflect):
        shift = torch.tensor([3.0, -2.0, 1.0])[batch[:, None] * 0 + torch.arange(3)]
        assert relative(frames(pos @ g.T + shift, batch).matrices, before @ g.T) < 1e-12


def test_weights_that_see_the_axes_are_caught():
    mutant, (pos, batch), g = predictor(), points(), turns(False)[0]
    mutant.outward.register_forward_hook(lambda module, args, out: out + module.seen)
    mutant.outward.seen = pos[:, :1]
    before = mutant(pos, batch).matrices
    mutant.outward.seen = (pos @ g.T)[:, :1]
    assert relative(mutant(pos @ g.T, batch).matrices, before @ g.T) > 1e-3


def test_they_are_orthonormal_and_of_both_hands():
    matrices = predictor("gram_schmidt")(*points()).matrices
    eye = torch.eye(3).double().expand_as(matrices)
    assert relative(matrices @ matrices.mT, eye) < 1e-12
    assert set(torch.linalg.det(matrices).round().tolist()) == {-1.0, 1.0}


def test_batches_and_orders_do_not_matter():
    frames, (pos, batch) = predictor("gram_schmidt"), points()
    together = frames(pos, batch).matrices
    alone = [frames(pos[batch == b]).matrices for b in (0, 1)]
    assert relative(together, torch.cat(alone)) < 1e-13
    order = torch.cat((torch.arange(13, -1, -1), torch.arange(22, 13, -1)))
    assert relative(frames(pos[order], batch).matrices, together[order]) < 1e-12


def test_vectors_do_not_jump_when_neighbors_change():
    """A point passes from ninth to eighth nearest: soft frames move by steps that shrink."""
    frames = predictor()
    base = 0.4 * randn(12, 3, seed=4)
    far, near = 3.0 * base[11], 0.1 * base[11]

    def largest_step(count):
        path = torch.linspace(0, 1, count).double()[:, None]
        clouds = base.repeat(count, 1, 1)
        clouds[:, 11] = far + path * (near - far)
        batch = torch.arange(count).repeat_interleave(12)
        matrices = frames(clouds.flatten(0, 1), batch).matrices.view(count, 12, 3, 3)
        return (matrices[1:] - matrices[:-1]).detach().abs().max()

    assert largest_step(400) < 0.2 * largest_step(40)
    # the mutant: neighbors that count until they are replaced
    frames.predictor.envelope = torch.nn.Hardtanh(1.0, 1.0 + 1e-15)
    assert largest_step(400) > 0.5 * largest_step(40)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_small_and_coincident_clouds_are_finite(count):
    for pos in (randn(count, 3), torch.zeros(count, 3).double()):
        pos.requires_grad_()
        matrices = predictor()(pos).matrices
        assert matrices.shape == (count, 3, 3)
        assert torch.isfinite(matrices).all()
        if count:
            (gradient,) = torch.autograd.grad(matrices.square().sum(), pos)
            assert torch.isfinite(gradient).all()


def test_every_parameter_is_used():
    frames = PointFrames(construct=soft_frames)
    frames(randn(20, 3)).matrices[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in frames.parameters())


def test_centered():
    pos, batch = points()
    found = centered(pos + 100.0, batch)
    assert relative(found[batch == 1], pos[batch == 1] - pos[batch == 1].mean(0)) < 1e-13
    assert centered(torch.zeros(0, 3)).shape == (0, 3)
