"""Three sums that carry features along edges, closed under differentiation.

With D_i the block-diagonal matrix of receiver i, x_j features of sender j and y_e features of edge
e = (j -> i),

    carry(D, x)   y_e = D_i x_j                                                              (1)
    gather(D, y)  x_j = sum_{e: j -> i} D_i^T y_e                                            (2)
    outer(y, x)   D_i = sum_{e: j -> i} y_e x_j^T, on the blocks, summed over channels       (3)

they are the derivatives of the one trilinear form sum_e y_e^T D_i x_j, so the derivative of each is
made of the other two and gradients of every order need no other kernel; no array of the size of the
edges is kept for the backward pass. Each exists twice: in plain PyTorch (`reference_*`) and
compiled (`fused`), registered as `torch.ops.dreibein.transport_*`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .layout import EdgePlan, Layout

Blocks = list[tuple[int, int, int, int]]


def reference_carry(d: Tensor, x: Tensor, plan: EdgePlan, blocks: Sequence[Any]) -> Tensor:
    """Equation (1) block by block."""
    out = x.new_zeros(len(plan.sender), x.shape[1])
    for mul, size, start, offset in blocks:
        columns = slice(start, start + mul * size)
        part = x[plan.sender, columns]
        if offset >= 0:
            matrix = _matrices(d, size, offset)[plan.receiver]
            part = (part.unflatten(1, (mul, size)) @ matrix.mT).flatten(1)
        out[:, columns] = part
    return out


def reference_gather(d: Tensor, y: Tensor, plan: EdgePlan, blocks: Sequence[Any]) -> Tensor:
    """Equation (2) block by block."""
    out = y.new_zeros(plan.num_senders, y.shape[1])
    for mul, size, start, offset in blocks:
        columns = slice(start, start + mul * size)
        part = y[:, columns]
        if offset >= 0:
            matrix = _matrices(d, size, offset)[plan.receiver]
            part = (part.unflatten(1, (mul, size)) @ matrix).flatten(1)
        out[:, columns] = out[:, columns].index_add(0, plan.sender, part)
    return out


def reference_outer(
    y: Tensor, x: Tensor, plan: EdgePlan, blocks: Sequence[Any], width: int
) -> Tensor:
    """Equation (3) block by block."""
    out = y.new_zeros(len(plan.ptr) - 1, width)
    for mul, size, start, offset in blocks:
        if offset >= 0:
            columns = slice(start, start + mul * size)
            left = y[:, columns].unflatten(1, (mul, size))
            right = x[plan.sender, columns].unflatten(1, (mul, size))
            target = out[:, offset : offset + size * size]
            target.index_add_(0, plan.receiver, (left.mT @ right).flatten(1))
    return out


def _matrices(d: Tensor, size: int, offset: int) -> Tensor:
    return d[:, offset : offset + size * size].unflatten(1, (size, size))


def carry(d: Tensor, x: Tensor, plan: EdgePlan, layout: Layout) -> Tensor:
    """Equation (1) compiled: features [E, dim] from D [N, width] and x [M, dim]."""
    return _carry(d, x, plan.sender, plan.ptr, plan.order, layout.flat)


def gather(d: Tensor, y: Tensor, plan: EdgePlan, layout: Layout) -> Tensor:
    """Equation (2) compiled: features [M, dim] from D [N, width] and y [E, dim]."""
    return _gather(d, y, plan.sender, plan.ptr, plan.order, layout.flat, plan.num_senders)


@torch.library.custom_op("dreibein::transport_carry", mutates_args=(), device_types="cpu")
def _carry(
    d: Tensor, x: Tensor, sender: Tensor, ptr: Tensor, order: Tensor, blocks: Sequence[int]
) -> Tensor:
    from . import fused

    return fused.carry(d, x, sender, ptr, order, _unflat(blocks))


@torch.library.custom_op("dreibein::transport_gather", mutates_args=(), device_types="cpu")
def _gather(
    d: Tensor,
    y: Tensor,
    sender: Tensor,
    ptr: Tensor,
    order: Tensor,
    blocks: Sequence[int],
    num_senders: int,
) -> Tensor:
    from . import fused

    return fused.gather(d, y, sender, ptr, order, _unflat(blocks), num_senders)


@torch.library.custom_op("dreibein::transport_outer", mutates_args=(), device_types="cpu")
def _outer(
    y: Tensor,
    x: Tensor,
    sender: Tensor,
    ptr: Tensor,
    order: Tensor,
    blocks: Sequence[int],
    width: int,
) -> Tensor:
    from . import fused

    return fused.outer(y, x, sender, ptr, order, _unflat(blocks), width)


@torch.library.custom_op("dreibein::transport_pull", mutates_args=(), device_types="cpu")
def _pull(
    d: Tensor,
    y: Tensor,
    x: Tensor,
    sender: Tensor,
    ptr: Tensor,
    order: Tensor,
    blocks: Sequence[int],
) -> tuple[Tensor, Tensor]:
    from . import fused

    return fused.pull(d, y, x, sender, ptr, order, _unflat(blocks))


@_carry.register_fake
def _(d: Tensor, x: Tensor, sender: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(sender.shape[0], x.shape[1])


@_gather.register_fake
def _(d: Tensor, y: Tensor, sender: Tensor, *rest: Any) -> Tensor:
    return y.new_empty(rest[-1], y.shape[1])


@_outer.register_fake
def _(y: Tensor, x: Tensor, sender: Tensor, ptr: Tensor, *rest: Any) -> Tensor:
    return y.new_empty(ptr.shape[0] - 1, rest[-1])


@_pull.register_fake
def _(d: Tensor, y: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(d), torch.empty_like(x)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    ctx.save_for_backward(*tensors)
    ctx.blocks = inputs[len(tensors)]


def _carry_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    d, x, *plan = ctx.saved_tensors
    need_d, need_x = ctx.needs_input_grad[:2]
    if need_d and need_x:
        return (*_pull(d, grad, x, *plan, ctx.blocks), *[None] * 4)
    grad_d = _outer(grad, x, *plan, ctx.blocks, d.shape[1]) if need_d else None
    grad_x = _gather(d, grad, *plan, ctx.blocks, x.shape[0]) if need_x else None
    return (grad_d, grad_x, *[None] * 4)


def _gather_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    d, y, *plan = ctx.saved_tensors
    need_d, need_y = ctx.needs_input_grad[:2]
    grad_d = _outer(y, grad, *plan, ctx.blocks, d.shape[1]) if need_d else None
    grad_y = _carry(d, grad, *plan, ctx.blocks) if need_y else None
    return (grad_d, grad_y, *[None] * 5)


def _outer_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    y, x, *plan = ctx.saved_tensors
    need_y, need_x = ctx.needs_input_grad[:2]
    blocks = ctx.blocks
    grad_y = _mask(_carry(grad, x, *plan, blocks), blocks) if need_y else None
    grad_x = _mask(_gather(grad, y, *plan, blocks, x.shape[0]), blocks) if need_x else None
    return (grad_y, grad_x, *[None] * 5)


def _pull_backward(ctx: Any, to_d: Tensor, to_x: Tensor) -> tuple[Any, ...]:
    d, y, x, *plan = ctx.saved_tensors
    need_d, need_y, need_x = ctx.needs_input_grad[:3]
    blocks = ctx.blocks
    grad_d = _outer(y, to_x, *plan, blocks, d.shape[1]) if need_d else None
    grad_y = None
    if need_y:
        grad_y = _mask(_carry(to_d, x, *plan, blocks), blocks) + _carry(d, to_x, *plan, blocks)
    grad_x = _mask(_gather(to_d, y, *plan, blocks, x.shape[0]), blocks) if need_x else None
    return (grad_d, grad_y, grad_x, *[None] * 4)


def _mask(x: Tensor, blocks: Sequence[int]) -> Tensor:
    """Zero in the columns on which no matrix acts: equation (3) has no term there."""
    pieces = []
    for mul, size, start, offset in sorted(_unflat(blocks), key=lambda block: block[2]):
        part = x[:, start : start + mul * size]
        pieces.append(part if offset >= 0 else torch.zeros_like(part))
    return torch.cat(pieces, 1) if pieces else x


_carry.register_autograd(_carry_backward, setup_context=_keep)
_gather.register_autograd(_gather_backward, setup_context=_keep)
_outer.register_autograd(_outer_backward, setup_context=_keep)
_pull.register_autograd(_pull_backward, setup_context=_keep)


def _unflat(blocks: Sequence[int]) -> Blocks:
    return [tuple(blocks[k : k + 4]) for k in range(0, len(blocks), 4)]  # type: ignore[misc]
