"""A meeting point of threads in compiled code, so that one call holds several passes."""

import platform
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_SPINS = 2000
"""Looks before the processor is offered to others: some ten microseconds."""

_INT = ir.IntType(64)


def _pointer(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.make_array(kind)(context, builder, value).data


@intrinsic
def _arrive(typing_context: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], arguments[0])
        one = ir.Constant(_INT, 1)
        return builder.add(builder.atomic_rmw("add", pointer, one, "seq_cst"), one)

    return types.int64(count), generate


@intrinsic
def _look(typing_context: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], arguments[0])
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(count), generate


@intrinsic
def _pause(typing_context: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            nothing = ir.FunctionType(ir.VoidType(), [])
            builder.call(
                cgutils.get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause"), []
            )
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _let_others_run(typing_context: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if platform.system() != "Windows":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@numba.njit(nogil=True)
def meet(count, threads):  # type: ignore[no-untyped-def]
    """Return when all threads have come here equally often.

    Waiting threads look at the count without sleeping, for a pass lasts less than a wake-up; on a
    machine with more threads than cores they let others run after a while.

    Args:
        count: Arrivals [1] int64, zero before the first meeting.
        threads: How many meet.
    """
    if threads > 1:
        goal = (_arrive(count) + threads - 1) // threads * threads  # type: ignore[call-arg]
        looks = 0
        while _look(count) < goal:
            looks += 1
            if looks % _SPINS == 0:
                _let_others_run()
            else:
                _pause()
