"""Matrices of O(3): random ones, from axes and angles, from quaternions."""

import torch
from torch import Tensor


def from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotation [..., 3, 3] of q = (w, x, y, z) [..., 4]: R v = q v q^-1, q of any length but zero.

    >>> from_quaternion(torch.tensor([2.0, 0.0, 0.0, 0.0]))
    tensor([[1., 0., 0.], [0., 1., 0.], [0., 0., 1.]])
    """
    w, x, y, z = (quaternion * (2.0 / quaternion.square().sum(-1, keepdim=True)).sqrt()).unbind(-1)
    rows = [
        torch.stack([1 - y * y - z * z, x * y - z * w, x * z + y * w], -1),
        torch.stack([x * y + z * w, 1 - x * x - z * z, y * z - x * w], -1),
        torch.stack([x * z - y * w, y * z + x * w, 1 - x * x - y * y], -1),
    ]
    return torch.stack(rows, -2)


def from_axis_angle(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotation [..., 3, 3] by `angle` [...] (rad) about the unit vector `axis` [..., 3]."""
    half = 0.5 * angle[..., None]
    return from_quaternion(torch.cat([half.cos(), half.sin() * axis], -1))


def random_rotations(
    count: int,
    *,
    generator: torch.Generator | None = None,
    improper: bool = False,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Tensor:
    """`count` rotations [count, 3, 3], uniform over SO(3), or over O(3) if `improper`.

    >>> R = random_rotations(4, generator=torch.Generator().manual_seed(0))
    >>> torch.dist(R @ R.mT, torch.eye(3)).item() < 1e-14
    True
    """
    normal = torch.randn(count, 4, generator=generator, dtype=torch.float64, device=device)
    rotations = from_quaternion(normal)
    if improper:
        coin = torch.randint(2, (count, 1, 1), generator=generator, device=device)
        rotations = rotations * (1 - 2 * coin)
    return rotations.to(dtype)
