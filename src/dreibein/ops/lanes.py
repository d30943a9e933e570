"""Vector instructions for compiled code: arithmetic on neighboring channels, written once.

LLVM's own vectoriser gives up on a loop over channels that touches twenty rows of arrays which
might overlap. Here the channels of one step are one vector from the start, sums stay in registers,
and LLVM maps vectors of any length on what the processor has. A kernel is a Python function that
is run once, at compilation, and emits instructions:

    @lane_kernel
    def scale(lanes, x, factor, rows):
        with lanes.rows_and_chunks(x, rows) as (row, chunk):
            channel = chunk * lanes.size
            x.store(x.load(row, channel) * factor.splat(row), row, channel)

and is called from numba-compiled code as scale(x, factor, rows): with arrays, named tuples of
arrays, and integers. Floats of all arrays have one type. Channels must be padded to a multiple of
the lane count, `lane_count(dtype)`. Loops belong inside a kernel: each call costs what numba pays
for holding its arrays.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_INDEX = ir.IntType(64)
_LANE = ir.IntType(32)
_FLAGS = ("contract", "nsz", "arcp")  # a product and a sum may become one fused multiply-add


@lru_cache(maxsize=1)  # asking takes as long as a matrix product
def vector_bytes() -> int:
    """Width of the processor's vector registers in bytes."""
    return 64 if binding.get_host_cpu_features().get("avx512f", False) else 32


def lane_count(dtype: np.dtype[Any] | type) -> int:
    """Channels that one instruction handles."""
    return vector_bytes() // np.dtype(dtype).itemsize


class Integer:
    """A 64-bit index in the emitted code."""

    def __init__(self, lanes: "Lanes", value: Any) -> None:
        self.lanes, self.value = lanes, value

    def __add__(self, other: "Integer | int") -> "Integer":
        return Integer(self.lanes, self.lanes.builder.add(self.value, self.lanes.index(other)))

    def __mul__(self, other: "Integer | int") -> "Integer":
        return Integer(self.lanes, self.lanes.builder.mul(self.value, self.lanes.index(other)))


class Vector:
    """Channels c ... c + size in registers."""

    def __init__(self, lanes: "Lanes", value: Any) -> None:
        self.lanes, self.value = lanes, value

    def _binary(self, name: str, other: "Vector | float", swap: bool = False) -> "Vector":
        pair = (self.value, self.lanes.vector_of(other))
        operation = getattr(self.lanes.builder, name)
        return Vector(self.lanes, operation(*(pair[::-1] if swap else pair), flags=_FLAGS))

    def __add__(self, other: "Vector | float") -> "Vector":
        return self._binary("fadd", other)

    def __radd__(self, other: "Vector | float") -> "Vector":
        return self._binary("fadd", other)

    def __sub__(self, other: "Vector | float") -> "Vector":
        return self._binary("fsub", other)

    def __rsub__(self, other: "Vector | float") -> "Vector":
        return self._binary("fsub", other, swap=True)

    def __mul__(self, other: "Vector | float") -> "Vector":
        return self._binary("fmul", other)

    def __rmul__(self, other: "Vector | float") -> "Vector":
        return self._binary("fmul", other)

    def __truediv__(self, other: "Vector | float") -> "Vector":
        return self._binary("fdiv", other)

    def __rtruediv__(self, other: "Vector | float") -> "Vector":
        return self._binary("fdiv", other, swap=True)

    def __neg__(self) -> "Vector":
        return -1.0 * self

    def total(self) -> Any:
        """Sum over the lanes, as a vector whose first lane holds it."""
        lanes = self.lanes
        value, size = self.value, lanes.size
        while size > 1:
            size //= 2
            picks = [size + k if k < size else k for k in range(lanes.size)]
            mask = ir.Constant(ir.VectorType(_LANE, lanes.size), picks)
            high = lanes.builder.shuffle_vector(value, value, mask)
            value = lanes.builder.fadd(value, high, flags=_FLAGS)
        return lanes.builder.extract_element(value, ir.Constant(_LANE, 0))


class Variable:
    """A vector that changes in a loop; LLVM keeps it in a register."""

    def __init__(self, lanes: "Lanes", start: "Vector | float") -> None:
        self.lanes = lanes
        self._slot = cgutils.alloca_once(lanes.builder, lanes.vector)
        self.set(start)

    @property
    def value(self) -> Vector:
        """What it holds here."""
        return Vector(self.lanes, self.lanes.builder.load(self._slot))

    def set(self, value: "Vector | float") -> None:
        """Hold something else."""
        self.lanes.builder.store(self.lanes.vector_of(value), self._slot)

    def add(self, value: Vector) -> None:
        """Hold more."""
        self.set(self.value + value)


class Array:
    """A C-ordered array argument: an element is named by its indices."""

    def __init__(self, lanes: "Lanes", kind: Any, value: Any) -> None:
        self.lanes, self.kind = lanes, kind
        struct = lanes.context.make_array(kind)(lanes.context, lanes.builder, value)
        self._data = lanes.builder.ptrtoint(struct.data, _INDEX)
        self._shape = cgutils.unpack_tuple(lanes.builder, struct.shape, kind.ndim)
        self._strides = cgutils.unpack_tuple(lanes.builder, struct.strides, kind.ndim)

    def _address(self, indices: tuple["Integer | int", ...]) -> Any:
        builder, address = self.lanes.builder, self._data
        for index, stride in zip(indices, self._strides, strict=False):
            address = builder.add(address, builder.mul(self.lanes.index(index), stride))
        return address

    def _pointer(self, indices: tuple["Integer | int", ...], what: Any) -> Any:
        return self.lanes.builder.inttoptr(self._address(indices), what.as_pointer())

    def extent(self, axis: int) -> Integer:
        """Size along an axis."""
        return Integer(self.lanes, self._shape[axis])

    def row(self, *indices: "Integer | int") -> "Row":
        """What follows after the first indices, as one row."""
        return Row(self.lanes, self._address(indices))

    def load(self, *indices: "Integer | int") -> Vector:
        """Lanes that start at an element."""
        pointer = self._pointer(indices, self.lanes.vector)
        return Vector(self.lanes, self.lanes.builder.load(pointer, align=self.lanes.item))

    def store(self, value: Vector, *indices: "Integer | int") -> None:
        """Write lanes from an element on."""
        pointer = self._pointer(indices, self.lanes.vector)
        self.lanes.builder.store(value.value, pointer, align=self.lanes.item)

    def splat(self, *indices: "Integer | int") -> Vector:
        """One element in all lanes."""
        builder = self.lanes.builder
        return self.lanes.spread(builder.load(self._pointer(indices, self.lanes.scalar)))

    def integer(self, *indices: "Integer | int") -> Integer:
        """An element of an array of indices."""
        builder = self.lanes.builder
        value = builder.load(self._pointer(indices, ir.IntType(self.kind.dtype.bitwidth)))
        if self.kind.dtype.bitwidth < 64:
            value = builder.sext(value, _INDEX)
        return Integer(self.lanes, value)

    def put_total(self, vector: Vector, *indices: "Integer | int") -> None:
        """Set one element to the sum over a vector's lanes."""
        pointer = self._pointer(indices, self.lanes.scalar)
        self.lanes.builder.store(vector.total(), pointer)

    def accumulate(self, vector: Vector, *indices: "Integer | int") -> None:
        """Add the sum over a vector's lanes to one element."""
        builder, pointer = self.lanes.builder, self._pointer(indices, self.lanes.scalar)
        builder.store(builder.fadd(builder.load(pointer), vector.total(), flags=_FLAGS), pointer)


class Row:
    """Vectors that lie one after the other, or floats: offsets are known at compilation."""

    def __init__(self, lanes: "Lanes", address: Any) -> None:
        self.lanes, self.address = lanes, address

    def at(self, element: Integer) -> "Row":
        """The row from an element on."""
        builder = self.lanes.builder
        offset = builder.mul(element.value, ir.Constant(_INDEX, self.lanes.item))
        return Row(self.lanes, builder.add(self.address, offset))

    def _pointer(self, offset: int, what: Any) -> Any:
        builder = self.lanes.builder
        return builder.inttoptr(
            builder.add(self.address, ir.Constant(_INDEX, offset)), what.as_pointer()
        )

    def load(self, k: int) -> Vector:
        """Vector k."""
        lanes = self.lanes
        pointer = self._pointer(k * lanes.size * lanes.item, lanes.vector)
        return Vector(lanes, lanes.builder.load(pointer, align=lanes.item))

    def store(self, value: Vector, k: int) -> None:
        """Write vector k."""
        lanes = self.lanes
        pointer = self._pointer(k * lanes.size * lanes.item, lanes.vector)
        lanes.builder.store(value.value, pointer, align=lanes.item)

    def add_total(self, vector: Vector) -> None:
        """Add the sum over a vector's lanes to the first float."""
        builder, pointer = self.lanes.builder, self._pointer(0, self.lanes.scalar)
        builder.store(builder.fadd(builder.load(pointer), vector.total(), flags=_FLAGS), pointer)

    def splat(self, k: int) -> Vector:
        """Float k in all lanes."""
        lanes = self.lanes
        return lanes.spread(lanes.builder.load(self._pointer(k * lanes.item, lanes.scalar)))


class Lanes:
    """Emits the instructions of one kernel.

    Args:
        context: numba's target context.
        builder: LLVM's builder, where the kernel is called.
        item: Bytes of a float, 4 or 8.
    """

    def __init__(self, context: Any, builder: Any, item: int) -> None:
        self.context, self.builder, self.item = context, builder, item
        self.size = vector_bytes() // item
        self.scalar = ir.FloatType() if item == 4 else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, self.size)

    def index(self, value: "Integer | int") -> Any:
        """LLVM's value of an index."""
        return value.value if isinstance(value, Integer) else ir.Constant(_INDEX, value)

    def vector_of(self, value: "Vector | float") -> Any:
        """LLVM's value of a vector or of a constant in all lanes."""
        if isinstance(value, Vector):
            return value.value
        return ir.Constant(self.vector, [float(value)] * self.size)

    def spread(self, scalar: Any) -> Vector:
        """One LLVM float in all lanes."""
        builder = self.builder
        empty = ir.Constant(self.vector, ir.Undefined)
        first = builder.insert_element(empty, scalar, ir.Constant(_LANE, 0))
        mask = ir.Constant(ir.VectorType(_LANE, self.size), [0] * self.size)
        return Vector(self, builder.shuffle_vector(first, empty, mask))

    def variable(self, start: "Vector | float" = 0.0) -> Variable:
        """A vector that a loop changes."""
        return Variable(self, start)

    def whole(self, count: Integer, step: int) -> Integer:
        """The largest multiple of a step in a count."""
        by = ir.Constant(_INDEX, step)
        return Integer(self, self.builder.mul(self.builder.udiv(count.value, by), by))

    def zero(self) -> Integer:
        """The index 0."""
        return Integer(self, self.index(0))

    def chunk(self, channel: Integer) -> Integer:
        """Number of the vector that begins with a channel."""
        size = ir.Constant(_INDEX, self.size)
        return Integer(self, self.builder.udiv(channel.value, size))

    @contextmanager
    def loop(
        self, start: "Integer | int", stop: "Integer | int", step: int = 1
    ) -> Iterator[Integer]:
        """Instructions for start, start + step, ... below stop."""
        first, last, by = self.index(start), self.index(stop), ir.Constant(_INDEX, step)
        with cgutils.for_range_slice(self.builder, first, last, by, _INDEX) as (index, _):
            yield Integer(self, index)

    @contextmanager
    def rows_and_chunks(self, x: Array, rows: Integer) -> Iterator[tuple[Integer, Integer]]:
        """Loops over the first rows of a matrix, and over the chunks of its columns."""
        width = self.builder.udiv(x.extent(1).value, ir.Constant(_INDEX, self.size))
        with self.loop(0, rows) as row, self.loop(0, Integer(self, width)) as chunk:
            yield row, chunk

    def exp(self, x: Vector) -> Vector:
        """Exponential to 2 units in the last place, for |x| below 80 (float32) or 700 (float64)."""
        builder, double = self.builder, self.item == 8
        limit, mantissa, bias = (700.0, 52, 1023) if double else (80.0, 23, 127)
        x = self._call("llvm.minnum", self._call("llvm.maxnum", x, -limit), limit)
        power = self._call("llvm.rint", x * math.log2(math.e))
        # ln 2 in two parts: the first has few digits, so power times it is exact
        rest = x - power * 0.693359375 - power * (math.log(2.0) - 0.693359375)
        value: Vector | float = 1.0 / math.factorial(13 if double else 7)
        for n in reversed(range(13 if double else 7)):
            value = rest * value + 1.0 / math.factorial(n)
        whole = ir.VectorType(ir.IntType(8 * self.item), self.size)
        exponent = builder.add(
            builder.fptosi(power.value, whole), ir.Constant(whole, [bias] * self.size)
        )
        scale = builder.shl(exponent, ir.Constant(whole, [mantissa] * self.size))
        return value * Vector(self, builder.bitcast(scale, self.vector))

    def sigmoid(self, x: Vector) -> Vector:
        """1 / (1 + exp(-x))."""
        return 1.0 / (1.0 + self.exp(-x))

    def _call(self, name: str, *values: "Vector | float") -> Vector:
        kinds = [self.vector] * len(values)
        full = f"{name}.v{self.size}f{8 * self.item}"
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(self.vector, kinds), full
        )
        return Vector(self, self.builder.call(function, [self.vector_of(v) for v in values]))


def lane_kernel(build: Callable[..., None]) -> Any:
    """Make `build(lanes, *arguments)` callable from numba-compiled code.

    Args:
        build: Emits the instructions; called once for each set of argument types. Arguments are
            arrays, named tuples of arrays, and integers.
    """

    def typed(typing_context: Any, *kinds: Any) -> Any:
        item = _item(build.__name__, kinds)

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            lanes = Lanes(context, builder, item)
            pairs = zip(signature.args, values, strict=True)
            build(lanes, *(_argument(lanes, kind, value) for kind, value in pairs))
            return context.get_dummy_value()

        return types.void(*kinds), generate

    # numba reads the names of the arguments from here; the first is its typing context
    typed.__signature__ = inspect.signature(build)  # type: ignore[attr-defined]
    typed.__name__ = build.__name__
    return intrinsic(typed)


def _argument(lanes: Lanes, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Array):
        return Array(lanes, kind, value)
    if hasattr(kind, "fields"):  # a named tuple
        parts = cgutils.unpack_tuple(lanes.builder, value, len(kind.types))
        members = (_argument(lanes, k, v) for k, v in zip(kind.types, parts, strict=True))
        return SimpleNamespace(**dict(zip(kind.fields, members, strict=True)))
    return Integer(lanes, lanes.context.cast(lanes.builder, value, kind, types.int64))


def _flat(kinds: Iterable[Any]) -> Iterator[Any]:
    for kind in kinds:
        yield from _flat(kind.types) if hasattr(kind, "fields") else (kind,)


def _item(name: str, kinds: tuple[Any, ...]) -> int:
    """Bytes of a float, from the arrays among the arguments."""
    flat = list(_flat(kinds))
    arrays = [kind.dtype for kind in flat if isinstance(kind, types.Array)]
    widths = {dtype.bitwidth for dtype in arrays if isinstance(dtype, types.Float)}
    if len(widths) != 1:
        raise TypeError(f"{name}: arrays of floats must have one type, got {kinds}")
    return int(widths.pop()) // 8
