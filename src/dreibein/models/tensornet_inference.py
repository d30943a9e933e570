"""TensorNet for simulation: radial tables, fixed weights, a hand-written reverse pass.

Every filter is a function of the distance alone, so it becomes a table (quintic B-splines) when the
engine is made; what remains are sums over neighbors and matrix products of atoms. Nothing is
stored per edge and channel, and no autograd graph is built.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.models.tensornet import CHARGE_SCALE, TensorNet
from dreibein.models.tensornet_passes import (
    Plan,
    State,
    Work,
    back_pass,
    embedding_pass,
    layer_pass,
)
from dreibein.models.tensornet_tables import constants_of, grid_for
from dreibein.ops.edge_arrays import ENVELOPES, collect, find_edges, split_rows
from dreibein.ops.edge_kernels import Edges
from dreibein.ops.lanes import lane_count
from dreibein.ops.matmul import ROWS
from dreibein.systems.graphs import batch_index

Numbers = np.ndarray[Any, Any]
Job = Callable[[Work, tuple[int, int]], None]

TABLE_ERROR = {torch.float32: 1e-6, torch.float64: 1e-10}
"""Largest error of filters and of their slopes, root mean square over a
homogeneous neighborhood, relative to that of each."""

_CACHE_BYTES = 1 << 16
"""Size of one block of features: a few of them and some matrices fit the second-level cache."""


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
        table_error: Bound on the relative error of filters and their slopes, 1e-6 in float32 and
            1e-10 in float64; more knots are taken until it is met. A network that was defined on
            knots keeps its own.

    Raises:
        ValueError: The bound is not met with 4096 knots.
    """

    def __init__(self, network: TensorNet, *, table_error: float | None = None) -> None:
        config = network.config
        self.dtype = next(network.parameters()).dtype
        self._numpy = np.float64 if self.dtype == torch.float64 else np.float32
        lanes = lane_count(self._numpy)
        padded = -(-config.channels // lanes) * lanes
        bound = TABLE_ERROR[self.dtype] if table_error is None else table_error
        self._cutoff, self._kind = float(config.cutoff), ENVELOPES.index(config.envelope)
        self._row_of = network.row_of.cpu().numpy()
        with torch.no_grad():
            grid, error, slope_error = grid_for(network, bound)
            self._weights = constants_of(network, grid, self._numpy)
        tables = (self._weights.embedding.table, self._weights.tables)
        self._knots, self._stretch = grid.knots, grid.stretch
        self.tables = TableReport(grid.knots, error, slope_error, sum(t.nbytes for t in tables))
        fitting = _CACHE_BYTES // (9 * padded * np.dtype(self._numpy).itemsize)
        block = max(1, fitting // ROWS[0]) * ROWS[0]
        self._plan = Plan(
            config.channels, block, config.layers, config.symmetry == "SO(3)", forces=True
        )
        self._start()

    def _start(self) -> None:
        """Begin without arrays and threads; they come with the first call."""
        self._state: State | None = None
        self._edges: Edges | None = None
        self._work: list[Work] = []
        self._pool: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        kept = ("dtype", "tables", "_numpy", "_cutoff", "_kind", "_row_of", "_weights", "_knots")
        return {name: getattr(self, name) for name in (*kept, "_stretch", "_plan")}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__dict__.update(kept)
        self._start()

    def describe(self) -> str:
        """How it was made, in a few words."""
        report = self.tables
        exact = (
            "the model's own" if report.slope_error == 0.0 else f"error {report.slope_error:.0e}"
        )
        return f"radial tables of {report.knots} knots, {exact}"

    def __call__(
        self, structures: Data, *, gradients: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies of atoms and gradients of their sum.

        Args:
            structures: `Data` or `Batch` on the CPU; neighbors sorted by receiver, those beyond
                the cutoff are skipped.
            gradients: Whether they are wanted; zero otherwise.

        Returns:
            Energies [N], dE/dx [N, 3] and dE/d(strain) [B, 3, 3], float64, in the network's unit.
        """
        batch, count = batch_index(structures)
        atoms, (sender, receiver) = len(batch), structures.edge_index.numpy()
        ptr = np.searchsorted(receiver, np.arange(atoms + 1))
        pos, cells = structures.pos.numpy(), structures.cell.reshape(-1, 3, 3).numpy()
        pairs = (pos, cells, batch.numpy(), ptr, sender, structures.shift.numpy())
        state, edges = self._room(atoms, len(sender))
        state.kind[:] = self._row_of[structures.z.numpy()]
        state.charge[:] = 1.0
        if "charge" in structures:
            state.charge[:] += (CHARGE_SCALE * structures.charge.numpy())[pairs[2]]
        plan = self._plan._replace(forces=gradients)
        jobs = split_rows(ptr, torch.get_num_threads())
        self._scratch(len(jobs))
        grid = (self._cutoff, self._knots, self._stretch, self._kind)
        self._share(jobs, lambda work, rows: find_edges(edges, pairs, *grid, *rows))
        arrays = (self._weights, state, edges)
        self._share(jobs, lambda work, rows: embedding_pass(*arrays, work, plan, *rows))
        for layer in range(plan.layers):
            self._share(jobs, self._layer(layer_pass, arrays, plan, layer))
        for layer in reversed(range(plan.layers if gradients else 0)):
            self._share(jobs, self._layer(back_pass, arrays, plan, layer))
        gradient, strain = np.zeros((atoms, 3)), np.zeros((count, 3, 3))
        if gradients:
            collect(edges, pairs[2], gradient, strain)
        strain = 0.5 * (strain + strain.transpose(0, 2, 1))
        energies = torch.from_numpy(state.energy.astype(np.float64))
        return energies, torch.from_numpy(gradient), torch.from_numpy(strain)

    @staticmethod
    def _layer(run: Callable[..., None], arrays: Any, plan: Plan, layer: int) -> Job:
        return lambda work, rows: run(*arrays, work, plan, layer, *rows)

    def _share(self, jobs: list[tuple[int, int]], run: Job) -> None:
        """Run every range of rows, the last on this thread."""
        if len(jobs) > 1 and self._pool is None:
            self._pool = ThreadPoolExecutor(thread_name_prefix="dreibein")
        waiting = [
            self._pool.submit(run, work, rows)  # type: ignore[union-attr]
            for work, rows in zip(self._work[1:], jobs[:-1], strict=False)
        ]
        for rows in jobs[-1:]:
            run(self._work[0], rows)
        for one in waiting:
            one.result()

    def _room(self, atoms: int, candidates: int) -> tuple[State, Edges]:
        """Arrays for so many atoms and edges, kept from call to call."""
        if self._state is None or len(self._state.kind) != atoms:
            self._state = _empty_state(atoms, self._plan.layers, self._channels, self._numpy)
        if (
            self._edges is None
            or len(self._edges.start) != atoms
            or (len(self._edges.sender) < candidates)
        ):
            self._edges = _empty_edges(atoms, int(1.1 * candidates) + 64, self._numpy)
        return self._state, self._edges

    def _scratch(self, threads: int) -> None:
        """Scratch of so many threads, and their pool."""
        while len(self._work) < threads:
            self._work.append(_empty_work(self._plan.block, self._channels, self._numpy))

    @property
    def _channels(self) -> int:
        """Channels with padding."""
        return len(self._weights.out_bias)


def _empty_state(atoms: int, layers: int, channels: int, dtype: type) -> State:
    lanes = lane_count(dtype)
    chunks = channels // lanes

    def features(*many: int) -> Numbers:
        return np.empty((*many, chunks, atoms, 9, lanes), dtype)

    def rows(width: int) -> Numbers:
        return np.empty((atoms, width * channels), dtype)

    return State(
        x0=features(),
        mixed=features(),
        norm=rows(1),
        slope_in=rows(2),
        slope_out=rows(3),
        gates=rows(3),
        scale=np.empty((layers, chunks, atoms, lanes), dtype),
        x=features(layers),
        y=features(layers),
        m=features(layers),
        d=features(layers),
        to_y=features() if layers else np.empty((chunks, 0, 9, lanes), dtype),
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
    )


def _empty_work(block: int, channels: int, dtype: type) -> Work:
    lanes = lane_count(dtype)
    return Work(
        a=np.empty((9 * block, channels), dtype),
        b=np.empty((9 * block, channels), dtype),
        one=np.empty((block, channels), dtype),
        two=np.empty((block, 2 * channels), dtype),
        three=np.empty((block, 3 * channels), dtype),
        slope=np.empty((block, 3 * channels), dtype),
        gradient=np.empty((block, channels // lanes, 9, lanes), dtype),
        moments=np.empty((block, 2), dtype),
    )
