"""Products of 3x3 matrices given by nine components, as multilinear forms.

Components are coordinates in an orthonormal basis (scalar, antisymmetric, symmetric traceless), so
the transposed matrix has its components 1 to 3 negated and the form is tr(C^T P(A, B)):

    anticommutator  P = A B + B A     dT/dA = C B^T + B^T C, dT/dB likewise
    product         P = A B           dT/dA = C B^T,         dT/dB = A^T C

Arrays are [N, 9, F]; no matrix [N, 3, 3, F] is made.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreibein.ops import atom_kernels
from dreibein.ops.atom_passes import Pass, compiled
from dreibein.ops.lanes import Lanes, lane_count
from dreibein.ops.multilinear import Form, Kernel, Plan, Shape

Numbers = Sequence[Any]


def anticommutator(a: Tensor, b: Tensor, *, backend: str = "fused") -> Tensor:
    """A B + B A of packed matrices [N, 9, F]."""
    return ANTICOMMUTATOR("out", {"left": a, "right": b}, (), a.shape[0], backend=backend)


def product(a: Tensor, b: Tensor, *, backend: str = "fused") -> Tensor:
    """A B of packed matrices [N, 9, F]."""
    return PRODUCT("out", {"left": a, "right": b}, (), a.shape[0], backend=backend)


def _both(lanes: Lanes, a: Numbers, b: Numbers) -> tuple[Numbers]:
    return (atom_kernels.anticommutator(a, b),)


def _both_back(lanes: Lanes, a: Numbers, c: Numbers) -> tuple[Numbers]:
    return (atom_kernels.anticommutator(c, atom_kernels.transposed(a)),)


def _one(lanes: Lanes, a: Numbers, b: Numbers) -> tuple[Numbers]:
    return (atom_kernels.product(a, b),)


def _to_left(lanes: Lanes, b: Numbers, c: Numbers) -> tuple[Numbers]:
    return (atom_kernels.product(c, atom_kernels.transposed(b)),)


def _to_right(lanes: Lanes, a: Numbers, c: Numbers) -> tuple[Numbers]:
    return (atom_kernels.product(atom_kernels.transposed(a), c),)


def _kernel(function: Any, *slots: str) -> Kernel:
    what = Pass(function, (9, 9), (9,))

    def run(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
        first = arrays[slots[0]]
        item = np.float32 if first.dtype == torch.float32 else np.float64
        lanes, channels = lane_count(item), first.shape[2]
        values = []
        for slot in slots:
            tensor = arrays[slot].detach()
            if channels % lanes:
                tensor = torch.nn.functional.pad(tensor, (0, -channels % lanes))
            values.append(np.ascontiguousarray(tensor.numpy(), item))
        out = np.empty(values[0].shape, item)
        compiled(what)(*(v.transpose(1, 0, 2) for v in (*values, out)))
        return torch.from_numpy(out)[..., :channels].contiguous()

    return run


def _matrix(x: Tensor) -> Tensor:
    """Matrices [N, F, 3, 3]."""
    m = atom_kernels.matrix(x.unbind(1))  # type: ignore[arg-type]
    return torch.stack([torch.stack(row, -1) for row in m], -2)  # type: ignore[arg-type]


def _components(m: Tensor) -> Tensor:
    rows = [[m[..., a, b] for b in range(3)] for a in range(3)]
    return torch.stack(atom_kernels.components(rows), 1)  # type: ignore[arg-type]


def _reference(left: str, right: str, turn: str, both: bool) -> Kernel:
    def run(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
        a, b = (_matrix(arrays[n]).mT if n == turn else _matrix(arrays[n]) for n in (left, right))
        return _components(a @ b + b @ a if both else a @ b)

    return run


def _shape(arrays: dict[str, Tensor], plan: Plan, rows: int) -> tuple[int, ...]:
    return (rows, 9, next(iter(arrays.values())).shape[2])


_SLOTS = ("left", "right", "out")
_SHAPES: dict[str, Shape] = dict.fromkeys(_SLOTS, _shape)
ANTICOMMUTATOR = Form(
    "anticommutator",
    _SLOTS,
    {
        "out": _kernel(_both, "left", "right"),
        "left": _kernel(_both_back, "right", "out"),
        "right": _kernel(_both_back, "left", "out"),
    },
    {
        "out": _reference("left", "right", "", True),
        "left": _reference("out", "right", "right", True),
        "right": _reference("left", "out", "left", True),
    },
    _SHAPES,
)
PRODUCT = Form(
    "product",
    _SLOTS,
    {
        "out": _kernel(_one, "left", "right"),
        "left": _kernel(_to_left, "right", "out"),
        "right": _kernel(_to_right, "left", "out"),
    },
    {
        "out": _reference("left", "right", "", False),
        "left": _reference("out", "right", "right", False),
        "right": _reference("left", "out", "left", False),
    },
    _SHAPES,
)
