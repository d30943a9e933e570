"""Small matrices times rows of features, written as vector instructions.

numba turns loops over 3 to 13 components into scalar code. Here the components of one channel are
one vector, the matrix stays in registers while the channels pass, and LLVM maps vectors of any
length on what the processor has. Addresses are those of the first element; matrices are [size,
size], row after row, features [mul, size].

    turn      to[u, :]  = sum_k row[u, k] matrix[k, :]          (add: +=)
    outer     matrix[k, :] += sum_u left[u, k] row[u, :]
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_FLAGS = ("contract", "nsz")
"""A product and a sum may become one fused multiply-add."""

_REGISTER = 32
"""Bytes of a vector register by which accumulators are counted."""

_ACCUMULATORS = 24
"""Registers that the accumulators of `outer` may take."""

_INDEX = ir.IntType(64)
_LANE = ir.IntType(32)
Build = Callable[["Vectors", Any, Any, Any, Any, Any], None]


class Vectors:
    """Loads, stores and arithmetic on vectors of `size` floats or doubles."""

    def __init__(self, size: int, item: int):
        self.size, self.item = size, item
        self.scalar = ir.FloatType() if item == 4 else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, size)

    def index(self, value: int) -> ir.Constant:
        """A constant element index."""
        return ir.Constant(_INDEX, value)

    def load(self, b: Any, base: Any, element: Any) -> Any:
        """The vector that starts at an element."""
        return b.load(self._address(b, base, element, self.vector), align=self.item)

    def store(self, b: Any, value: Any, base: Any, element: Any) -> None:
        """Write a vector."""
        b.store(value, self._address(b, base, element, self.vector), align=self.item)

    def splat(self, b: Any, base: Any, element: Any) -> Any:
        """A vector filled with one element."""
        value = b.load(self._address(b, base, element, self.scalar), align=self.item)
        empty = ir.Constant(self.vector, ir.Undefined)
        first = b.insert_element(empty, value, ir.Constant(_LANE, 0))
        lanes = ir.Constant(ir.VectorType(_LANE, self.size), [0] * self.size)
        return b.shuffle_vector(first, empty, lanes)

    def multiply_add(self, b: Any, left: Any, right: Any, total: Any) -> Any:
        """Left * right + total; no total is zero."""
        product = b.fmul(left, right, flags=_FLAGS)
        return product if total is None else b.fadd(product, total, flags=_FLAGS)

    def _address(self, b: Any, base: Any, element: Any, what: Any) -> Any:
        offset = b.mul(element, self.index(self.item))
        return b.inttoptr(b.add(base, offset), what.as_pointer())


def _turn(v: Vectors, b: Any, matrix: Any, row: Any, to: Any, mul: Any, *, add: bool) -> None:
    rows = [v.load(b, matrix, v.index(k * v.size)) for k in range(v.size)]
    with cgutils.for_range(b, mul) as loop:
        start = b.mul(loop.index, v.index(v.size))
        total = v.load(b, to, start) if add else None
        for k in range(v.size):
            factor = v.splat(b, row, b.add(start, v.index(k)))
            total = v.multiply_add(b, factor, rows[k], total)
        v.store(b, total, to, start)


def _turn_set(v: Vectors, b: Any, matrix: Any, row: Any, to: Any, mul: Any) -> None:
    _turn(v, b, matrix, row, to, mul, add=False)


def _turn_add(v: Vectors, b: Any, matrix: Any, row: Any, to: Any, mul: Any) -> None:
    _turn(v, b, matrix, row, to, mul, add=True)


def _outer(v: Vectors, b: Any, matrix: Any, left: Any, row: Any, mul: Any) -> None:
    registers = -(-v.size * v.item // _REGISTER)
    step = max(1, _ACCUMULATORS // registers)
    for first in range(0, v.size, step):
        rows = range(first, min(v.size, first + step))
        # stack slots, which LLVM turns into registers
        totals = [
            cgutils.alloca_once_value(b, v.load(b, matrix, v.index(k * v.size))) for k in rows
        ]
        with cgutils.for_range(b, mul) as loop:
            start = b.mul(loop.index, v.index(v.size))
            vector = v.load(b, row, start)
            for k, total in zip(rows, totals):
                factor = v.splat(b, left, b.add(start, v.index(k)))
                b.store(v.multiply_add(b, factor, vector, b.load(total)), total)
        for k, total in zip(rows, totals):
            v.store(b, b.load(total), matrix, v.index(k * v.size))


BUILDERS: dict[str, Build] = {"turn": _turn_set, "turn_add": _turn_add, "outer": _outer}


def block_operation(name: str, size: int, item: int) -> Any:
    """A function f(matrix, first, second, mul) of three addresses, for use in compiled code.

    Args:
        name: "turn" and "turn_add" take (matrix, row, to), "outer" takes (matrix, left, row).
        size: components of a channel.
        item: bytes of a number, 4 or 8.
    """
    vectors, build = Vectors(size, item), BUILDERS[name]

    @intrinsic
    def operation(context: Any, matrix: Any, first: Any, second: Any, mul: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            build(vectors, builder, *arguments)
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, types.intp, types.intp), generate

    return operation
