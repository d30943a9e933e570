"""Plans: which matrix acts on which columns, and which edges meet at which node."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dreibein.o3 import Action, Reps

LARGEST_BLOCK = 27
"""Widest block, in components, that the fused kernels take: rank 3, or l = 13."""


@dataclass(frozen=True)
class Layout:
    """How a row of matrices acts on a row of features.

    Attributes:
        kinds: the kinds whose matrices are packed, [N, width], one after the other.
        blocks: (mul, d, start, offset) of every block: the features start : start + mul d, the
            columns offset : offset + d d of the pack; offset -1 where the matrix is one.
        width: columns of the pack.
        flat: `blocks` as one list of integers, the form in which an operator takes it.
        largest: components of the widest block that a matrix acts on.
    """

    kinds: tuple[Any, ...]
    blocks: tuple[tuple[int, int, int, int], ...]
    width: int
    flat: list[int] = field(repr=False)
    largest: int = field(repr=False)


@lru_cache(maxsize=256)
def layout_of(rep: Reps) -> Layout:
    """The layout of a representation; blocks of one kind share their matrices.

    >>> from dreibein.o3 import Irreps
    >>> layout_of(Irreps("8x0e+4x1o+2x1o"))
    Layout(kinds=(Irrep(l=1, p=-1),), blocks=((8, 1, 0, -1), (4, 3, 8, 0), (2, 3, 20, 0)), width=9)
    """
    offsets: dict[Any, int] = {}
    blocks, width = [], 0
    for mul, kind, start, stop in rep.segments:
        if start == stop:
            continue
        if kind is None or kind.is_trivial:
            blocks.append((stop - start, 1, start, -1))
            continue
        if kind not in offsets:
            offsets[kind] = width
            width += kind.dim**2
        blocks.append((mul, kind.dim, start, offsets[kind]))
    flat = [number for block in blocks for number in block]
    largest = max([size for _, size, _, offset in blocks if offset >= 0], default=1)
    return Layout(tuple(offsets), tuple(blocks), width, flat, largest)


def packed_matrices(action: Action, layout: Layout, dtype: torch.dtype) -> Tensor:
    """The matrices that a layout needs, [N, width], computed once for each action."""

    def compute() -> Tensor:
        matrices = [action.matrix_of(kind).flatten(-2) for kind in layout.kinds]
        if not matrices:
            return action.matrix.new_zeros(len(action.matrix), 0, dtype=dtype)
        return torch.cat(matrices, -1).to(dtype)

    return action.keep(("packed", layout.kinds, dtype), compute)


@dataclass(frozen=True)
class EdgePlan:
    """Edges grouped by receiver, for loops that own one receiver at a time.

    Edges `order[ptr[i] : ptr[i+1]]` end at receiver i and come from `sender`, one of `num_senders`.
    """

    sender: Tensor
    receiver: Tensor
    ptr: Tensor
    order: Tensor
    num_senders: int


def plan_edges(sender: Tensor, receiver: Tensor, num_senders: int, num_receivers: int) -> EdgePlan:
    """The plan of a list of edges in any order.

    >>> plan = plan_edges(torch.tensor([1, 0, 1]), torch.tensor([1, 0, 1]), 2, 2)
    >>> plan.ptr, plan.order
    (tensor([0, 1, 3]), tensor([1, 0, 2]))
    """
    ptr = torch.zeros(num_receivers + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(receiver, minlength=num_receivers), 0, out=ptr[1:])
    is_sorted = bool((receiver[1:] >= receiver[:-1]).all())
    order = torch.arange(len(receiver)) if is_sorted else receiver.argsort(stable=True)
    return EdgePlan(sender.contiguous(), receiver.contiguous(), ptr, order, num_senders)


def plan_rows(count: int) -> EdgePlan:
    """The plan in which every row is an edge from itself to itself."""
    rows = torch.arange(count)
    return EdgePlan(rows, rows, torch.arange(count + 1), rows, count)
