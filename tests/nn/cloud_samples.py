"""Point clouds with frames for the tests of point-cloud layers and networks."""

from functools import partial

import torch

from dreibein.frames import Frames, gram_schmidt, identity, soft_frames
from dreibein.nn import PointCloud, PointFrames
from nn.frame_samples import randn, relative, turns

SIZES = (14, 9)
CONSTRUCTIONS = {"soft": soft_frames, "gram_schmidt": partial(gram_schmidt, group="O(3)")}


def points(sizes=SIZES, seed=0):
    """Positions of some clouds of about unit size, and their batch."""
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return 0.4 * randn(sum(sizes), 3, seed=seed), batch


def predictor(construct="soft"):
    torch.manual_seed(3)
    return PointFrames(neighbors=8, construct=CONSTRUCTIONS[construct]).double()


def cloud(pos, batch, reps, x, frames="soft"):
    """A cloud whose local features come from global ones (learned parts as they are)."""
    if frames == "laboratory":
        frames = Frames(identity(dtype=torch.float64).matrices.expand(len(pos), 3, 3))
    elif isinstance(frames, str):
        frames = predictor(frames)(pos, batch)
    local = x if reps.needs_learned else frames.to_local(reps, x)
    return PointCloud(pos, frames, local, batch)


def given(reps, count=23, seed=1):
    return randn(count, reps.dim, seed=seed)


def equivariance_error(apply, in_reps, out_reps, frames, *, reflect=False):
    """Largest relative change of `apply` (cloud to cloud) against the turn of its global output.

    A learned part has no global form; there it is the local output that must not change.
    """
    pos, batch = points()
    x = given(in_reps)
    learned = in_reps.needs_learned or out_reps.needs_learned
    before = apply(cloud(pos, batch, in_reps, x, frames))
    worst = 0.0
    for g in turns(reflect):
        act = Frames(g.expand(len(pos), 3, 3))
        turned = x if in_reps.needs_learned else act.to_local(in_reps, x)
        after = apply(cloud(pos @ g.T, batch, in_reps, turned, frames))
        if learned:
            worst = max(worst, relative(after.x, before.x))
            continue
        expected = before.frames.to_global(out_reps, before.x)
        expected = Frames(g.expand(len(expected), 3, 3)).to_local(out_reps, expected)
        worst = max(worst, relative(after.frames.to_global(out_reps, after.x), expected))
    return worst
