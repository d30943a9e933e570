"""Energies of a batch and their gradient by edge vectors, as one node of the autograd graph.

What `training` does to a piece of a batch, done to all of them by threads, with the
parameters' gradients left to autograd where they are cheap: the filter networks are evaluated on
the nodes of the grid, element pairs in a table.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dreibein.models.tensornet.edges import features_at_nodes
from dreibein.models.tensornet.filters import table_of
from dreibein.models.tensornet.steps import Weights
from dreibein.models.tensornet.training import Piece, PieceWork
from dreibein.ops.lanes import lane_count
from dreibein.ops.splines import RadialGrid
from dreibein.ops.workspaces import Workspace, borrow, borrowed, give_back
from dreibein.systems.graphs import Graph

if TYPE_CHECKING:
    from dreibein.models.tensornet.network import TensorNet

_PIECE_ATOMS = 256
"""Atoms of a piece at most, about: measured; smaller ones cost calls, larger ones cache misses."""

_SERIAL_ATOMS = 32
"""Batches with fewer atoms are one piece for one thread."""


def misfit(network: "TensorNet", device: torch.device, dtype: torch.dtype) -> str:
    """Why the pass does not exist for this network; empty where it does."""
    if network.config.charge_channels:
        return "its filters hear charges, not distances alone (charge_channels)"
    if network.config.charge_embedding or network.config.spin_embedding:
        return "it embeds total charge or spin"
    if network.grid is None:
        return "its filters are evaluated at every edge (knots is 0)"
    if device.type != "cpu":
        return f"it is on {device}, and the pass is for CPUs"
    if dtype not in (torch.float32, torch.float64):
        return f"its precision is {dtype}, and the pass knows float32 and float64"
    if network.config.head != "mlp":
        return f"its head is '{network.config.head}', and the pass knows 'mlp'"
    lanes = lane_count(_numpy_type(dtype))
    if network.config.channels % lanes:
        return f"{network.config.channels} channels are not a multiple of {lanes}"
    return ""


def odd_graph(graph: Graph) -> str:
    """Why the pass does not exist for this graph; empty where it does."""
    if graph.num_atoms == 0:
        return "the batch has no atoms"
    if not bool((graph.receiver[1:] >= graph.receiver[:-1]).all()):
        return "edges are not sorted by receiver"
    if not bool((graph.batch[1:] >= graph.batch[:-1]).all()):
        return "structures do not stand one after the other"
    return ""


def energies_and_pull(network: "TensorNet", graph: Graph) -> tuple[Tensor, Tensor]:
    """E_i [N] and d(sum_i E_i)/d(edge vectors) [E, 3], both differentiable by the parameters.

    Args:
        network: One without a `misfit`.
        graph: Edges sorted by receiver, structures one after the other; nothing in it is
            differentiated by.
    """
    tensors = trained_tensors(network)
    settings = _Settings(network, graph, tuple(tensors))
    found = _EnergiesAndPull.apply(settings, *tensors.values())
    return found[0], found[1]


def trained_tensors(network: "TensorNet") -> dict[str, Tensor]:
    """What the pass reads, made from the parameters: tables at the knots, pairs, weights."""
    embedding, grid = network.embedding, network.grid
    assert grid is not None
    channels = network.config.channels
    weight = embedding.element.weight
    left, right = embedding.pair.weight.split(channels, dim=1)
    receivers = torch.addmm(embedding.pair.bias, weight, left.T)
    senders = weight @ right.T
    features = features_at_nodes(network.radial, grid, weight)
    loops = float(network.config.self_loops)

    def table(filters: torch.nn.Module) -> tuple[Tensor, Tensor]:
        control, here = table_of(filters, grid, features)
        return control, loops * here

    first, here = table(embedding.distance)
    gate = embedding.gate
    found = {
        "table": first,
        "pairs": (receivers.unsqueeze(1) + senders).flatten(0, 1),
        "loops": math.sqrt(3.0) * here[0] * (receivers + senders),
        "mix": embedding.mix.weight,
        **_named("norm", embedding.norm),
        **_named("gate0", gate[0]),
        **_named("gate2", gate[2]),
    }
    for k in range(network.config.layers):
        layer: Any = network.interactions[k]
        found[f"table{k}"], found[f"here{k}"] = table(layer.filter)
        found[f"mix_in{k}"] = layer.mix_in.weight
        found[f"mix_out{k}"] = layer.mix_out.weight
    head: Any = network.head
    outer = {"out_norm": network.out_norm, "out": network.out, "head0": head[0], "head2": head[2]}
    for name, module in outer.items():
        found |= _named(name, module)
    return found


def _named(name: str, module: torch.nn.Module) -> dict[str, Tensor]:
    return {f"{name}.weight": module.weight, f"{name}.bias": module.bias}  # type: ignore[dict-item]


class _Settings:
    """What does not change in a step: sizes, the grid, the pieces of the batch."""

    def __init__(self, network: "TensorNet", graph: Graph, names: tuple[str, ...]) -> None:
        config = network.config
        assert network.grid is not None
        self.grid: RadialGrid = network.grid
        self.envelope, self.chiral = config.envelope, config.symmetry == "SO(3)"
        self.eps = (network.embedding.norm.eps, network.out_norm.eps)
        self.names = names
        self.layers, self.dtype = config.layers, graph.vectors.dtype
        self.vectors = graph.vectors.detach().contiguous().numpy()
        self.threads = torch.get_num_threads()
        self.pieces = list(_pieces(network, graph, self.threads))

    def weights(self, tensors: tuple[Tensor, ...], memory: Workspace) -> Weights:
        """The tensors by name, also packed."""
        named = {n: t.detach().contiguous() for n, t in zip(self.names, tensors, strict=True)}
        return Weights(named, memory)

    def work(self, piece: Piece, weights: Weights) -> PieceWork:
        """The pass over a piece, with memory of its own."""
        return PieceWork(
            piece,
            weights,
            borrow(self.dtype),
            chiral=self.chiral,
            eps=self.eps,
            layers=self.layers,
        )


def _pieces(network: "TensorNet", graph: Graph, threads: int) -> Any:
    """Whole structures, as many as fit a cache, and at least one piece for each thread."""
    kind = network.row_of[graph.z].to(torch.int32).numpy()
    structure, sender, receiver = (t.numpy() for t in (graph.batch, graph.sender, graph.receiver))
    scale = network.config.charge_scale
    charge = (1.0 + scale * graph.charge).index_select(0, graph.batch).numpy()
    ends = np.searchsorted(structure, np.arange(graph.num_structures), side="right")
    pieces = max(1, min(threads, len(kind) // _SERIAL_ATOMS), -(-len(kind) // _PIECE_ATOMS))
    goals = len(kind) * np.arange(1, pieces + 1) / pieces
    cuts = np.unique(np.concatenate(([0], ends[np.searchsorted(ends, goals - 0.5)])))
    rows = len(network.elements)
    pair = (kind[receiver] * rows + kind[sender]).astype(np.int32)
    starts = np.searchsorted(receiver, cuts)
    for k, first in enumerate(cuts[:-1]):
        atoms, edges = slice(first, cuts[k + 1]), slice(starts[k], starts[k + 1])
        yield Piece(
            atoms,
            edges,
            kind[atoms],
            charge[atoms],
            (sender[edges] - first).astype(np.int32),
            (receiver[edges] - first).astype(np.int32),
            pair[edges],
        )


class _Kept:
    """Arrays of the way forward and back; they go back to the pool with the autograd graph."""

    def __init__(self, works: list[PieceWork], packed: Workspace) -> None:
        self.works, self.packed = works, packed

    def __del__(self) -> None:
        for memory in (self.packed, *(work.keep for work in self.works)):
            give_back(memory)


class _EnergiesAndPull(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, settings: _Settings, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        packed = borrow(settings.dtype)
        weights = settings.weights(tensors, packed)
        works = [settings.work(piece, weights) for piece in settings.pieces]
        kind = settings.vectors.dtype
        energies = np.empty(settings.pieces[-1].atoms.stop, kind)
        pull = np.empty((len(settings.vectors), 3), kind)

        def evaluate(place: int) -> None:
            for work in works[place :: settings.threads]:
                atoms, edges = work.piece.atoms, work.piece.edges
                work.start(settings.vectors[edges], settings.grid, settings.envelope)
                work.energies_and_pull(energies[atoms], pull[edges])

        in_threads(evaluate, min(settings.threads, len(works)))
        ctx.settings, ctx.kept = settings, _Kept(works, packed)
        return torch.from_numpy(energies), torch.from_numpy(pull)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_energies: Tensor, to_pull: Tensor) -> tuple[Any, ...]:
        settings, works = ctx.settings, ctx.kept.works
        weights = works[0].weights
        threads = min(settings.threads, len(works))
        totals: list[dict[str, Tensor]] = [{} for _ in range(threads)]
        values = (to_energies.contiguous().numpy(), to_pull.contiguous().numpy())

        def differentiate(place: int) -> None:
            totals[place] = {n: torch.zeros_like(t) for n, t in weights.tensors.items()}
            with borrowed(settings.dtype) as slopes:
                for work in works[place::threads]:
                    atoms, edges = work.piece.atoms, work.piece.edges
                    work.differentiate(values[0][atoms], values[1][edges], slopes, totals[place])

        in_threads(differentiate, threads)
        for other in totals[1:]:
            torch._foreach_add_(list(totals[0].values()), list(other.values()))
        return None, *(totals[0][name] for name in settings.names)


def in_threads(work: Callable[[int], None], count: int) -> None:
    """work(0), ..., work(count - 1), each in a thread whose matrix products stay in it."""
    if count == 1 and torch.get_num_threads() == 1:
        work(0)
        return
    pool = _pool(torch.get_num_threads(), os.getpid())
    with torch.no_grad():
        for done in [pool.submit(_quietly, work, place) for place in range(count)]:
            done.result()


def _quietly(work: Callable[[int], None], place: int) -> None:
    with torch.no_grad():
        work(place)


@lru_cache(maxsize=4)
def _pool(count: int, process: int) -> ThreadPoolExecutor:
    """Threads of this process with one torch thread each; a forked process makes its own."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="dreibein")
    together = Barrier(count)

    def start(_: int) -> None:
        together.wait()  # or one thread might start twice and another never
        torch.get_num_threads()  # the first look would undo a setting made before it
        torch.set_num_threads(1)

    list(pool.map(start, range(count)))
    torch.set_num_threads(count)  # new threads inherit this again
    return pool


def _numpy_type(dtype: torch.dtype) -> type:
    return np.float32 if dtype == torch.float32 else np.float64
