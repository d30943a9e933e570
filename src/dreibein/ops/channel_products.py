"""Products with a matrix for each edge and a factor for each edge and channel, summed at nodes.

    T = sum_e sum_p sum_abu M_p[e, a, b] w_p[e, u] x[j, a, u] y[i, b, u],    e = (j -> i)    (1)

with the channels u of a block side by side. M holds Clebsch-Gordan coefficients contracted with the
harmonics of the edge, once for all channels; nothing of the size of edges times channels but w is
stored. The derivatives are a form's (`Form`), of every order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dreibein.ops import channel_kernels
from dreibein.ops.multilinear import Form, Plan


@dataclass(frozen=True)
class ChannelPath:
    """One path p: where its parts begin, its components on both sides, its channels."""

    x: int
    rows: int
    y: int
    columns: int
    matrix: int
    weights: int
    channels: int


def channel_plan(
    paths: Sequence[ChannelPath], edge_index: Tensor, widths: tuple[int, int, int, int]
) -> list[Tensor]:
    """Integers of (1).

    Args:
        paths: In any order.
        edge_index: [2, E], row 0 the sender.
        widths: Columns of x, M, w and y.
    """
    rows = [
        (p.x, p.rows, p.y, p.columns, p.matrix, p.weights, p.channels) for p in paths if p.channels
    ]
    table = torch.tensor(rows, dtype=torch.int64).reshape(-1, 7)
    lengths = [torch.empty(width, dtype=torch.int8) for width in widths]
    return [table, edge_index[0].contiguous(), edge_index[1].contiguous(), *lengths]


def channel_product(
    x: Tensor, m: Tensor, w: Tensor, plan: Plan, rows: int, *, backend: str
) -> Tensor:
    """Sums y [rows, width] of x [N, width], M [E, width] and w [E, width]; see (1)."""
    return CHANNEL_PRODUCT("y", {"x": x, "m": m, "w": w}, plan, rows, backend=backend)


Views = tuple[int, int, int, int, int, int, int]


def _paths(plan: Plan) -> Iterator[Views]:
    for row in plan[0].tolist():
        yield tuple(row)


def _matrix(m: Tensor, path: Views) -> Tensor:
    return m[:, path[4] : path[4] + path[1] * path[3]].unflatten(1, (path[1], path[3]))


def _left(x: Tensor, path: Views) -> Tensor:
    return x[:, path[0] : path[0] + path[1] * path[6]].unflatten(1, (path[1], path[6]))


def _right(y: Tensor, path: Views) -> Tensor:
    return y[:, path[2] : path[2] + path[3] * path[6]].unflatten(1, (path[3], path[6]))


def _factors(w: Tensor, path: Views) -> Tensor:
    return w[:, None, path[5] : path[5] + path[6]]


def _reference_y(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    x, out = arrays["x"], arrays["x"].new_zeros(rows, len(plan[6]))
    for path in _paths(plan):
        sent = _left(x, path).index_select(0, plan[1]) * _factors(arrays["w"], path)
        message = (_matrix(arrays["m"], path).mT @ sent).flatten(1)
        columns = torch.arange(path[2], path[2] + message.shape[1], device=x.device)
        total = message.new_zeros(rows, message.shape[1]).index_add(0, plan[2], message)
        out = out.index_add(1, columns, total)
    return out


def _reference_x(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    y, out = arrays["y"], arrays["y"].new_zeros(rows, len(plan[3]))
    for path in _paths(plan):
        taken = _matrix(arrays["m"], path) @ _right(y, path).index_select(0, plan[2])
        message = (taken * _factors(arrays["w"], path)).flatten(1)
        columns = torch.arange(path[0], path[0] + message.shape[1], device=y.device)
        total = message.new_zeros(rows, message.shape[1]).index_add(0, plan[1], message)
        out = out.index_add(1, columns, total)
    return out


def _reference_w(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    x, out = arrays["x"], arrays["x"].new_zeros(rows, len(plan[5]))
    for path in _paths(plan):
        taken = _matrix(arrays["m"], path) @ _right(arrays["y"], path).index_select(0, plan[2])
        values = (taken * _left(x, path).index_select(0, plan[1])).sum(1)
        columns = torch.arange(path[5], path[5] + path[6], device=x.device)
        out = out.index_add(1, columns, values)
    return out


def _reference_m(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    x, out = arrays["x"], arrays["x"].new_zeros(rows, len(plan[4]))
    for path in _paths(plan):
        sent = _left(x, path).index_select(0, plan[1]) * _factors(arrays["w"], path)
        values = (sent @ _right(arrays["y"], path).index_select(0, plan[2]).mT).flatten(1)
        columns = torch.arange(path[4], path[4] + values.shape[1], device=x.device)
        out = out.index_add(1, columns, values)
    return out


def _fused_y(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    given = [arrays["x"], arrays["m"], arrays["w"]]
    return channel_kernels.run("y", list(plan[:3]), given, (rows, len(plan[6])))


def _fused_x(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    given = [arrays["y"], arrays["m"], arrays["w"]]
    return channel_kernels.run("x", list(plan[:3]), given, (rows, len(plan[3])))


def _fused_w(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    given = [arrays["x"], arrays["m"], arrays["y"]]
    return channel_kernels.run("w", list(plan[:3]), given, (rows, len(plan[5])))


def _fused_m(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    given = [arrays["x"], arrays["w"], arrays["y"]]
    return channel_kernels.run("m", list(plan[:3]), given, (rows, len(plan[4])))


CHANNEL_PRODUCT = Form(
    "channel_product",
    ("x", "m", "w", "y"),
    kernels={"x": _fused_x, "m": _fused_m, "w": _fused_w, "y": _fused_y},
    references={"x": _reference_x, "m": _reference_m, "w": _reference_w, "y": _reference_y},
    shapes={
        "x": lambda arrays, plan, rows: (rows, plan[3].shape[0]),
        "m": lambda arrays, plan, rows: (rows, plan[4].shape[0]),
        "w": lambda arrays, plan, rows: (rows, plan[5].shape[0]),
        "y": lambda arrays, plan, rows: (rows, plan[6].shape[0]),
    },
)
