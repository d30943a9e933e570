"""Frames that no vector of the structure decides: a given axis, one for all, none."""

from collections.abc import Callable

import torch
from torch import Tensor

from dreibein.o3 import random_rotations

from .frames import Frames
from .orthonormal import gram_schmidt


def identity(*, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Frames:
    """The laboratory frame for every node: nothing is transformed, and nothing is equivariant.

    >>> len(identity())
    1
    """
    matrices = torch.eye(3, dtype=dtype, device=device)[None]
    return Frames(matrices, uniform=True, is_identity=True)


def random_global(
    *,
    generator: torch.Generator,
    batch: Tensor | None = None,
    improper: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Frames:
    """One random frame for all nodes of a structure: data augmentation in place of equivariance.

    Args:
        generator: the only source of chance; on `device`.
        batch: structure of each node [N]; None for one frame altogether.
        improper: draw from O(3) instead of SO(3).
        dtype: type of the frames.
        device: where they are; that of `batch` if given.
    """
    device = device if batch is None else batch.device
    count = 1 if batch is None else int(batch.max()) + 1 if len(batch) else 0
    turns = random_rotations(
        count, generator=generator, improper=improper, dtype=dtype, device=device
    )
    return Frames(turns if batch is None else turns[batch], uniform=True)


def fixed_axis(
    axis: Tensor,
    vectors: Tensor,
    build: Callable[[Tensor], Frames] = gram_schmidt,
) -> Frames:
    """Frames whose first vector is a given direction: equivariant under turns about it.

    The axis may be gravity, a field or a surface normal.

    Args:
        axis: [3] or [N, 3], of length one or so.
        vectors: equivariant vectors [N, 3] or [N, k, 3] that follow it.
        build: `gram_schmidt`, `polar`, `soft_frames` or a partial of them.

    >>> down = torch.tensor([0.0, 0.0, -1.0])
    >>> fixed_axis(down, torch.tensor([[0.0, 2.0, 5.0]])).matrices[0, :2]
    tensor([[ 0.,  0., -1.],
            [ 0.,  1.,  0.]])
    """
    if axis.shape[-1:] != (3,):
        raise ValueError(f"an axis is [3] or [N, 3], got the shape {list(axis.shape)}")
    if vectors.ndim == 2:
        vectors = vectors[:, None]
    first = axis.to(vectors).expand(len(vectors), 3)[:, None]
    return build(torch.cat([first, vectors], 1))
