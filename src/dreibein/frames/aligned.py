"""Axes along the edges: features of senders written in them, and sums in the global frame.

Row y of R_e is the direction r of the edge e = (j -> i); e3nn's polar axis is y. Of the harmonics
of r only the order m = 0 is left there, and what is invariant under turns about the edge keeps m.

    to_edges    x_e = D(R_e) x_j                         [E, dim]                               (1)
    sum         y_i = sum_{e: j -> i} D(R_e)^T y_e       [N, dim]                               (2)

The other two axes are built from a coordinate axis at a right angle to r or nearly so; which one
jumps, and a map between (1) and (2) that commutes with turns about the edge does not notice, nor
do its derivatives.
"""

import torch
from torch import Tensor

from dreibein.o3 import Irrep, Irreps, check_features

from .frames import Frames
from .kernels import carry, gather
from .layout import LARGEST_BLOCK, EdgePlan, layout_of, packed_matrices


def edge_frames(vectors: Tensor) -> Frames:
    """Rotations [E, 3, 3] that take the directions of the vectors [E, 3] to the y axis.

    >>> edge_frames(torch.tensor([[0.0, 0.0, 2.0]])).matrices[0] @ torch.tensor([0.0, 0.0, 2.0])
    tensor([0., 2., 0.])
    """
    r = vectors.double()
    squared = r.square().sum(-1, keepdim=True)
    direction = r / squared.masked_fill(squared == 0, 1.0).sqrt()
    # the coordinate axis with the smallest component is at least 54 degrees away
    nearest = direction.detach().abs().argmin(-1)
    axis = torch.nn.functional.one_hot(nearest, 3).to(direction.dtype)
    first = axis - (axis * direction).sum(-1, keepdim=True) * direction
    first = first / first.square().sum(-1, keepdim=True).sqrt()
    third = torch.linalg.cross(first, direction)
    dtype = torch.promote_types(vectors.dtype, torch.float32)
    return Frames(torch.stack((first, direction, third), -2).to(dtype))


class EdgeAlignment:
    """The edge frames of one graph, made once a forward pass; matrices are computed and kept.

    Args:
        vectors: r_ij [E, 3].
        edge_index: [2, E], row 0 the sender j, row 1 the receiver i.
        num_nodes: N.
        backend: "reference" is plain PyTorch; "fused" is compiled, for float32 and float64 on the
            CPU; "auto" is "fused" there.

    >>> alignment = EdgeAlignment(torch.tensor([[0.0, 0.0, 2.0]]), torch.tensor([[0], [1]]), 2)
    >>> alignment.to_edges(Irreps("1x1o"), torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 0.0]]))
    tensor([[0., 5., 0.]])
    """

    def __init__(
        self, vectors: Tensor, edge_index: Tensor, num_nodes: int, *, backend: str = "auto"
    ):
        if backend not in ("auto", "reference", "fused"):
            raise ValueError(f"backend is auto, reference or fused, got {backend!r}")
        self.frames = edge_frames(vectors)
        self.sender, self.receiver = edge_index[0], edge_index[1]
        self.num_nodes = num_nodes
        able = vectors.device.type == "cpu" and vectors.dtype in (torch.float32, torch.float64)
        self.backend = ("fused" if able else "reference") if backend == "auto" else backend
        self._plans: dict[int, EdgePlan] = {}

    def to_edges(self, irreps: Irreps, x: Tensor) -> Tensor:
        """Equation (1) for features x [N, irreps.dim] of the senders."""
        check_features(irreps, x)
        proper = _proper(irreps)
        if not self._is_fused(proper):
            return self.frames.action.apply(proper, x.index_select(0, self.sender))
        layout = layout_of(proper)
        matrices = packed_matrices(self.frames.action, layout, x.dtype)
        return carry(matrices, x, self._plan(0), layout)

    def sum(self, irreps: Irreps, y: Tensor) -> Tensor:
        """Equation (2) for features y [E, irreps.dim] in the axes of the edges."""
        check_features(irreps, y)
        proper = _proper(irreps)
        if not self._is_fused(proper):
            turned = self.frames.action.apply(proper, y, transpose=True)
            total = turned.new_zeros(self.num_nodes, turned.shape[1])
            return total.index_add(0, self.receiver, turned)
        layout = layout_of(proper)
        matrices = packed_matrices(self.frames.action, layout, y.dtype)
        return gather(matrices, y, self._plan(1), layout)

    def _is_fused(self, irreps: Irreps) -> bool:
        return self.backend == "fused" and 2 * irreps.lmax + 1 <= LARGEST_BLOCK

    def _plan(self, row: int) -> EdgePlan:
        """Every edge is a row of its own that meets one node."""
        if row not in self._plans:
            count = len(self.sender)
            rows, ends = torch.arange(count), torch.arange(count + 1)
            nodes = (self.sender, self.receiver)[row].contiguous()
            self._plans[row] = EdgePlan(nodes, rows, ends, rows, self.num_nodes)
        return self._plans[row]


def _proper(irreps: Irreps) -> Irreps:
    """The same degrees without pseudotensors: a rotation does not tell them apart."""
    return Irreps((mul, Irrep(ir.l, (-1) ** ir.l)) for mul, ir in irreps)
