"""Cartesian tensors as irreps and back: Q_n K_n(R) Q_n^T = sum of D^l(R), Q_n orthogonal.

    rank 2: 0e + 1e + 2e
    rank 3: 0o + 3x1o + 2x2o + 3o
    rank 4: 3x0e + 6x1e + 6x2e + 3x3e + 4e

(for a pseudotensor with the other parities). Q_n couples one index after the other, so its rows are
orthonormal and the inverse is the transpose. The pseudovector of a matrix T is eps_ijk T_jk /
sqrt(2), the 0e part tr T / sqrt(3). For matrices M that are not orthogonal the two sides act
differently (K_n(M) mixes trace and traceless part; P_l is the
traceless part of what K_l makes of a symmetric traceless tensor).
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .action import check_features
from .blocks import Block
from .coupling import FloatArray, couple_vector
from .irreps import Irrep, Irreps
from .tensors import Tensor as Cartesian
from .tensors import TensorReps


@lru_cache(maxsize=16)
def paths(rank: int) -> tuple[tuple[int, FloatArray], ...]:
    """(l, rows [2l+1, 3^rank]) of every irrep in a Cartesian tensor, by l; all orthonormal."""
    if rank == 0:
        return ((0, np.ones((1, 1))),)
    found = []
    for l, rows in paths(rank - 1):
        for degree in range(abs(l - 1), l + 2):
            if l == 0 and degree == 0:
                continue
            coupling = couple_vector(l, degree)
            row = np.einsum("aim,aT->mTi", coupling, rows).reshape(2 * degree + 1, -1)
            found.append((degree, row))
    return tuple(sorted(found, key=lambda path: path[0]))


def irreps_of(kind: Cartesian) -> Irreps:
    """Irreps in one Cartesian tensor.

    >>> irreps_of(Cartesian(2)), irreps_of(Cartesian(1, is_pseudo=True))
    (Irreps("1x0e+1x1e+1x2e"), Irreps("1x1e"))
    """
    return Irreps(Block(1, Irrep(l, kind.parity)) for l, _ in paths(kind.rank)).simplify()


def decompose(reps: TensorReps) -> Irreps:
    """Irreps that `to_irreps` makes of Cartesian features, block by block.

    >>> decompose(TensorReps("16x0n+8x1n+4x2n"))
    Irreps("16x0e+8x1o+4x0e+4x1e+4x2e")
    """
    return Irreps(Block(mul * count, ir) for mul, kind in reps for count, ir in irreps_of(kind))


def to_irreps(reps: TensorReps, x: Tensor) -> Tensor:
    """Cartesian features [..., reps.dim] as features of `decompose(reps)`; an isometry.

    >>> to_irreps(TensorReps("1x2n"), torch.eye(3).flatten())[:4]
    tensor([1.7321, 0.0000, 0.0000, 0.0000])
    """
    check_features(reps, x)
    pieces = []
    for (mul, kind), part in zip(reps, reps.slices()):
        rotated = x[..., part].unflatten(-1, (mul, kind.dim)) @ _matrix(kind.rank, x).mT
        for segment in irreps_of(kind).segments:
            pieces.append(rotated[..., segment.start : segment.stop].flatten(-2))
    return torch.cat(pieces, -1) if pieces else x


def to_cartesian(reps: TensorReps, x: Tensor) -> Tensor:
    """Inverse of `to_irreps`: features of `decompose(reps)` as Cartesian features of `reps`.

    >>> x = torch.randn(5, 27)
    >>> y = to_cartesian(TensorReps("1x3n"), to_irreps(TensorReps("1x3n"), x))
    >>> torch.allclose(x, y, atol=1e-5)
    True
    """
    check_features(decompose(reps), x)
    pieces, start = [], 0
    for mul, kind in reps:
        blocks = []
        for segment in irreps_of(kind).segments:
            width = segment.stop - segment.start
            block = x[..., start : start + mul * width]
            blocks.append(block.unflatten(-1, (mul, width)))
            start += mul * width
        pieces.append((torch.cat(blocks, -1) @ _matrix(kind.rank, x)).flatten(-2))
    return torch.cat(pieces, -1) if pieces else x


def symmetric_traceless(l: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Isometry [3^l, 2l+1] from degree l to the symmetric traceless tensors of rank l.

    >>> embedding = symmetric_traceless(2)
    >>> (embedding.mT @ torch.eye(3, dtype=torch.float64).flatten()).abs().max().item() < 1e-15
    True
    """
    return torch.tensor(paths(l)[-1][1].T, dtype=dtype)


@lru_cache(maxsize=64)
def _constant(rank: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(
            np.concatenate([rows for _, rows in paths(rank)]), dtype=dtype, device=device
        )


@torch.compiler.assume_constant_result
def _traced(rank: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return _constant(rank, dtype, device)


def _matrix(rank: int, like: Tensor) -> Tensor:
    return _traced(rank, like.dtype, like.device)
