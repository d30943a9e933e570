"""Point sets whose sites leave no frame, and smooth equivariant vectors on them."""

import torch
from torch import Tensor


def _stack(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def methane() -> Tensor:
    a = 0.629
    return _stack([0, 0, 0], [a, a, a], [a, -a, -a], [-a, a, -a], [-a, -a, a])


def water() -> Tensor:
    return _stack([0, 0, 0.117], [0, 0.757, -0.469], [0, -0.757, -0.469])


def ammonia() -> Tensor:
    angle = torch.arange(3, dtype=torch.float64) * 2 * torch.pi / 3
    ring = torch.stack([0.94 * angle.cos(), 0.94 * angle.sin(), torch.full((3,), -0.27)], 1)
    return torch.cat([_stack([0, 0, 0.11]), ring.double()])


def carbon_dioxide() -> Tensor:
    return _stack([0, 0, 0], [0, 0, 1.16], [0, 0, -1.16])


def benzene() -> Tensor:
    angle = torch.arange(6, dtype=torch.float64) * torch.pi / 3
    unit = torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
    return torch.cat([1.39 * unit, 2.48 * unit])


def fcc() -> Tensor:
    """A site of fcc copper with its two shells of neighbors."""
    near = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * 3)
    near = near[(near.abs().sum(1) == 2) | (near.abs().sum(1) == 0)]
    near = near[near.abs().sum(1).argsort(stable=True)]
    return 1.81 * torch.cat([near, 2 * torch.eye(3).double(), -2 * torch.eye(3).double()])


def random(count: int = 7) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(5)).double()


CLOUDS = {
    "methane": methane,
    "water": water,
    "ammonia": ammonia,
    "carbon dioxide": carbon_dioxide,
    "benzene": benzene,
    "fcc": fcc,
    "random": random,
}


def edges(points: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs: edge_index [2, E] sorted by receiver and r_ij = x_j - x_i."""
    receiver, sender = (torch.cdist(points.detach(), points.detach()) > 1e-9).nonzero().T
    return torch.stack([sender, receiver]), points[sender] - points[receiver]


def smooth_vectors(points: Tensor, count: int = 3) -> Tensor:
    """v_k,i = sum_j exp(-k r^2 / 4) r_ij: [N, count, 3], equivariant and smooth."""
    index, r = edges(points)
    square = r.square().sum(-1)
    weights = torch.stack([torch.exp(-0.25 * k * square) for k in range(1, count + 1)], 1)
    vectors = points.new_zeros(len(points), count, 3)
    return vectors.index_add(0, index[1], weights[..., None] * r[:, None])
