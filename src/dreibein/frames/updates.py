"""Frames turned between layers: R <- Q R with invariant Q, and features x <- act(rep, Q, x).

Q is predicted in the local frame, hence invariant, so Q R is a frame again (Q R -> Q R g^T). Both
functions return the new frames and the turn as `Frames` of the matrices Q: `turn.to_local(rep, x)`
carries the features along.
"""

import torch
from torch import Tensor

from dreibein.o3 import from_quaternion

from .frames import NEAR_SINGULAR, Frames
from .orthonormal import polar


def update_by_quaternion(frames: Frames, quaternion: Tensor) -> tuple[Frames, Frames]:
    """Turn by Q(1 + q), with q = 0 for no turn; near |1 + q| = 0 the turn is the identity.

    Args:
        frames: R, [N, 3, 3].
        quaternion: invariant q = (w, x, y, z) [N, 4].

    >>> frames = Frames(torch.eye(3)[None])
    >>> update_by_quaternion(frames, torch.tensor([[-1.0, 0.0, 0.0, 1.0]]))[0].matrices
    tensor([[[-1.,  0.,  0.], [ 0., -1.,  0.], [ 0.,  0.,  1.]]])
    """
    if quaternion.shape[-1:] != (4,):
        raise ValueError(f"a quaternion is [N, 4], got the shape {list(quaternion.shape)}")
    one = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64, device=quaternion.device)
    q = quaternion.double() + one
    square = q.detach().square().sum(-1)
    bad = square <= torch.finfo(quaternion.dtype).eps
    matrices = from_quaternion(torch.where(bad[:, None], one, q))
    quality = torch.where(bad, 0, square.sqrt().clamp(max=1)).to(frames.matrices.dtype)
    return _turned(frames, Frames(matrices.to(frames.matrices.dtype), quality, NEAR_SINGULAR))


def update_by_matrix(frames: Frames, matrix: Tensor) -> tuple[Frames, Frames]:
    """Turn by the rotation nearest to 1 + M, with M = 0 for no turn; the identity where none is.

    Args:
        frames: R, [N, 3, 3].
        matrix: invariant M [N, 3, 3].

    >>> frames = Frames(torch.eye(3)[None])
    >>> new, turn = update_by_matrix(frames, torch.zeros(1, 3, 3))
    >>> torch.equal(new.matrices, frames.matrices)
    True
    """
    if matrix.shape[-2:] != (3, 3):
        raise ValueError(f"expected matrices [N, 3, 3], got the shape {list(matrix.shape)}")
    target = matrix + torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    turn = polar(target, degenerate="axis").to(frames.matrices.dtype)
    return _turned(frames, turn)


def _turned(frames: Frames, turn: Frames) -> tuple[Frames, Frames]:
    product = (turn.matrices.double() @ frames.matrices.double()).to(frames.matrices.dtype)
    return Frames(product, frames.quality, frames.threshold), turn
