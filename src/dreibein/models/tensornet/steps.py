"""Steps of a network's pass over rows and packed features, forward, back, and their derivatives.

Every array has a name. The gradient with respect to x is named x~; the derivative of x, as the
input of the pass moves in a direction, is named x'. A step run with `slope` takes and gives
derivatives; a step back run with `slope` also adds up the gradients of the weights it reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np
from torch import Tensor

from dreibein.ops.atom_passes import SILU, SILU_BACK, Pass, compiled
from dreibein.ops.lanes import lane_count
from dreibein.ops.layer_norm import (
    norm_back_kernel,
    norm_kernel,
    norm_second_kernel,
    norm_slope_kernel,
)
from dreibein.ops.matmul import add_outer, add_product, matmul, pack_again
from dreibein.ops.workspaces import Workspace

Array = np.ndarray[Any, Any]
BACK = "~"
SLOPE = "'"
_compile = numba.njit(nogil=True, error_model="numpy")


class Weights:
    """What a pass reads and is trained.

    Args:
        tensors: By name; matrices [out, in] end in ".weight", stacks [3, out, in] begin with "mix".
        memory: Keeps the packed matrices.

    Attributes:
        tensors: As given.
        arrays: The same memory.
        packed: Matrices as `ops.matmul` takes them, by name, and by name~ for the way back; without
            those whose rows or columns are no whole vectors.
    """

    def __init__(self, tensors: dict[str, Tensor], memory: Workspace) -> None:
        self.tensors = tensors
        self.arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        self.packed: dict[str, Array] = {}
        lanes = lane_count(memory.numpy_type)
        for name, array in self.arrays.items():
            matrix = name.endswith(".weight") and array.ndim == 2
            rows, columns = array.shape[-2:] if matrix or name.startswith("mix") else (1, 1)
            if rows % lanes or columns % lanes:
                continue
            stack = array.reshape(-1, rows, columns)
            forward = memory.array(name, len(stack), rows // lanes, columns, lanes)
            back = memory.array(name + BACK, len(stack), columns // lanes, rows, lanes)
            pack_again(stack, forward, back)
            self.packed[name], self.packed[name + BACK] = forward, back


@dataclass
class Steps:
    """Steps over the atoms of a piece.

    Args:
        atoms: Number of atoms, or of rows.
        channels: F.
        weights: What is trained.
        keep: Memory of values and gradients.
        slopes: Memory of derivatives.
        gradients: Where gradients of the weights are added up, by name.
    """

    atoms: int
    channels: int
    weights: Weights
    keep: Workspace
    slopes: Workspace | None = None
    gradients: dict[str, Tensor] = field(default_factory=dict)

    # memory

    def _space(self, name: str) -> Workspace:
        if name.endswith(SLOPE):
            assert self.slopes is not None
            return self.slopes
        return self.keep

    def nine(self, name: str, count: int = 9) -> Array:
        """Features [count, atoms, channels] of a name."""
        return self._space(name).array(name, count, self.atoms, self.channels)

    def wide(self, name: str, parts: int = 3) -> Array:
        """Rows [atoms, parts · channels] of a name, seen as [parts, atoms, channels]."""
        rows = self._space(name).array(name, self.atoms, parts, self.channels)
        return rows.transpose(1, 0, 2)

    def rows(self, name: str, width: int) -> Tensor:
        """Rows [atoms, width] of a name."""
        return self._space(name).tensor(name, self.atoms, width)

    def both(self, view: Callable[..., Any], *names: str, slope: bool) -> list[Any]:
        """Arrays of names, each followed by its derivative if `slope`."""
        ends = ("", SLOPE) if slope else ("",)
        return [view(name + end) for name in names for end in ends]

    # building blocks: `slope` runs the same step on derivatives

    def apply(
        self, what: Pass, arguments: Sequence[Any], results: Sequence[Any], slope: bool,
        add: bool = False,
    ) -> None:  # fmt: skip
        """One pass; arguments and results are names of features [9, ...], views, or arrays."""
        arrays: list[Array] = []
        for one in arguments:
            if isinstance(one, np.ndarray):
                arrays.append(one)
                continue
            name, view = one if isinstance(one, tuple) else (one, self.nine)
            arrays.append(view(name))
            if slope:
                arrays.append(view(name + SLOPE))
        for one in results:
            name, view = one if isinstance(one, tuple) else (one, self.nine)
            arrays.append(view(name + SLOPE if slope else name))
        compiled(what, dual=slope, add=add)(*arrays)

    def silu(self, x: str, out: str, width: int, slope: bool) -> None:
        """The activation x · sigmoid(x) of rows."""
        self._flat(SILU, (x,), out, width, slope)

    def silu_back(self, x: str, out: str, width: int, slope: bool) -> None:
        """Gradient with respect to x from that with respect to out."""
        self._flat(SILU_BACK, (x, out + BACK), x + BACK, width, slope)

    def _flat(self, what: Pass, names: Sequence[str], out: str, width: int, slope: bool) -> None:
        size = self.atoms * width

        def view(name: str) -> Array:
            return self._space(name).flat(name, size)

        self.apply(what, [(name, view) for name in names], [(out, view)], slope)

    def mix(self, x: str, weight: str, out: str, slope: bool) -> None:
        """I, A, S each times its matrix."""
        end = SLOPE if slope else ""
        packed = self.weights.packed[weight]
        _mix(self._stack(x + end), packed, self._stack(out + end), self.atoms)

    def mix_back(self, x: str, weight: str, out: str, slope: bool, add: str = "") -> None:
        """Gradient with respect to x, on top of what is in `add`; on derivatives, of W too."""
        end = SLOPE if slope else ""
        packed = self.weights.packed[weight + BACK]
        g, to = self._stack(out + BACK + end), self._stack(x + BACK + end)
        if add:
            to[...] = self._stack(add + end)
            _add_mixed(g, packed, to, self.atoms)
        else:
            _mix(g, packed, to, self.atoms)
        if slope:
            total = self.gradients[weight].numpy()
            _add_outers(g, self._stack(x), total, self.atoms)
            _add_outers(self._stack(out + BACK), self._stack(x + SLOPE), total, self.atoms)

    def _stack(self, name: str) -> Array:
        """Features of a name [9 · atoms, channels], component by component."""
        return self._space(name).array(name, 9 * self.atoms, self.channels)

    def linear(self, x: str, weight: str, out: str, slope: bool) -> None:
        """Out = W x + b on rows."""
        end = SLOPE if slope else ""
        w, bias = (self.weights.arrays[f"{weight}.{what}"] for what in ("weight", "bias"))
        to, rows = self._rows(out + end, w.shape[0]), self._rows(x + end, w.shape[1])
        packed = self.weights.packed.get(weight + ".weight")
        if packed is None:
            np.matmul(rows, w.T, out=to)
            if not slope:
                to += bias
        elif slope:
            matmul(rows, packed[0], to, 0, self.atoms)
        else:
            to[...] = bias
            add_product(rows, packed[0], to)

    def linear_back(self, x: str, weight: str, out: str, slope: bool) -> None:
        """Gradient with respect to x; on derivatives, of W and b too."""
        end = SLOPE if slope else ""
        w = self.weights.arrays[weight + ".weight"]
        packed = self.weights.packed.get(weight + ".weight" + BACK)
        g, to = self._rows(out + BACK + end, w.shape[0]), self._rows(x + BACK + end, w.shape[1])
        if packed is None:
            np.matmul(g, w, out=to)
        else:
            matmul(g, packed[0], to, 0, self.atoms)
        if slope:
            pairs = ((out + BACK + SLOPE, x), (out + BACK, x + SLOPE))
            self.gradients_of(weight, pairs)

    def gradients_of(self, weight: str, pairs: Sequence[tuple[str, str]]) -> None:
        """Add to the gradients of W and b: pairs of a result's gradient and the rows given.

        W gets the outer products of all pairs, b the sum of the first gradient.
        """
        shape = self.weights.arrays[weight + ".weight"].shape
        total = self.gradients[weight + ".weight"].numpy()
        for left, right in pairs:
            g, rows = self._rows(left, shape[0]), self._rows(right, shape[1])
            if weight + ".weight" in self.weights.packed:
                add_outer(g, rows, total)
            else:
                total += g.T @ rows
        to_bias = self.gradients[weight + ".bias"].numpy()
        to_bias += self._rows(pairs[0][0], shape[0]).sum(0)

    def norm(self, s: str, weight: str, out: str, width: int, eps: float, slope: bool) -> None:
        """Layer normalisation of rows."""
        gamma, beta = (self.weights.arrays[f"{weight}.{what}"] for what in ("weight", "bias"))
        if slope:
            x, rho, s_slope, n_slope = self._norm_arrays(s, out, width, SLOPE)
            rest = (self._rows(out + "x" + SLOPE, width), self._rows(out + "rho" + SLOPE, 1)[:, 0])
            norm_slope_kernel(x, rho, gamma, s_slope, n_slope, *rest)
        else:
            x, rho, values, n = self._norm_arrays(s, out, width, "")
            norm_kernel(values, gamma, beta, eps, n, x, rho)

    def norm_back(self, s: str, weight: str, out: str, width: int, slope: bool) -> None:
        """Gradient with respect to the rows; on derivatives, of weight and bias too."""
        gamma = self.weights.arrays[weight + ".weight"]
        x, rho, to_s, to_n = self._norm_arrays(s + BACK, out + BACK, width, "", out)
        if not slope:
            norm_back_kernel(x, rho, gamma, to_n, to_s)
            return
        to = [self.gradients[f"{weight}.{what}"].numpy() for what in ("weight", "bias")]
        _, _, to_s, to_n_slope = self._norm_arrays(s + BACK, out + BACK, width, SLOPE, out)
        x_slope = self._rows(out + "x" + SLOPE, width)
        rho_slope = self._rows(out + "rho" + SLOPE, 1)[:, 0]
        norm_second_kernel(x, x_slope, rho, rho_slope, gamma, to_n, to_n_slope, to_s, *to)

    def _norm_arrays(
        self, s: str, out: str, width: int, end: str, kept: str = ""
    ) -> tuple[Array, Array, Array, Array]:
        kept = kept or out
        x, rho = self._rows(kept + "x", width), self._rows(kept + "rho", 1)[:, 0]
        return x, rho, self._rows(s + end, width), self._rows(out + end, width)

    def _rows(self, name: str, width: int) -> Array:
        return self._space(name).array(name, self.atoms, width)


@_compile
def _mix(x, packed, out, atoms):  # type: ignore[no-untyped-def]
    """I, A, S of features [9 atoms, F] through one matrix each."""
    matmul(x, packed[0], out, 0, atoms)
    matmul(x, packed[1], out, atoms, 3 * atoms)
    matmul(x, packed[2], out, 4 * atoms, 5 * atoms)


@_compile
def _add_mixed(x, packed, out, atoms):  # type: ignore[no-untyped-def]
    """The same, added to what `out` holds."""
    add_product(x[:atoms], packed[0], out[:atoms])
    add_product(x[atoms : 4 * atoms], packed[1], out[atoms : 4 * atoms])
    add_product(x[4 * atoms :], packed[2], out[4 * atoms :])


@_compile
def _add_outers(g, x, total, atoms):  # type: ignore[no-untyped-def]
    """Add to the gradients [3, F, F] of the matrices of I, A, S."""
    add_outer(g[:atoms], x[:atoms], total[0])
    add_outer(g[atoms : 4 * atoms], x[atoms : 4 * atoms], total[1])
    add_outer(g[4 * atoms :], x[4 * atoms :], total[2])
