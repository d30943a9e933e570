"""TensorNet's energies, their gradient, and the gradient of a loss on both, without autograd.

A loss L(E, dE/dv) on energies E_i and on the gradient with respect to edge vectors v has, with
a_i = dL/dE_i and b_e = dL/d(dE/dv_e), the parameter gradient

    dL/dp = d/dp [ sum_i a_i E_i + d/de E(v + e b) at e = 0 ]

so it is the derivative, as v moves along b and the seed 1 of the way back along a, of the way
forward and back that gave energies and forces (forward over reverse). One text of the pass is run
twice, on numbers and on their derivatives (`slope`); nothing is computed twice and no
derivative of second order is written by hand. Structures do not interact: they are divided into
pieces that fit the cache, and threads share the pieces.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreibein.models.tensornet.steps import BACK, SLOPE, Steps, Weights
from dreibein.ops.atom_passes import (
    ANTICOMMUTE,
    ANTICOMMUTE_BACK,
    GATE,
    GATE_BACK,
    MULTIPLY,
    MULTIPLY_BACK,
    NORMALIZE,
    NORMALIZE_BACK,
    PART_SQUARES,
    PART_SQUARES_BACK,
    SQUARE,
    SQUARE_BACK,
    UPDATE,
    UPDATE_BACK,
)
from dreibein.ops.edge_differentials import (
    Geometry,
    edge_geometry,
    group,
    pull_kernel,
    tangent_kernel,
)
from dreibein.ops.edge_passes import edge_pass
from dreibein.ops.splines import RadialGrid
from dreibein.ops.workspaces import Workspace

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Piece:
    """Some structures of a batch.

    Attributes:
        atoms: Range of their atoms.
        edges: Range of their edges.
        kind: Row of each atom in the element table [n] int32.
        charge: 1 + 0.1 Q of each atom [n].
        sender: Sender of each edge, counted within the piece [e] int32.
        receiver: Receiver of each edge [e] int32.
        pair: Row of each edge in the table of pairs [e] int32.
    """

    atoms: slice
    edges: slice
    kind: Array
    charge: Array
    sender: Array
    receiver: Array
    pair: Array


class PieceWork(Steps):
    """The pass over one piece.

    Args:
        piece: The structures.
        weights: What is trained.
        keep: Arrays of the way forward and back, kept until the loss is differentiated.
        chiral: 2 Y M instead of q (Y M + M Y).
        eps: Of the two layer normalisations.
        layers: Number of interaction layers.
    """

    def __init__(
        self,
        piece: Piece,
        weights: Weights,
        keep: Workspace,
        *,
        chiral: bool,
        eps: tuple[float, float],
        layers: int,
    ) -> None:
        super().__init__(len(piece.kind), weights.arrays["pairs"].shape[1], weights, keep)
        self.piece, self.chiral, self.eps, self.layers = piece, chiral, eps, layers

    # the whole pass

    def start(self, vectors: Array, grid: RadialGrid, envelope: str) -> None:
        """Numbers of the edges."""
        self.geometry: Geometry = edge_geometry(vectors, grid, envelope)
        self.receivers = group(self.piece.receiver, self.atoms)
        self.senders = group(self.piece.sender, self.atoms)

    def forward(self, slope: bool) -> Tensor:
        """Energies [n], or their derivatives."""
        f = self.channels
        self._embed(slope)
        self.apply(SQUARE, ["x"], [("s", self._one)], slope)
        self.norm("s", "norm", "n", f, self.eps[0], slope)
        self.linear("n", "gate0", "a1", slope)
        self.silu("a1", "h1", 2 * f, slope)
        self.linear("h1", "gate2", "a2", slope)
        self.silu("a2", "f", 3 * f, slope)
        self.mix("x", "mix", "v", slope)
        self.apply(GATE, ["v", ("f", self.wide)], ["x0"], slope)
        for layer in range(self.layers):
            self._layer(layer, slope)
        self.apply(PART_SQUARES, [f"x{self.layers}"], [("b", self.wide)], slope)
        self.norm("b", "out_norm", "o", 3 * f, self.eps[1], slope)
        self.linear("o", "out", "a3", slope)
        self.silu("a3", "h3", f, slope)
        self.linear("h3", "head0", "a4", slope)
        self.silu("a4", "h4", f // 2, slope)
        self.linear("h4", "head2", "e", slope)
        return self.rows("e" + SLOPE if slope else "e", 1)[:, 0]

    def backward(self, slope: bool) -> None:
        """The way back from the gradients e~ of the energies; on derivatives, all gradients."""
        f, last = self.channels, f"x{self.layers}"
        self.linear_back("h4", "head2", "e", slope)
        self.silu_back("a4", "h4", f // 2, slope)
        self.linear_back("h3", "head0", "a4", slope)
        self.silu_back("a3", "h3", f, slope)
        self.linear_back("o", "out", "a3", slope)
        self.norm_back("b", "out_norm", "o", 3 * f, slope)
        self.apply(PART_SQUARES_BACK, [last, ("b" + BACK, self.wide)], [last + BACK], slope)
        for layer in reversed(range(self.layers)):
            self._layer_back(layer, slope)
        parts = ["v", ("f", self.wide), "x0" + BACK]
        self.apply(GATE_BACK, parts, ["v" + BACK, ("f" + BACK, self.wide)], slope)
        self.silu_back("a2", "f", 3 * f, slope)
        self.linear_back("h1", "gate2", "a2", slope)
        self.silu_back("a1", "h1", 2 * f, slope)
        self.linear_back("n", "gate0", "a1", slope)
        self.norm_back("s", "norm", "n", f, slope)
        self.mix_back("x", "mix", "v", slope)
        self.apply(SQUARE_BACK, ["x", ("s" + BACK, self._one)], ["x" + BACK], slope, add=True)
        if slope:
            self._embed_second()

    def _one(self, name: str) -> Array:
        return self.nine(name, 1)

    def _layer(self, k: int, slope: bool) -> None:
        self.apply(NORMALIZE, [f"x{k}"], [f"z{k}"], slope)
        self.mix(f"z{k}", f"mix_in{k}", f"y{k}", slope)
        self._message(k, slope)
        if self.chiral:
            self.apply(MULTIPLY, [f"y{k}", f"m{k}"], [f"u{k}"], slope)
        else:
            self.apply(ANTICOMMUTE, [f"y{k}", f"m{k}", self.piece.charge], [f"u{k}"], slope)
        self.mix(f"u{k}", f"mix_out{k}", f"d{k}", slope)
        self.apply(UPDATE, [f"z{k}", f"d{k}", self.piece.charge], [f"x{k + 1}"], slope)

    def _layer_back(self, k: int, slope: bool) -> None:
        after, u, charge = f"x{k + 1}{BACK}", f"u{k}{BACK}", self.piece.charge
        self.apply(UPDATE_BACK, [f"d{k}", charge, after], [f"d{k}{BACK}"], slope)
        self.mix_back(f"u{k}", f"mix_out{k}", f"d{k}", slope)
        to = [f"y{k}{BACK}", f"m{k}{BACK}"]
        if self.chiral:
            self.apply(MULTIPLY_BACK, [f"y{k}", f"m{k}", u], to, slope)
        else:
            self.apply(ANTICOMMUTE_BACK, [f"y{k}", f"m{k}", charge, u], to, slope)
        self._message_back(k, slope)
        self.mix_back(f"z{k}", f"mix_in{k}", f"y{k}", slope, add=after)
        self.apply(NORMALIZE_BACK, [f"x{k}", f"z{k}{BACK}"], [f"x{k}{BACK}"], slope)

    # edges

    def _edges(self, slope: bool) -> list[Array]:
        """Taps, with their derivatives."""
        return [self.geometry.taps, self.taps_slope] if slope else [self.geometry.taps]

    def _embed(self, slope: bool) -> None:
        arrays, piece = self.weights.arrays, self.piece
        harmonics = [self.geometry.harmonics]
        if slope:
            harmonics.append(self.harmonics_slope)
        edge_pass("embed_slope" if slope else "embed")(
            self.atoms, self.channels, *harmonics, *self._edges(slope), arrays["table"],
            arrays["pairs"], arrays["loops"], piece.kind, piece.pair, self.receivers[0],
            self.geometry.base, self.nine("x" + SLOPE if slope else "x"),
        )  # fmt: skip

    def _message(self, k: int, slope: bool) -> None:
        edge_pass("message_slope" if slope else "message")(
            self.atoms, self.channels, *self.both(self.nine, f"y{k}", slope=slope),
            *self._edges(slope), self.weights.arrays[f"table{k}"],
            self.weights.arrays[f"here{k}"], *self.receivers, self.piece.sender,
            self.geometry.base, self.nine(f"m{k}{SLOPE}" if slope else f"m{k}"),
        )  # fmt: skip

    def _message_back(self, k: int, slope: bool) -> None:
        table, here = self.weights.arrays[f"table{k}"], self.weights.arrays[f"here{k}"]
        rest = (table, here, *self.senders, self.piece.receiver, self.geometry.base)
        out, names = f"y{k}{BACK}", (f"y{k}", f"m{k}{BACK}")
        features = self.both(self.nine, *names, slope=slope)
        if slope:
            to = [self.gradients[f"{what}{k}"].numpy() for what in ("table", "here")]
            edge_pass("message_second")(
                self.atoms, self.channels, *features, *self._edges(True), *rest,
                self.nine(out + SLOPE), *to,
            )  # fmt: skip
        else:
            edge_pass("message_back")(
                self.atoms, self.channels, *features, self.geometry.taps, self.geometry.slopes,
                *rest, self.nine(out), self.gradient,
            )  # fmt: skip

    def _embed_back(self, to_harmonics: Array) -> None:
        geometry, arrays = self.geometry, self.weights.arrays
        edge_pass("embed_back")(
            self.atoms, self.channels, self.nine("x" + BACK), geometry.harmonics, geometry.taps,
            geometry.slopes, arrays["table"], arrays["pairs"], self.piece.pair,
            self.receivers[0], geometry.base, self.gradient, to_harmonics,
        )  # fmt: skip

    def _embed_second(self) -> None:
        arrays, piece = self.weights.arrays, self.piece
        to = [self.gradients[name].numpy() for name in ("table", "pairs", "loops")]
        edge_pass("embed_second")(
            self.atoms, self.channels, *self.both(self.nine, "x" + BACK, slope=True),
            self.geometry.harmonics, self.harmonics_slope, *self._edges(True), arrays["table"],
            arrays["pairs"], piece.kind, piece.pair, self.receivers[0], self.geometry.base, *to,
        )  # fmt: skip

    # what is called

    def energies_and_pull(self, energies: Array, pull: Array) -> None:
        """Fill the piece's energies [n] and the gradient of their sum by edge vectors [e, 3]."""
        kind = self.keep.numpy_type
        self.gradient = np.zeros(len(pull), kind)
        energies[:] = self.forward(slope=False).numpy()
        self.rows("e" + BACK, 1).fill_(1.0)
        self.backward(slope=False)
        to_harmonics = np.zeros((len(pull), 9), kind)
        self._embed_back(to_harmonics)
        pull_kernel(self.gradient, to_harmonics, self.geometry.unit, self.geometry.length, pull)

    def differentiate(
        self, to_energies: Array, to_pull: Array, slopes: Workspace, gradients: dict[str, Tensor]
    ) -> None:
        """Add the gradients of everything trainable, from those of energies and pull."""
        self.slopes, self.gradients = slopes, gradients
        geometry = self.geometry
        self.taps_slope = np.empty_like(geometry.taps)
        self.harmonics_slope = np.empty_like(geometry.harmonics)
        tangent_kernel(
            to_pull, geometry.unit, geometry.length, geometry.slopes, self.taps_slope,
            self.harmonics_slope,
        )  # fmt: skip
        self.forward(slope=True)
        self.rows("e" + BACK + SLOPE, 1)[:, 0].copy_(torch.from_numpy(to_energies))
        self.backward(slope=True)
        self.slopes, self.gradients = None, {}
