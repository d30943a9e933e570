"""Graphs with frames for the layers' tests, and the one law they share."""

import torch

from dreibein.frames import Frames, Transport, gram_schmidt, soft_frames
from dreibein.o3 import parse_reps, random_rotations

REPS = {
    "scalars": "6x0n",
    "cartesian": "4x0n+2x1n+1x1p+1x2n",
    "irreps": "4x0e+1x0o+2x1o+1x1e+1x2e",
    "mixed": "3x0n+2x1n+1x2e",
    "learned": "m10",
    "partly-learned": "2x0n+2x1n+m6",
}
CONSTRUCTIONS = {"soft": soft_frames, "gram_schmidt": gram_schmidt}
NUM_NODES = 6


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def edges(num_nodes=NUM_NODES):
    """All ordered pairs, sorted by receiver."""
    i, j = torch.meshgrid(torch.arange(num_nodes), torch.arange(num_nodes), indexing="ij")
    keep = i != j
    return torch.stack((j[keep], i[keep]))


def frames_of(name, vectors):
    return CONSTRUCTIONS[name](vectors)


def sample(name="soft", seed=0, num_nodes=NUM_NODES):
    """Vectors that make frames [N, 3, 3], and their transport."""
    vectors = randn(num_nodes, 3, 3, seed=seed)
    return vectors, Transport(frames_of(name, vectors), edges(num_nodes))


def turns(reflect):
    """Three rotations, reflected or not, in float64."""
    g = random_rotations(3, generator=generator(5), dtype=torch.float64)
    return -g if reflect else g


def relative(value, expected):
    difference = (value - expected).detach().abs().max()
    return float(difference / expected.detach().abs().max().clamp(min=1e-3))


def equivariance_error(layer, in_reps, out_reps, name, *, reflect=False, bare=False):
    """Largest relative change of R_i^T layer(R_i x, ...) against its own turn.

    `bare` reads and writes the features without frames: the mutant that must fail. A learned part
    has no global form; there it is the local output that must not change.
    """
    vectors, transport = sample(name)
    in_reps, out_reps = parse_reps(in_reps), parse_reps(out_reps)
    learned = in_reps.needs_learned or out_reps.needs_learned
    x = randn(NUM_NODES, in_reps.dim, seed=1)
    worst = 0.0
    for g in turns(reflect):
        turned = Transport(frames_of(name, vectors @ g.T), transport.edge_index)
        if learned:
            error = relative(layer(x, turned), layer(x, transport))
        else:
            before = _through(layer, in_reps, out_reps, x, transport, bare)
            act = Frames(g.expand(NUM_NODES, 3, 3))
            after = _through(layer, in_reps, out_reps, act.to_local(in_reps, x), turned, bare)
            error = relative(after, act.to_local(out_reps, before))
        worst = max(worst, error)
    return worst


def _through(layer, in_reps, out_reps, x, transport, bare):
    if bare:
        return layer(x, transport)
    y = layer(transport.to_local(in_reps, x), transport)
    return transport.to_global(out_reps, y)
