"""Steps of a network's pass over rows and packed features, forward, back, and their derivatives.

Every array has a name. The gradient with respect to x is named x~; the derivative of x, as the
input of the pass moves in a direction, is named x'. A step run with `slope` takes and gives
derivatives; a step back run with `slope` also adds up the gradients of the weights it reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreibein.ops.atom_passes import PARTS, SILU, SILU_BACK, Pass, compiled
from dreibein.ops.layer_norm import (
    norm_back_kernel,
    norm_kernel,
    norm_second_kernel,
    norm_slope_kernel,
)
from dreibein.ops.workspaces import Workspace

Array = np.ndarray[Any, Any]
BACK = "~"
SLOPE = "'"


@dataclass(frozen=True)
class Weights:
    """What the pass reads and is trained: tables made of the filter networks, and the rest.

    Attributes:
        tensors: By name; see `names`.
        arrays: The same memory.
        layers: Number of interaction layers.
    """

    tensors: dict[str, Tensor]
    arrays: dict[str, Array]
    layers: int

    @staticmethod
    def names(layers: int) -> list[str]:
        """Names of the tensors, in the order in which they are differentiated by."""
        found = ["table", "pairs", "loops", "mix", "norm.weight", "norm.bias"]
        found += [f"gate{k}.{what}" for k in (0, 2) for what in ("weight", "bias")]
        for layer in range(layers):
            found += [f"{what}{layer}" for what in ("table", "here", "mix_in", "mix_out")]
        found += ["out_norm.weight", "out_norm.bias", "out.weight", "out.bias"]
        return [*found, "head0.weight", "head0.bias", "head2.weight", "head2.bias"]


@dataclass
class Steps:
    """Steps over the atoms of a piece.

    Args:
        atoms: Number of atoms.
        weights: What is trained.
        keep: Memory of values and gradients.
        slopes: Memory of derivatives.
        gradients: Where gradients of the weights are added up, by name.
    """

    atoms: int
    weights: Weights
    keep: Workspace
    slopes: Workspace | None = None
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.channels = self.weights.tensors["pairs"].shape[1]

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
        for part, w in enumerate(self.weights.tensors[weight]):
            torch.mm(self._block(x + end, part), w.T, out=self._block(out + end, part))

    def mix_back(self, x: str, weight: str, out: str, slope: bool, add: str = "") -> None:
        """Gradient with respect to x, on top of what is in `add`; on derivatives, of W too."""
        end = SLOPE if slope else ""
        for part, w in enumerate(self.weights.tensors[weight]):
            g, to = self._block(out + BACK + end, part), self._block(x + BACK + end, part)
            if add:
                torch.addmm(self._block(add + end, part), g, w, out=to)
            else:
                torch.mm(g, w, out=to)
            if slope:
                total = self.gradients[weight][part]
                total.addmm_(g.T, self._block(x, part))
                total.addmm_(self._block(out + BACK, part).T, self._block(x + SLOPE, part))

    def _block(self, name: str, part: int) -> Tensor:
        first, last = PARTS[part]
        full = self._space(name).tensor(name, 9 * self.atoms, self.channels)
        return full[first * self.atoms : last * self.atoms]

    def linear(self, x: str, weight: str, out: str, slope: bool) -> None:
        """Out = W x + b on rows."""
        end = SLOPE if slope else ""
        w = self.weights.tensors[weight + ".weight"]
        to, rows = self.rows(out + end, w.shape[0]), self.rows(x + end, w.shape[1])
        if slope:
            torch.mm(rows, w.T, out=to)
        else:
            torch.addmm(self.weights.tensors[weight + ".bias"], rows, w.T, out=to)

    def linear_back(self, x: str, weight: str, out: str, slope: bool) -> None:
        """Gradient with respect to x; on derivatives, of W and b too."""
        end = SLOPE if slope else ""
        w = self.weights.tensors[weight + ".weight"]
        g = self.rows(out + BACK + end, w.shape[0])
        torch.mm(g, w, out=self.rows(x + BACK + end, w.shape[1]))
        if slope:
            total = self.gradients[weight + ".weight"]
            total.addmm_(g.T, self.rows(x, w.shape[1]))
            total.addmm_(self.rows(out + BACK, w.shape[0]).T, self.rows(x + SLOPE, w.shape[1]))
            self.gradients[weight + ".bias"].add_(g.sum(0))

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
