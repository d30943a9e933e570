"""What happens to one atom's features, compiled, in both directions and with derivatives.

A pass is a function of numbers; compiled, it runs over atoms and channels of arrays [n, N, F].
Each has a way back, which takes the gradients of its results to those of its arguments. Run on
`Dual` numbers, the function gives its derivative in a direction and the way back gives second
derivatives: the same text, four kernels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from dreibein.ops.atom_kernels import anticommutator, dot, product, transposed
from dreibein.ops.duals import Dual, sigmoid
from dreibein.ops.edge_kernels import PART, part_dots
from dreibein.ops.lanes import Array, Integer, Lanes, lane_count

Numbers = Sequence[Any]
Function = Callable[..., Sequence[Numbers]]
PARTS = ((0, 1), (1, 4), (4, 9))
"""First and one past the last component of I, A, S."""


@dataclass(frozen=True)
class Pass:
    """One function of an atom's numbers.

    Attributes:
        function: Takes the lanes and one list of numbers for each argument; gives lists.
        arguments: Length of each; 0 is one number per atom that is never differentiated by.
        results: Length of each.
    """

    function: Function
    arguments: tuple[int, ...]
    results: tuple[int, ...]


def spread(parts: Numbers) -> list[Any]:
    """A number for each of I, A, S, repeated for each component."""
    return [parts[part] for part in PART]


def _scaled(x: Numbers, factor: Any) -> list[Any]:
    return [v * factor for v in x]


def _added(x: Numbers, y: Numbers) -> list[Any]:
    return [v + w for v, w in zip(x, y, strict=True)]


def _gate(lanes: Lanes, x: Numbers, gates: Numbers) -> tuple[Numbers]:
    return ([v * g for v, g in zip(x, spread(gates), strict=True)],)


def _gate_back(lanes: Lanes, x: Numbers, gates: Numbers, g: Numbers) -> tuple[Numbers, Numbers]:
    return [v * f for v, f in zip(g, spread(gates), strict=True)], part_dots(x, g)


def _normalize(lanes: Lanes, x: Numbers) -> tuple[Numbers]:
    return (_scaled(x, 1.0 / (dot(x, x) + 1.0)),)


def _normalize_back(lanes: Lanes, x: Numbers, g: Numbers) -> tuple[Numbers]:
    scale = 1.0 / (dot(x, x) + 1.0)
    pull = scale * scale * dot(x, g) * -2.0
    return (_added(_scaled(g, scale), _scaled(x, pull)),)


def _square(lanes: Lanes, x: Numbers) -> tuple[Numbers]:
    return ([dot(x, x)],)


def _square_back(lanes: Lanes, x: Numbers, g: Numbers) -> tuple[Numbers]:
    return (_scaled(x, g[0] * 2.0),)


def _part_squares(lanes: Lanes, x: Numbers) -> tuple[Numbers]:
    return (part_dots(x, x),)


def _part_squares_back(lanes: Lanes, x: Numbers, g: Numbers) -> tuple[Numbers]:
    return ([v * (f * 2.0) for v, f in zip(x, spread(g), strict=True)],)


def _silu(lanes: Lanes, x: Numbers) -> tuple[Numbers]:
    return ([v * sigmoid(lanes, v) for v in x],)


def _silu_back(lanes: Lanes, x: Numbers, g: Numbers) -> tuple[Numbers]:
    found = []
    for v, w in zip(x, g, strict=True):
        s = sigmoid(lanes, v)
        found.append(w * (s * (1.0 + v * (1.0 - s))))
    return (found,)


def _anticommute(lanes: Lanes, y: Numbers, m: Numbers, charge: Numbers) -> tuple[Numbers]:
    return _normalize(lanes, _scaled(anticommutator(y, m), charge[0]))


def _anticommute_back(
    lanes: Lanes, y: Numbers, m: Numbers, charge: Numbers, g: Numbers
) -> tuple[Numbers, Numbers]:
    (g,) = _normalize_back(lanes, _scaled(anticommutator(y, m), charge[0]), g)
    g = _scaled(g, charge[0])
    return anticommutator(g, transposed(m)), anticommutator(g, transposed(y))


def _multiply(lanes: Lanes, y: Numbers, m: Numbers) -> tuple[Numbers]:
    return _normalize(lanes, _scaled(product(y, m), 2.0))


def _multiply_back(lanes: Lanes, y: Numbers, m: Numbers, g: Numbers) -> tuple[Numbers, Numbers]:
    (g,) = _normalize_back(lanes, _scaled(product(y, m), 2.0), g)
    g = _scaled(g, 2.0)
    return product(g, transposed(m)), product(transposed(y), g)


def _update(lanes: Lanes, x: Numbers, d: Numbers, charge: Numbers) -> tuple[Numbers]:
    return (_added(_added(d, x), _scaled(product(d, d), charge[0])),)


def _update_back(lanes: Lanes, d: Numbers, charge: Numbers, g: Numbers) -> tuple[Numbers]:
    turned = anticommutator(g, transposed(d))
    return (_added(g, _scaled(turned, charge[0])),)


GATE = Pass(_gate, (9, 3), (9,))
GATE_BACK = Pass(_gate_back, (9, 3, 9), (9, 3))
NORMALIZE = Pass(_normalize, (9,), (9,))
NORMALIZE_BACK = Pass(_normalize_back, (9, 9), (9,))
SQUARE = Pass(_square, (9,), (1,))
SQUARE_BACK = Pass(_square_back, (9, 1), (9,))
PART_SQUARES = Pass(_part_squares, (9,), (3,))
PART_SQUARES_BACK = Pass(_part_squares_back, (9, 3), (9,))
SILU = Pass(_silu, (1,), (1,))
SILU_BACK = Pass(_silu_back, (1, 1), (1,))
ANTICOMMUTE = Pass(_anticommute, (9, 9, 0), (9,))
ANTICOMMUTE_BACK = Pass(_anticommute_back, (9, 9, 0, 9), (9, 9))
MULTIPLY = Pass(_multiply, (9, 9), (9,))
MULTIPLY_BACK = Pass(_multiply_back, (9, 9, 9), (9, 9))
UPDATE = Pass(_update, (9, 9, 0), (9,))
UPDATE_BACK = Pass(_update_back, (9, 0, 9), (9,))


@lru_cache(maxsize=64)
def compiled(what: Pass, *, dual: bool = False, add: bool = False) -> Callable[..., None]:
    """The pass over arrays, called as f((arguments..., results...)).

    Args:
        what: The pass.
        dual: Each argument that is differentiated by is followed by its derivative, and the
            results are derivatives.
        add: Results are added to what the arrays hold.
    """
    kernel = _kernel(what, dual, add)

    @numba.njit(nogil=True, error_model="numpy")
    def run(arrays, atoms, channels):  # type: ignore[no-untyped-def]
        kernel(arrays, atoms, channels)

    def call(*arrays: np.ndarray[Any, Any]) -> None:
        _, atoms, channels = arrays[-1].shape
        run(arrays, atoms, channels)

    return call


def _kernel(what: Pass, dual: bool, add: bool) -> Any:
    def emit(lanes: Lanes, arrays: list[Array], atoms: Integer, channels: Integer) -> None:
        with lanes.loop(0, atoms) as i, lanes.loop(0, channels, lanes.size) as c:
            rest = iter(arrays)
            arguments: list[Any] = []
            for length in what.arguments:
                values: Any = next(rest)
                if length == 0:
                    arguments.append([values.splat(i)])
                    continue
                numbers = [values.load(a, i, c) for a in range(length)]
                if dual:
                    slopes = next(rest)
                    numbers = [Dual(v, slopes.load(a, i, c)) for a, v in enumerate(numbers)]
                arguments.append(numbers)
            found = what.function(lanes, *arguments)
            for values, out in zip(found, rest, strict=True):
                for a, value in enumerate(values):
                    result = value.slope if dual else value
                    out.store(out.load(a, i, c) + result if add else result, a, i, c)

    return over_arrays(emit)


def over_arrays(emit: Callable[..., None]) -> Any:
    """Make `emit(lanes, arrays, *integers)` callable from compiled code with a tuple of arrays.

    Args:
        emit: Emits the instructions, once for each set of types.
    """

    def generate_for(kinds: Any) -> Callable[..., Any]:
        widths = {k.dtype.bitwidth for k in kinds if isinstance(k.dtype, types.Float)}
        (width,) = widths

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            lanes = Lanes(context, builder, width // 8)
            values = cgutils.unpack_tuple(builder, arguments[0], len(kinds))
            arrays = [Array(lanes, kind, value) for kind, value in zip(kinds, values, strict=True)]
            pairs = zip(signature.args[1:], arguments[1:], strict=True)
            numbers = [Integer(lanes, context.cast(builder, v, k, types.int64)) for k, v in pairs]
            emit(lanes, arrays, *numbers)
            return context.get_dummy_value()

        return generate

    @intrinsic
    def operation(typing_context: Any, arrays: Any, rows: Any, channels: Any) -> Any:
        return types.void(arrays, rows, channels), generate_for(list(arrays.types))

    return operation


def fits(channels: int, dtype: np.dtype[Any] | type) -> bool:
    """Whether rows of so many channels are whole vectors."""
    return channels % lane_count(dtype) == 0
