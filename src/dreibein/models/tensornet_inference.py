"""TensorNet for simulation: radial tables, fixed weights, a hand-written reverse pass.

Every filter is a function of the distance alone, so it becomes a table (quintic B-splines) when the
engine is made; what remains are sums over neighbors and matrix products of atoms. Nothing is
stored per edge and channel, and no autograd graph is built.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from dreibein.models.tensornet_passes import (
    Plan,
    State,
    Weights,
    Work,
    back_pass,
    embedding_pass,
    layer_pass,
)
from dreibein.ops.edge_arrays import ENVELOPES, collect, find_edges, split_rows
from dreibein.ops.edge_kernels import Edges
from dreibein.ops.lanes import lane_count
from dreibein.ops.splines import RadialGrid, interpolate

if TYPE_CHECKING:
    from dreibein.models.tensornet import TensorNet

Numbers = np.ndarray[Any, Any]

TABLE_ERROR = 1e-6
"""Largest error of filters and of their slopes, root mean square relative to that of each."""

_MOST_KNOTS = 4096
_CACHE_BYTES = 1 << 18
"""Size of one block of features: two of them and the matrices fit the second-level cache."""


@dataclass(frozen=True)
class TableReport:
    """How well the tables follow the networks that they replace.

    Attributes:
        knots: Intervals between 0 and the cutoff.
        error: Largest relative error of a filter.
        slope_error: Largest relative error of its slope.
        bytes: Size of all tables.
    """

    knots: int
    error: float
    slope_error: float
    bytes: int


class TensorNetEngine:
    """Energies and gradients of a TensorNet at fixed weights.

    Args:
        network: Copied from; later changes of its weights are not seen.
        table_error: Bound on the relative error of every filter and its slope; more knots are
            taken until it is met. A network that was defined on knots keeps its own.

    Raises:
        ValueError: The bound is not met with 4096 knots.
    """

    def __init__(self, network: "TensorNet", *, table_error: float = TABLE_ERROR) -> None:
        config = network.config
        self.dtype = network.head[0].weight.dtype
        self._numpy = np.float64 if self.dtype == torch.float64 else np.float32
        lanes = lane_count(self._numpy)
        padded = -(-config.channels // lanes) * lanes
        self._cutoff, self._kind = float(config.cutoff), ENVELOPES.index(config.envelope)
        self._row_of = network.row_of.cpu().numpy()
        with torch.no_grad():
            filters = _filters(network)
            grid, error, slope_error = _grid(network, filters, table_error)
            self._weights = _weights(network, filters, grid, padded, self._numpy)
        self._knots = grid.knots
        self.tables = TableReport(grid.knots, error, slope_error, self._weights.tables.nbytes)
        block = max(4, _CACHE_BYTES // (9 * padded * np.dtype(self._numpy).itemsize))
        self._plan = Plan(
            config.channels, lanes, block, config.layers, len(network.elements),
            config.symmetry == "SO(3)", True,
        )  # fmt: skip
        self._state: State | None = None
        self._edges: Edges | None = None
        self._work: list[Work] = []
        self._pool: ThreadPoolExecutor | None = None
        self._blas = ThreadpoolController().select(user_api="blas")

    def __call__(
        self, z: Tensor, pos: Tensor, cell: Tensor, charge: Tensor, batch: Tensor,
        edge_index: Tensor, shift: Tensor, *, forces: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Energies of atoms and gradients of their sum.

        Args:
            z: Atomic numbers [N].
            pos: Positions [N, 3] in Å, float64.
            cell: Cells [B, 3, 3] in Å, float64.
            charge: Total charge of each structure [B].
            batch: Structure of each atom [N].
            edge_index: Candidates [2, C] sorted by receiver; those beyond the cutoff are skipped.
            shift: Their cell shifts [C, 3].
            forces: Whether gradients are wanted; they are zero otherwise.

        Returns:
            Energies [N], dE/dx [N, 3] and dE/d(strain) [B, 3, 3], float64, in the network's unit.
        """
        atoms, structures = len(z), len(cell)
        sender, receiver = edge_index.numpy()
        ptr = np.searchsorted(receiver, np.arange(atoms + 1))
        pairs = (pos.numpy(), cell.numpy(), batch.numpy(), ptr, sender, shift.numpy())
        state, edges = self._room(atoms, len(sender))
        state.kind[:] = self._row_of[z.numpy()]
        state.charge[:] = (1.0 + 0.1 * charge.numpy())[pairs[2]]
        plan = self._plan._replace(forces=forces)
        jobs = split_rows(ptr, torch.get_num_threads())
        works = self._scratch(len(jobs))
        with self._blas.limit(limits=1):
            self._share(
                jobs, lambda k, rows: find_edges(
                    edges, pairs, self._cutoff, self._knots, self._kind, *rows
                )
            )  # fmt: skip
            arrays = (self._weights, state, edges)
            self._share(jobs, lambda k, rows: embedding_pass(*arrays, works[k], plan, *rows))
            for layer in range(plan.layers):
                self._share(jobs, lambda k, rows: layer_pass(*arrays, works[k], plan, layer, *rows))
            for layer in reversed(range(plan.layers if forces else 0)):
                self._share(jobs, lambda k, rows: back_pass(*arrays, works[k], plan, layer, *rows))
        gradient, strain = np.zeros((atoms, 3)), np.zeros((structures, 3, 3))
        if forces:
            collect(edges, pairs[2], gradient, strain)
        strain = 0.5 * (strain + strain.transpose(0, 2, 1))
        energies = torch.from_numpy(state.energy.astype(np.float64))
        return energies, torch.from_numpy(gradient), torch.from_numpy(strain)

    def _share(
        self, jobs: list[tuple[int, int]], run: Callable[[int, tuple[int, int]], None]
    ) -> None:
        """Run every range of rows, the last on this thread."""
        if len(jobs) > 1 and self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=64, thread_name_prefix="dreibein")
        waiting = [
            self._pool.submit(run, k, rows)  # type: ignore[union-attr]
            for k, rows in enumerate(jobs[:-1])
        ]
        for rows in jobs[-1:]:
            run(len(jobs) - 1, rows)
        for one in waiting:
            one.result()

    def _room(self, atoms: int, candidates: int) -> tuple[State, Edges]:
        """Arrays for so many atoms and edges, kept from call to call."""
        if self._state is None or len(self._state.kind) != atoms:
            self._state = _empty_state(atoms, self._plan.layers, self._channels, self._numpy)
        if self._edges is None or len(self._edges.start) != atoms or (
            len(self._edges.sender) < candidates
        ):
            self._edges = _empty_edges(atoms, int(1.1 * candidates) + 64, self._numpy)
        return self._state, self._edges

    def _scratch(self, threads: int) -> list[Work]:
        while len(self._work) < threads:
            self._work.append(_empty_work(self._plan.block, self._channels, self._numpy))
        return self._work

    @property
    def _channels(self) -> int:
        """Channels with padding."""
        return int(self._weights.loops.shape[1])


def _filters(network: "TensorNet") -> Callable[[Tensor], Tensor]:
    """Every filter without its envelope: distances [K] -> [L + 1, K, 3, F]."""

    def filters(lengths: Tensor) -> Tensor:
        features = network.radial(lengths.to(network.head[0].weight.dtype))
        parts = [network.embedding.distance, *(layer.filter for layer in network.interactions)]
        values = torch.stack([part(features) for part in parts])
        return values.unflatten(-1, (3, -1)).double()

    return filters


def _grid(
    network: "TensorNet", filters: Callable[[Tensor], Tensor], bound: float
) -> tuple[RadialGrid, float, float]:
    """A grid that meets the bound, and the errors on it."""
    cutoff, knots = network.config.cutoff, getattr(network.config, "knots", 0)
    if knots:
        return RadialGrid(cutoff, knots), 0.0, 0.0
    knots = 64
    while knots <= _MOST_KNOTS:
        grid = RadialGrid(cutoff, knots)
        error, slope_error = _errors(network, grid)
        if max(error, slope_error) <= bound:
            return grid, error, slope_error
        knots *= 2
    raise ValueError(
        f"radial tables of {_MOST_KNOTS} knots err by {max(error, slope_error):.1e}, more than "
        f"{bound:.1e}; use backend='reference'"
    )


def _errors(network: "TensorNet", grid: RadialGrid) -> tuple[float, float]:
    """Relative errors of filters and slopes half-way between the knots, times the envelope."""
    exact = _double(network)
    middle = ((grid.nodes[2:-3] + grid.nodes[3:-2]) / 2).requires_grad_(False)
    apart = grid.spacing / 4
    places = torch.stack((middle - apart, middle, middle + apart))
    envelope = network.envelope(middle).view(1, -1, 1, 1)
    table = exact(grid.nodes).transpose(0, 1)
    spline = [
        interpolate(grid.coefficients(table), *grid.taps(place)).transpose(0, 1) for place in places
    ]
    truth = [exact(place) for place in places]
    slopes = [envelope * (side[2] - side[0]) for side in (spline, truth)]
    values = [envelope * side[1] for side in (spline, truth)]
    return _relative(*values), _relative(*slopes)


def _relative(found: Tensor, truth: Tensor) -> float:
    """Root mean square of an error over that of the truth."""
    return float((found - truth).square().mean().sqrt() / truth.square().mean().sqrt())


def _double(network: "TensorNet") -> Callable[[Tensor], Tensor]:
    """The filters of a copy in float64, where differences of slopes can be seen."""
    import copy

    return _filters(copy.deepcopy(network).double())


def _weights(
    network: "TensorNet",
    filters: Callable[[Tensor], Tensor],
    grid: RadialGrid,
    padded: int,
    dtype: type,
) -> Weights:
    """The network's constants, padded, transposed and tabulated."""
    channels, embedding, layers = network.config.channels, network.embedding, network.interactions
    exact = _double(network)
    tables = grid.coefficients(exact(grid.nodes).transpose(0, 1)).transpose(0, 1)
    here = exact(torch.zeros(1, dtype=torch.float64))[:, 0]  # [L + 1, 3, F]

    def pad(x: Tensor, *parts: int) -> Numbers:
        """Pad the trailing dimensions; `parts` says how many blocks of F each has."""
        for axis, part in enumerate(reversed(parts), start=1):
            blocks = x.unflatten(-axis, (part, -1))
            rest = x.new_zeros(*blocks.shape)
            room = list(blocks.shape)
            room[-axis] = -(-blocks.shape[-axis] // lanes) * lanes
            rest = x.new_zeros(room)
            rest.narrow(-axis, 0, blocks.shape[-axis]).copy_(blocks)
            x = rest.flatten(-axis - 1, -axis)
        return np.ascontiguousarray(x.numpy().astype(dtype))

    lanes = lane_count(dtype)
    double = {name: value.detach().double().cpu() for name, value in network.named_parameters()}

    def both(name: str, inputs: int, outputs: int) -> tuple[Numbers, Numbers]:
        weight = double[f"{name}.weight"]
        return pad(weight.mT, inputs, outputs), pad(weight, outputs, inputs)

    def mixing(pattern: str) -> tuple[Numbers, Numbers]:
        names = [pattern.format(k) for k in range(len(layers))] if "{" in pattern else [pattern]
        stacked = [double[f"{name}.weight"] for name in names]
        weight = torch.stack(stacked) if stacked else torch.zeros(0, 3, channels, channels).double()
        return pad(weight.mT, 1, 1), pad(weight, 1, 1)

    element = double["embedding.element.weight"]
    pair, bias = double["embedding.pair.weight"], double["embedding.pair.bias"]
    receivers, senders = element @ pair[:, :channels].T + bias, element @ pair[:, channels:].T
    gate_in, gate_in_back = both("embedding.gate.0", 1, 2)
    gate_out, gate_out_back = both("embedding.gate.2", 2, 3)
    mix, mix_back = mixing("embedding.mix")
    mix_in, mix_in_back = mixing("interactions.{}.mix_in")
    mix_out, mix_out_back = mixing("interactions.{}.mix_out")
    out, out_back = both("out", 3, 1)
    hidden, hidden_back = both("head.0", 1, 1)
    return Weights(
        tables=pad(tables, 1),
        here=pad(here[1:], 1),
        pairs=pad((receivers.unsqueeze(1) + senders).flatten(0, 1), 1),
        loops=pad(math.sqrt(3.0) * here[0, 0] * (receivers + senders), 1),
        norm=pad(torch.stack((double["embedding.norm.weight"], double["embedding.norm.bias"])), 1),
        gate_in=gate_in,
        gate_in_bias=pad(double["embedding.gate.0.bias"], 2),
        gate_in_back=gate_in_back,
        gate_out=gate_out,
        gate_out_bias=pad(double["embedding.gate.2.bias"], 3),
        gate_out_back=gate_out_back,
        mix=mix[0],
        mix_back=mix_back[0],
        mix_in=mix_in,
        mix_in_back=mix_in_back,
        mix_out=mix_out,
        mix_out_back=mix_out_back,
        out_norm=pad(torch.stack((double["out_norm.weight"], double["out_norm.bias"])), 3),
        out=out,
        out_bias=pad(double["out.bias"], 1),
        out_back=out_back,
        hidden=hidden,
        hidden_bias=pad(double["head.0.bias"], 1),
        hidden_back=hidden_back,
        last=pad(double["head.2.weight"][0], 1),
        last_bias=double["head.2.bias"].numpy().astype(dtype),
    )


def _empty_state(atoms: int, layers: int, channels: int, dtype: type) -> State:
    def empty(*shape: int) -> Numbers:
        return np.empty((*shape, channels), dtype)

    features = (layers, atoms, 9)
    return State(
        x0=empty(atoms, 9),
        mixed=empty(atoms, 9),
        norm=empty(atoms),
        slope_in=np.empty((atoms, 2 * channels), dtype),
        slope_out=np.empty((atoms, 3 * channels), dtype),
        gates=np.empty((atoms, 3 * channels), dtype),
        scale=empty(layers, atoms),
        x=empty(*features),
        y=empty(*features),
        m=empty(*features),
        d=empty(*features),
        to_y=empty(atoms if layers else 0, 9),
        energy=np.empty(atoms, dtype),
        kind=np.empty(atoms, np.int64),
        charge=np.empty(atoms, dtype),
    )


def _empty_edges(atoms: int, room: int, dtype: type) -> Edges:
    return Edges(
        start=np.empty(atoms, np.int64),
        stop=np.empty(atoms, np.int64),
        sender=np.empty(room, np.int32),
        base=np.empty(room, np.int32),
        taps=np.empty((room, 6), dtype),
        slopes=np.empty((room, 6), dtype),
        harmonics=np.empty((room, 9), dtype),
        unit=np.empty((room, 3), dtype),
        inverse=np.empty(room, dtype),
        gradient=np.empty(room, dtype),
        pull=np.empty((room, 3), dtype),
    )


def _empty_work(block: int, channels: int, dtype: type) -> Work:
    return Work(
        a=np.empty((9 * block, channels), dtype),
        b=np.empty((9 * block, channels), dtype),
        one=np.empty((block, channels), dtype),
        two=np.empty((block, 2 * channels), dtype),
        three=np.empty((block, 3 * channels), dtype),
        slope=np.empty((block, 3 * channels), dtype),
        moments=np.empty((block, 2), dtype),
        sums=np.empty(9, dtype),
    )
