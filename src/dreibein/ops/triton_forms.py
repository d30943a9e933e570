"""Triton's kernels as operators of the forms in `messages` and `products`, by slot.

The same functions run on a GPU and, for tests, through Triton's interpreter on the CPU (start the
process with TRITON_INTERPRET=1): see `interpreted`.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dreibein.ops.multilinear import Form, Kernel, Plan
from dreibein.ops.splines import TAPS
from dreibein.ops.triton_kernels import load

_NARROWEST, _WIDEST = 16, 128  # channels of a program
_PART = 64  # edges of a part of a long list, about
_PARTS = 32  # parts of a list at most

_PLAN = ("base", "sender", "receiver", "ptr_r", "order_r", "ptr_s", "order_s", "pair")


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether Triton can be imported; nothing is imported to find out."""
    return importlib.util.find_spec("triton") is not None


@contextmanager
def interpreted() -> Iterator[None]:
    """Within: operators on CPU tensors are Triton's kernels, through its interpreter.

    For tests. The environment variable TRITON_INTERPRET must have been 1 when Triton was imported.
    """
    load()
    before, Form.interpreted = Form.interpreted, True
    try:
        yield
    finally:
        Form.interpreted = before


class _Launch:
    """Sizes and arrays of one call, contiguous and of one type."""

    def __init__(self, arrays: dict[str, Tensor], plan: Plan) -> None:
        wide = ("table", "receivers", "senders", "pairs", "left", "right", "out")
        first = next(arrays[n] for n in wide if n in arrays)
        self.like, self.channels = first, first.shape[-1]
        self.arrays = {n: a.detach().to(first.dtype).contiguous() for n, a in arrays.items()}
        self.plan = dict(zip(_PLAN, plan, strict=False))
        # the power of two that holds all channels, within what registers hold
        self.block = min(_WIDEST, max(_NARROWEST, 1 << max(self.channels - 1, 0).bit_length()))
        self.blocks = -(-self.channels // self.block)

    def __getitem__(self, names: str) -> list[Tensor]:
        return [self.arrays[n] if n in self.arrays else self.plan[n] for n in names.split()]

    def empty(self, *shape: int) -> Tensor:
        return self.like.new_empty(shape)

    def run(self, kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
        """Start the programs, on the device of the arrays."""
        if 0 in grid or not self.channels:
            return
        warps = max(1, min(4, self.block // 32))
        with torch.cuda.device_of(self.like):
            kernel[grid](*arguments, BLOCK=self.block, num_warps=warps, **constants)


def _to_features(other: str, embed: bool) -> Kernel:
    """Sum over receivers' edges of what senders (or the embedding) have, or the reverse."""
    lists = "ptr_s order_s" if other == "receivers" else "ptr_r order_r"
    place = {"senders": "sender", "receivers": "receiver", "pairs": "pair"}[other]
    first = "harmonics" if embed else other

    def run(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
        call = _Launch(arrays, plan)
        out = call.empty(rows, 9, call.channels)
        inputs = call[f"{first} {other} taps table base {place} {lists}"]
        grid = (rows, call.blocks)
        call.run(load().receivers_kernel, grid, *inputs, out, call.channels, EMBED=embed)
        return out

    return run


def _to_taps(embed: bool) -> Kernel:
    meets, place = ("harmonics pairs", "pair") if embed else ("senders senders", "sender")

    def run(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
        call = _Launch(arrays, plan)
        out = call.empty(rows, TAPS) if call.channels else call.like.new_zeros(rows, TAPS)
        inputs = call[f"{meets} table receivers base {place} receiver"]
        call.run(load().taps_kernel, (rows,), *inputs, out, call.channels, EMBED=embed)
        return out

    return run


def _to_harmonics(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    call = _Launch(arrays, plan)
    out = call.empty(rows, 9) if call.channels else call.like.new_zeros(rows, 9)
    inputs = call["pairs taps table receivers base pair receiver"]
    call.run(load().harmonics_kernel, (rows,), *inputs, out, call.channels)
    return out


def _to_table(embed: bool) -> Kernel:
    meets, place = ("harmonics pairs", "pair") if embed else ("senders senders", "sender")

    def run(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
        call = _Launch(arrays, plan)
        bases = rows - TAPS + 1  # an edge sees the control points from its first on
        ptr, order, parts = _lists(call.plan["base"], bases)
        sums = call.empty(parts, bases, TAPS, 3, call.channels)
        inputs = [*call[f"{meets} taps receivers {place} receiver"], ptr, order]
        grid = (bases, call.blocks, parts)
        call.run(load().table_kernel, grid, *inputs, sums, call.channels, bases, EMBED=embed)
        out = call.like.new_zeros(rows, 3, call.channels)
        for t, values in enumerate(sums.sum(0).unbind(1)):
            out[t : t + bases] += values
        return out

    return run


def _to_pairs(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    call = _Launch(arrays, plan)
    ptr, order, parts = _lists(call.plan["pair"], rows)
    sums = call.empty(parts, rows, call.channels)
    (harmonics,) = call["harmonics"]
    inputs = [*call["taps table receivers base receiver"], ptr, order]
    ones = torch.ones_like(sums[0, :1])
    grid = (rows, call.blocks, parts)
    call.run(load().pairs_kernel, grid, harmonics, ones, *inputs, sums, call.channels, rows)
    return sums.sum(0)


def _lists(keys: Tensor, groups: int) -> tuple[Tensor, Tensor, int]:
    """Edges by key: where each group begins, their order, and in how many parts to take a group."""
    ordered, order = keys.sort(stable=True)
    bounds = torch.arange(groups + 1, device=keys.device, dtype=keys.dtype)
    ptr = torch.searchsorted(ordered, bounds)
    parts = len(keys) // (max(groups, 1) * _PART)
    return ptr, order, max(1, min(_PARTS, parts))


def _product(left: str, right: str, turn: str, both: bool) -> Kernel:
    """Operator of a product of 3x3 matrices, the one called `turn` transposed."""

    def run(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
        call = _Launch(arrays, plan)
        out = call.empty(rows, 9, call.channels)
        inputs, grid = call[f"{left} {right}"], (rows, call.blocks)
        turns = {"LEFT": left == turn, "RIGHT": right == turn, "BOTH": both}
        call.run(load().product_kernel, grid, *inputs, out, call.channels, **turns)
        return out

    return run


MESSAGE: dict[str, Kernel] = {
    "receivers": _to_features("senders", embed=False),
    "senders": _to_features("receivers", embed=False),
    "taps": _to_taps(embed=False),
    "table": _to_table(embed=False),
}
EMBEDDING: dict[str, Kernel] = {
    "receivers": _to_features("pairs", embed=True),
    "taps": _to_taps(embed=True),
    "harmonics": _to_harmonics,
    "pairs": _to_pairs,
    "table": _to_table(embed=True),
}
ANTICOMMUTATOR: dict[str, Kernel] = {
    "out": _product("left", "right", "", both=True),
    "left": _product("out", "right", "right", both=True),
    "right": _product("left", "out", "left", both=True),
}
PRODUCT: dict[str, Kernel] = {
    "out": _product("left", "right", "", both=False),
    "left": _product("out", "right", "right", both=False),
    "right": _product("left", "out", "left", both=False),
}
KERNELS = {
    "message": MESSAGE,
    "embedding": EMBEDDING,
    "anticommutator": ANTICOMMUTATOR,
    "product": PRODUCT,
}
"""Kernel of each operator, by the form's name and the slot."""
