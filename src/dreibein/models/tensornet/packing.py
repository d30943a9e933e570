"""Nine numbers for a 3x3 matrix: its coordinates in an orthonormal basis of matrices."""

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

BLOCKS = (1, 3, 5)  # sizes of I, A, S


def matrix_basis() -> Tensor:
    """Orthonormal matrices [9, 3, 3]: 1 / sqrt(3), [e_k]x / sqrt(2), five of l = 2; float64."""
    basis = torch.zeros(9, 3, 3, dtype=torch.float64)
    basis[0] = torch.eye(3, dtype=torch.float64) / math.sqrt(3.0)
    for k, (a, b) in enumerate(((2, 1), (0, 2), (1, 0)), start=1):
        basis[k, a, b], basis[k, b, a] = math.sqrt(0.5), -math.sqrt(0.5)
    for k, (a, b) in ((4, (0, 2)), (5, (0, 1)), (7, (1, 2))):
        basis[k, a, b] = basis[k, b, a] = math.sqrt(0.5)
    for k, diagonal, norm in ((6, (-1.0, 2.0, -1.0), 6.0), (8, (-1.0, 0.0, 1.0), 2.0)):
        basis[k] = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) / math.sqrt(norm)
    return basis


class Packing(nn.Module):
    """The nine components of a matrix and back: x_a = <B_a, X>, X = sum_a x_a B_a."""

    basis: Tensor
    block_of: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", matrix_basis().flatten(1), persistent=False)
        block_of = torch.repeat_interleave(torch.arange(3), torch.tensor(BLOCKS))
        self.register_buffer("block_of", block_of, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        # made again, not rounded: a network moved from float32 to float64 must be exact there
        self.basis = matrix_basis().flatten(1).to(self.basis)
        return self

    def matrices(self, x: Tensor) -> Tensor:
        """Packed features [N, 9, F] as matrices [N, 3, 3, F]."""
        return torch.matmul(self.basis.T, x).unflatten(1, (3, 3))

    def components(self, matrix: Tensor) -> Tensor:
        """Matrices [N, 3, 3, F] as packed features [N, 9, F]."""
        return torch.matmul(self.basis, matrix.flatten(1, 2))

    def spread(self, x: Tensor) -> Tensor:
        """Numbers of the blocks I, A, S [N, 3, F] repeated for each component [N, 9, F]."""
        return x.index_select(1, self.block_of)


class ChannelMixing(nn.Module):
    """I, A, S each through its own F x F matrix without bias: W_I I + W_A A + W_S S.

    Args:
        channels: F.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, channels, channels))  # [block, out, in]
        bound = 1.0 / math.sqrt(channels)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of features [N, 9, F]."""
        parts = x.split(BLOCKS, dim=1)
        return torch.cat([part @ w.T for part, w in zip(parts, self.weight, strict=True)], dim=1)


def squared_norm(x: Tensor) -> Tensor:
    """Squared Frobenius norm [N, F] of packed features [N, 9, F]."""
    return (x * x).sum(1)


def block_norms(x: Tensor) -> Tensor:
    """||I||^2, ||A||^2, ||S||^2 [N, 3, F] of packed features [N, 9, F]."""
    return torch.stack([squared_norm(part) for part in x.split(BLOCKS, dim=1)], dim=1)


def matrix_product(a: Tensor, b: Tensor) -> Tensor:
    """Products a b of matrices [N, 3, 3, F], channel by channel.

    A broadcast and a sum: for 3x3 matrices this is faster than a batched matrix product, in
    both derivatives too.
    """
    return (a.unsqueeze(3) * b.unsqueeze(1)).sum(2)
