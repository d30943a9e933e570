"""Local frames as data, and features carried between them.

A frame matrix R has the axes as rows; under g the positions go x -> g x and R -> R g^T. Then

    to local    act(rep, R_i, x)            invariant
    to global   act(rep, R_i^T, x)          the way back (exactly so if R_i is orthogonal)
    j to i      act(rep, R_i) act(rep, R_j^T) x_j  = act(rep, R_i R_j^T) x_j for orthogonal frames

    Frames(matrices)                     a value: .to_local(rep, x), .to_global(rep, x), .quality
    gram_schmidt, polar(vectors)         hard frames from vectors [N, k, 3]; SO(3) by default
    soft_frames(vectors, eps=0.01)       smooth and deterministic everywhere; for potentials
    neighbor_frames, inertia_frames      hard frames from the geometry alone
    fixed_axis, random_global, identity  a given direction; augmentation; no frames
    update_by_quaternion, update_by_matrix   R <- Q R between layers, x <- act(rep, Q, x)
    Transport(frames, edge_index)        built once a graph, with
        .between(rep, x)                     features of senders in the frames of receivers
        .edges_to_local(rep, e)              global features of edges in the frames of receivers
        .sum(rep, x, weights)                linear messages, turned once a node
    FrameCounter                         near-singular sites over many calls
    EdgeAlignment(vectors, edges, N)     axes along the edges, for tensor products with harmonics

No constructor makes a random choice, except `random_global`, which is given its generator.
"""

from .aligned import EdgeAlignment, edge_frames
from .fixed import fixed_axis, identity, random_global
from .frames import FrameCounter, Frames
from .geometric import inertia_frames, neighbor_frames
from .orthonormal import gram_schmidt, polar
from .soft import soft_frames
from .transport import Transport
from .updates import update_by_matrix, update_by_quaternion

__all__ = [
    "EdgeAlignment",
    "FrameCounter",
    "Frames",
    "Transport",
    "edge_frames",
    "fixed_axis",
    "gram_schmidt",
    "identity",
    "inertia_frames",
    "neighbor_frames",
    "polar",
    "random_global",
    "soft_frames",
    "update_by_matrix",
    "update_by_quaternion",
]
