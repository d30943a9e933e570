"""Families of operators closed under differentiation: the partial derivatives of one form.

A form T(x_0, ..., x_n) is a number, linear in each of its arrays ("slots"). The operator of slot k
is dT/dx_k, a function of the other arrays. Its derivative by x_j, against a gradient g of its
result, is dT/dx_j with g in slot k: an operator of the same family. So a family with n + 1 kernels
has gradients of every order, and none of them is written by hand.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Plan = Sequence[Tensor]
Kernel = Callable[[dict[str, Tensor], Plan, int], Tensor]
"""dT/d(slot) from the arrays of the other slots, the plan, and the rows of the result."""

Shape = Callable[[dict[str, Tensor], Plan, int], tuple[int, ...]]


class Form:
    """The operators of a form, registered as `torch.ops.dreibein.<name>_<slot>`.

    On CPU tensors an operator is the compiled kernel given here, on CUDA tensors Triton's
    (`triton_forms`, imported at the first such call); gradients are the same for both.

    Args:
        name: Of the family.
        slots: Names of the arrays, in order.
        kernels: By slot: the operator, compiled.
        references: By slot: the operator in plain PyTorch.
        shapes: By slot: the shape of the operator's result.

    Attributes:
        interpreted: Whether CPU tensors go through Triton's interpreter (`triton_forms`).
    """

    interpreted = False

    def __init__(
        self,
        name: str,
        slots: Sequence[str],
        kernels: dict[str, Kernel],
        references: dict[str, Kernel],
        shapes: dict[str, Shape],
    ) -> None:
        self.name, self.slots = name, tuple(slots)
        self.references, self.shapes = references, shapes
        self.ops = {slot: self._register(slot, kernels[slot]) for slot in slots}

    def __call__(
        self, slot: str, arrays: dict[str, Tensor], plan: Plan, rows: int, *, backend: str = "fused"
    ) -> Tensor:
        """DT/d(slot), with `rows` rows.

        Args:
            slot: Which derivative.
            arrays: The other slots' arrays.
            plan: Integers that say which rows meet; no derivative.
            rows: Leading length of the result.
            backend: "fused" (the operator: compiled on CPUs, Triton on CUDA) or "reference".
        """
        if backend == "reference":
            return self.references[slot](arrays, plan, rows)
        if backend != "fused":
            raise ValueError(f"unknown backend '{backend}': use reference or fused")
        result: Tensor = self.ops[slot](*self._inputs(slot, arrays), list(plan), rows)
        return result

    def _others(self, slot: str) -> tuple[str, ...]:
        return tuple(name for name in self.slots if name != slot)

    def _inputs(self, slot: str, arrays: dict[str, Tensor]) -> list[Tensor]:
        return [arrays[name] for name in self._others(slot)]

    def _register(self, slot: str, kernel: Kernel) -> Any:
        others = self._others(slot)
        arguments = ", ".join(f"Tensor {name}" for name in others)
        schema = f"({arguments}, Tensor[] plan, SymInt rows) -> Tensor"

        def named(inputs: Sequence[Any]) -> tuple[dict[str, Tensor], Plan, int]:
            return dict(zip(others, inputs, strict=False)), inputs[-2], inputs[-1]

        def run(*inputs: Any) -> Tensor:
            return triton(*inputs) if Form.interpreted else kernel(*named(inputs))

        def triton(*inputs: Any) -> Tensor:
            from dreibein.ops.triton_forms import KERNELS

            return KERNELS[self.name][slot](*named(inputs))

        def fake(*inputs: Any) -> Tensor:
            return inputs[0].new_empty(self.shapes[slot](*named(inputs)))

        def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            ctx.save_for_backward(*inputs[: len(others)], *inputs[-2])

        def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
            arrays = dict(zip(others, ctx.saved_tensors, strict=False))
            plan = list(ctx.saved_tensors[len(others) :])
            found: list[Any] = []
            for name, needed in zip(others, ctx.needs_input_grad, strict=False):
                full = {**arrays, slot: gradient}
                rows = full.pop(name).shape[0]
                found.append(self(name, full, plan, rows) if needed else None)
            return (*found, [None] * len(plan), None)

        op = torch.library.custom_op(
            f"dreibein::{self.name}_{slot}", run, mutates_args=(), schema=schema, device_types="cpu"
        )
        op.register_kernel("cuda", triton)
        op.register_fake(fake)
        op.register_autograd(backward, setup_context=keep)
        return op
