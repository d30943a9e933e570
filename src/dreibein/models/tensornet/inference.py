"""TensorNet for simulation: radial tables, fixed weights, a hand-written reverse pass.

Every filter is a function of the distance alone, so it becomes a table (quintic B-splines) when the
engine is made; what remains are sums over neighbors and matrix products of atoms. Nothing is
stored per edge and channel, and no autograd graph is built.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data

from dreibein.models.tensornet.network import TensorNet
from dreibein.models.tensornet.passes import (
    Plan,
    Share,
    State,
    Work,
    all_passes,
)
from dreibein.models.tensornet.tables import constants_of, grid_for
from dreibein.ops.edge_arrays import split_rows
from dreibein.ops.edge_geometry import ENVELOPES
from dreibein.ops.edge_kernels import Edges
from dreibein.ops.lanes import lane_count
from dreibein.ops.matmul import TILES
from dreibein.ops.workspaces import aligned, core_cache_bytes
from dreibein.systems.graphs import batch_index

Numbers = np.ndarray[Any, Any]
logger = logging.getLogger(__name__)

TABLE_ERROR = {torch.float32: 1e-6, torch.float64: 1e-10}
"""Largest error of filters and of their slopes: root mean square over a homogeneous neighborhood,
relative to that of each."""

_ATOMS_PER_THREAD = 12
"""Fewer are done before another thread has woken up."""

_BLOCKS_PER_CACHE = 8
"""Blocks of features that the second-level cache would hold: a pass uses some, and its matrices."""

_SPARE = 1.1
"""Room for pairs over their number, so that a list may grow a little."""

_RESULT_BYTES = 56
"""Energy, gradient, charge and lists of one atom beside `State` and `Edges`."""

_PULL_BYTES = 24
"""Gradient of one atom that a thread collects."""


@dataclass(frozen=True)
class TableReport:
    """How well the tables follow the networks that they replace.

    Attributes:
        knots: Intervals between 0 and the cutoff.
        error: Root mean square error of the filters, relative; zero for a model's own tables.
        slope_error: The same of their slopes.
        bytes: Size of all tables.
    """

    knots: int
    error: float
    slope_error: float
    bytes: int


@dataclass(frozen=True)
class _Layout:
    """What follows from who is there and who neighbors whom; in dynamics both stay for many calls.

    A call of a small system costs what its Python touches, so as little as can be is left to it.

    Attributes:
        of: The tensors it was made of, each with the number of its changes, and the threads.
        batch: Structure of each atom [N].
        kind: Row of each atom's element [N].
        charge: 1 + charge_scale Q of each atom's structure [N].
        sender: Of each pair [E], sorted by receiver.
        shift: Of each pair [E, 3].
        ptr: First pair of each receiver [N + 1], without those that are heard alone.
        shares: First atom of each thread and one past its last, [L + 1] by `Share`.
    """

    of: tuple[Any, ...]
    batch: Numbers
    kind: Numbers
    charge: Numbers
    sender: Numbers
    shift: Numbers
    ptr: Numbers
    shares: list[tuple[Numbers, Numbers]]

    @staticmethod
    def marks(structures: Data) -> tuple[Any, ...]:
        """What tells a later call whether anything changed."""
        names = ("z", "edge_index", "shift", "batch", "charge")
        tensors = tuple(structures.get(name) for name in names)
        changes = tuple(0 if tensor is None else tensor._version for tensor in tensors)
        return (*tensors, changes, torch.get_num_threads())

    def holds(self, structures: Data) -> bool:
        """Whether it was made of these very tensors, none of them changed since."""
        *tensors, changes, threads = self.marks(structures)
        same = all(one is other for one, other in zip(tensors, self.of, strict=False))
        return same and (changes, threads) == self.of[-2:]


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
        kind = ENVELOPES.index(config.envelope)
        self._row_of, self._charge_scale = network.row_of.cpu().numpy(), config.charge_scale
        with torch.no_grad():
            grid, error, slope_error = grid_for(network, bound)
            self._weights = constants_of(network, grid, self._numpy)
        tables = (self._weights.embedding.table, self._weights.tables)
        self._grid = (float(config.cutoff), grid.knots, grid.stretch, kind)
        self.tables = TableReport(grid.knots, error, slope_error, sum(t.nbytes for t in tables))
        atom_bytes = 9 * padded * np.dtype(self._numpy).itemsize
        fitting = core_cache_bytes() // (_BLOCKS_PER_CACHE * atom_bytes)
        block = max(1, fitting // max(TILES)) * max(TILES)
        chiral, gated = config.symmetry == "SO(3)", config.head == "gated"
        self._plan = Plan(config.channels, block, config.layers, chiral, gated, forces=True)
        self._start()

    def _start(self) -> None:
        """Begin without arrays and threads; they come with the first call."""
        self._layout: _Layout | None = None
        self._state: State | None = None
        self._edges: Edges | None = None
        self._work: list[Work] = []
        self._alone = Lock()
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        kept = ("dtype", "tables", "_numpy", "_row_of", "_charge_scale", "_weights", "_grid")
        return {name: getattr(self, name) for name in (*kept, "_plan")}

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

    def cost(self) -> tuple[float, float, float]:
        """Bytes that a call takes for each atom, each that is only heard by others, each pair."""
        state = _empty_state(1, 1, self._plan.layers, self._channels, self._numpy)
        ends, *of_pairs = (array.nbytes for array in _empty_edges(1, 1, self._numpy))
        results = _RESULT_BYTES + torch.get_num_threads() * _PULL_BYTES
        return (
            sum(array.nbytes for array in state) + 2 * ends + results,
            state.m.nbytes + state.kind.nbytes + results,
            _SPARE * (sum(of_pairs) - ends),
        )

    def __call__(
        self,
        structures: Data,
        *,
        gradients: bool = True,
        scale: float = 1.0,
        levels: Sequence[int] | None = None,
    ) -> tuple[Numbers, Numbers, Numbers]:
        """Energies of atoms and gradients of their sum.

        Args:
            structures: `Data` or `Batch` on the CPU; neighbors in both directions, sorted by
                receiver, those beyond the cutoff are skipped.
            gradients: Whether they are wanted; zero otherwise.
            scale: Unit of the results, in the network's.
            levels: Where not all atoms count: how many of them, and how many are within 1, 2, ... L
                edges of these [L + 1]. Atoms stand in this order, neighbors of the last ones after
                them, and those of whom no neighbors are listed.

        Returns:
            Energies [N], or of those that count, the gradients of their sum dE/dx [N, 3] and
            dE/d(strain) [B, 3, 3], float64.

        Raises:
            ValueError: Neighbors are not sorted by receiver.
        """
        with self._alone:  # its arrays serve one call at a time
            return self._evaluate(structures, gradients, scale, levels)

    def _evaluate(
        self, structures: Data, gradients: bool, scale: float, levels: Sequence[int] | None
    ) -> tuple[Numbers, Numbers, Numbers]:
        here = self._layout
        if levels is not None:
            here = self._lay_out(structures, levels)
        elif here is None or not here.holds(structures):
            here = self._layout = self._lay_out(structures)
        atoms = len(here.ptr) - 1
        state, edges = self._room(atoms, len(here.batch), len(here.sender))
        if levels is not None:
            _clear(state, levels)
        state.kind[:] = here.kind
        state.charge[:] = here.charge
        pos, cells = structures.pos.numpy(), structures.cell.numpy().reshape(-1, 3, 3)
        pairs = (pos, cells, here.batch, here.ptr, here.sender, here.shift)
        plan = self._plan if gradients else self._plan._replace(forces=False)
        threads = len(here.shares)
        self._scratch(threads)
        meeting = np.zeros(1, np.int64)
        gradient, strain = np.zeros((threads, *pos.shape)), np.zeros((threads, *cells.shape))
        arguments = (self._weights, state, edges, pairs, self._grid, scale)
        if not all_passes.overloads:
            logger.info(
                "loading compiled kernels; where they were never used before they are made first, "
                "which takes about half a minute"
            )

        def run(number: int) -> None:
            pulls = gradient[number], strain[number]
            share = Share(*here.shares[number], threads, meeting, *pulls)
            all_passes(*arguments, self._work[number], plan, share)

        waiting = [self._threads.submit(run, number) for number in range(1, threads)]
        if here.shares:
            run(0)
        for one in waiting:
            one.result()
        energies = state.energy if levels is None else state.energy[: levels[0]]
        alone = threads == 1  # then nothing is to be added
        pull, stretch = (x[0] if alone else x.sum(axis=0) for x in (gradient, strain))
        return scale * energies.astype(np.float64), pull, stretch

    def _lay_out(self, structures: Data, levels: Sequence[int] | None = None) -> "_Layout":
        batch = batch_index(structures)[0].numpy()
        levels = levels or (len(batch),) * (self._plan.layers + 1)
        atoms, (sender, receiver) = levels[-1], structures.edge_index.numpy()
        if (receiver[1:] < receiver[:-1]).any():
            raise ValueError(
                "the neighbor list is not sorted by receiver; take it from "
                "dreibein.neighbors.attach_neighbors, or evaluate with backend='reference'"
            )
        ptr = np.searchsorted(receiver, np.arange(atoms + 1))
        threads = max(1, min(torch.get_num_threads(), atoms // _ATOMS_PER_THREAD))
        charge = np.ones(atoms)
        if "charge" in structures:
            charge += (self._charge_scale * structures.charge.numpy())[batch[:atoms]]
        return _Layout(
            of=_Layout.marks(structures),
            batch=batch,
            kind=self._row_of[structures.z.numpy()],
            charge=charge,
            sender=sender,
            shift=structures.shift.numpy(),
            ptr=ptr,
            shares=_shares(ptr, levels, threads),
        )

    @property
    def _threads(self) -> ThreadPoolExecutor:
        """Threads that meet need a place each: as many as the machine has, or were asked for."""
        asked = max(torch.get_num_threads(), os.cpu_count() or 1)
        if self._pool is None or self._pool[0] < asked:
            self._pool = asked, ThreadPoolExecutor(asked, thread_name_prefix="dreibein")
        return self._pool[1]

    def _room(self, atoms: int, heard: int, candidates: int) -> tuple[State, Edges]:
        """Arrays for so many atoms, with those heard alone, and edges; kept from call to call."""
        state = self._state
        if state is None or (len(state.energy), len(state.kind)) != (atoms, heard):
            self._state = state = None  # before there is another
            sizes = atoms, heard, self._plan.layers, self._channels
            self._state = state = _empty_state(*sizes, self._numpy)
        if (
            self._edges is None
            or len(self._edges.start) != atoms
            or (len(self._edges.sender) < candidates)
        ):
            self._edges = _empty_edges(atoms, int(_SPARE * candidates) + 64, self._numpy)
        return state, self._edges

    def _scratch(self, threads: int) -> None:
        """Scratch of so many threads, and their pool."""
        while len(self._work) < threads:
            self._work.append(_empty_work(self._plan.block, self._channels, self._numpy))

    @property
    def _channels(self) -> int:
        """Channels with padding."""
        return len(self._weights.out_bias)


def _shares(ptr: Numbers, levels: Sequence[int], threads: int) -> list[tuple[Numbers, Numbers]]:
    """Of each thread its first atom and one past its last, by level."""
    ranges = [split_rows(ptr[: count + 1], threads) for count in levels]
    found = []
    for number in range(max(map(len, ranges))):
        own = [r[number] if number < len(r) else (0, 0) for r in ranges]
        first, last = np.array(own, dtype=np.int64).T
        found.append((np.ascontiguousarray(first), np.ascontiguousarray(last)))
    return found


def _clear(state: State, levels: Sequence[int]) -> None:
    """Zero what no pass writes and a later one reads: gradients where none arrives."""
    layers = len(levels) - 1
    for layer in range(layers):
        beyond = levels[layers - 1 - layer]
        state.m[layer][:, beyond:] = 0.0
        state.d[layer][:, beyond:] = 0.0
    state.to_y[:, levels[0] :] = 0.0


def _empty_state(atoms: int, heard: int, layers: int, channels: int, dtype: type) -> State:
    lanes = lane_count(dtype)
    chunks = channels // lanes

    def features(*many: int, rows: int = atoms) -> Numbers:
        return aligned(*many, chunks, rows, 9, lanes, dtype=dtype)

    def rows(width: int) -> Numbers:
        return aligned(atoms, width * channels, dtype=dtype)

    return State(
        x0=features(),
        mixed=features(),
        norm=rows(1),
        slope_in=rows(2),
        slope_out=rows(3),
        gates=rows(3),
        scale=aligned(layers, chunks, atoms, lanes, dtype=dtype),
        x=features(layers),
        y=features(layers),
        m=features(layers, rows=heard),
        d=features(layers),
        to_y=features() if layers else np.empty((chunks, 0, 9, lanes), dtype),
        energy=np.empty(atoms, dtype),
        kind=np.empty(heard, np.int64),
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
        a=aligned(9 * block, channels, dtype=dtype),
        b=aligned(9 * block, channels, dtype=dtype),
        one=aligned(block, channels, dtype=dtype),
        two=aligned(block, 2 * channels, dtype=dtype),
        three=aligned(block, 3 * channels, dtype=dtype),
        slope=aligned(block, 3 * channels, dtype=dtype),
        gradient=aligned(block, channels // lanes, 9, lanes, dtype=dtype),
        moments=np.empty((block, 2), dtype),
    )
