"""What one call of a localized network knows, and how its layers are called with it."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import to_dense_batch

from dreibein.frames import Frames
from dreibein.nn.attention import attend
from dreibein.o3 import Reps

from .copies import Copies
from .reasons import mixes_nodes, require_mode, require_wrappable
from .views import NodeBatchNorm, view_of, with_forward


class Carriage:
    """Frames, edges and representations of one call; forgotten when the call ends.

    Args:
        frames: of the nodes, or one that all share.
        known: representations that features between layers may have, the preferred one first.
        vectors: names of arguments that hold geometry, with their representations.
        batch: structure of each node, for attention on dense batches.
    """

    def __init__(
        self,
        frames: Frames,
        known: Sequence[Reps],
        vectors: dict[str, Reps],
        batch: Tensor | None = None,
    ):
        self.frames, self.known, self.vectors, self.batch = frames, known, vectors, batch
        self._origins: list[tuple[Tensor, Reps, Tensor]] = []
        self._copies: list[tuple[list[Tensor], str, int, Copies]] = []

    def enter(self, rep: Reps, x: Tensor) -> Tensor:
        """Global features in the frames of their nodes; the originals are kept for the copies."""
        local = turn(self.frames, rep, x)
        self._origins.append((local, rep, x))
        return local

    def layer(self, name: str, module: nn.Module) -> nn.Module | None:
        """What stands in the view for a descendant of the network, None for the module itself."""
        if isinstance(module, nn.MultiheadAttention):

            def attention(*args: Any, **kwargs: Any) -> Any:
                return self.attention(module, name, *args, **kwargs)

            return with_forward(module, attention)
        if isinstance(module, MessagePassing) and not hasattr(module, "carried"):

            def messages(*args: Any, **kwargs: Any) -> Any:
                return self.messages(module, name, args, kwargs)

            return with_forward(module, messages)
        return None

    def attention(
        self,
        module: nn.MultiheadAttention,
        name: str,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *args: Any,
        **masks: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Self-attention in the global frame, called as the module itself is."""
        if key is not query or value is not query:
            raise ValueError(
                f"{name or 'attention'} reads tokens other than the queries, whose frames are not "
                "known here: call dreibein.nn.attend with key and key_frames"
            )
        names = ("key_padding_mask", "need_weights", "attn_mask", "average_attn_weights")
        rep = self._fit(query.shape[-1], f"{name or 'attention'} gets the width")
        frames = self._dense_frames(query.shape[:-1].numel())
        return attend(module, query, frames, reps=rep, **dict(zip(names, args)), **masks)

    def messages(self, module: MessagePassing, name: str, args: Any, kwargs: Any) -> Any:
        """The layer's result for local features, every sender seen in its receiver's frame."""
        require_wrappable(module, name)
        require_mode(module, name)
        given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        flat = dict(given)
        for key in [key for key in ("args", "kwargs") if isinstance(flat.get(key), dict)]:
            flat.update(flat.pop(key))
        edges = [v for k, v in flat.items() if k.endswith("edge_index") and v is not None]
        num_nodes = self._num_nodes(next(iter(flat.items())), flat, name)
        copies = self._copies_for(edges, module.flow, num_nodes, name)
        first = next(iter(flat))
        rows = {
            key: self._expand(key, value, copies, key == first, f"{name}: " if name else "")
            for key, value in flat.items()
        }
        return copies.cut(_redirected(module, copies, self.known)(**rows), module.node_dim)

    def _dense_frames(self, tokens: int) -> Frames:
        """A frame for each token of a dense batch, whose padding gets zeros."""
        if len(self.frames) in (1, tokens):
            return self.frames
        if self.batch is not None:
            matrices, _ = to_dense_batch(self.frames.matrices, self.batch)
            if matrices.shape[0] * matrices.shape[1] == tokens:
                return Frames(matrices.flatten(0, 1))
        raise ValueError(f"attention over {tokens} tokens meets frames of {len(self.frames)}")

    def _num_nodes(self, first: tuple[str, Any], flat: dict[str, Any], name: str) -> int:
        values = [first[1], *(flat.get(key) for key in self.vectors)]
        values = [part for v in values for part in (v if isinstance(v, tuple) else (v,))]
        sizes = {len(v) for v in values if isinstance(v, Tensor)}
        where = f"{name or 'the layer'}"
        if len(sizes) != 1:
            raise ValueError(
                f"{where} got nodes of {sorted(sizes)} rows, but senders and receivers of a "
                "localized layer are the same nodes"
            )
        (count,) = sizes
        if len(self.frames) not in (1, count):
            raise ValueError(f"{where} got {count} nodes, but frames of {len(self.frames)}")
        return count

    def _copies_for(self, edges: list[Tensor], flow: str, num_nodes: int, name: str) -> Copies:
        for edge_index in edges:
            if edge_index.layout != torch.strided or edge_index.dtype != torch.int64:
                raise ValueError(
                    f"{name or 'the layer'} needs its edges as a tensor [2, E] int64, because a "
                    "sparse matrix does not tell messages apart"
                )
        for kept, kept_flow, count, copies in self._copies:
            same = len(kept) == len(edges) and all(a is b for a, b in zip(kept, edges))
            if same and kept_flow == flow and count == num_nodes:
                return copies
        pairs = torch.cat(edges, 1) if edges else torch.zeros(2, 0, dtype=torch.int64)
        pairs = pairs.flip(0) if flow == "target_to_source" else pairs
        copies = Copies(self.frames, pairs, num_nodes)
        self._copies.append((edges, flow, num_nodes, copies))
        return copies

    def _expand(self, key: str, value: Any, copies: Copies, first: bool, where: str) -> Any:
        if isinstance(value, tuple) and key != "size":
            return tuple(self._expand(key, part, copies, first, where) for part in value)
        if key == "size" and value is not None:
            return (copies.num_rows, copies.num_rows)
        if not isinstance(value, Tensor) or value.ndim == 0 or key.startswith("edge"):
            return value
        if key.endswith("edge_index") or len(value) != copies.num_nodes:
            return value
        for local, rep, glob in self._origins:
            if local is value:
                return copies.expand(value, rep, glob)
        if key in self.vectors:
            return copies.expand(value, self.vectors[key])
        if not value.is_floating_point() or not (first or key.startswith("x")):
            return copies.expand(value, None)
        rep = self._fit(value.shape[-1], f"{where}the node features {key} have the width")
        return copies.expand(value, rep)

    def _fit(self, width: int, what: str) -> Reps:
        for rep in self.known:
            if rep.dim == width:
                return rep
        raise ValueError(
            f"{what} {width}, which none of {', '.join(map(repr, self.known))} has: pass "
            "hidden_reps of that width"
        )


def turn(frames: Frames, rep: Reps, x: Tensor, *, back: bool = False) -> Tensor:
    """Features of nodes [N, ..., dim], or of tokens [.., .., dim], to their frames or back."""
    change = frames.to_global if back else frames.to_local
    tokens = x.shape[:-1].numel()
    if len(frames) in (1, tokens):
        return change(rep, x.reshape(tokens, x.shape[-1])).reshape(x.shape)
    if len(frames) == len(x):
        parts = x.flatten(1, -2).unbind(1)
        return torch.stack([change(rep, part) for part in parts], 1).reshape(x.shape)
    raise ValueError(f"features {list(x.shape)} meet frames of {len(frames)} nodes")


def _redirected(module: MessagePassing, copies: Copies, known: Sequence[Reps]) -> MessagePassing:
    """A view of a layer whose messages come from the copies."""

    def inside(name: str, child: nn.Module) -> nn.Module | None:
        if isinstance(child, MessagePassing):
            return _redirected(child, copies, known)
        if isinstance(child, nn.BatchNorm1d):
            return NodeBatchNorm(child, copies.num_nodes, copies.num_rows)
        if mixes_nodes(child):
            raise ValueError(
                f"{type(module).__name__} holds {type(child).__name__}, which mixes all nodes of a "
                "graph: apply it outside the layer"
            )
        return None

    layer: Any = view_of(module, inside)
    propagate, edge_updater, flow = layer.propagate, layer.edge_updater, module.flow

    def carried_propagate(edge_index: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = propagate(copies.redirect(edge_index, flow), *args, **kwargs)
        return copies.refill(out, module.node_dim, known)

    def carried_update(edge_index: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return edge_updater(copies.redirect(edge_index, flow), *args, **kwargs)

    layer.__dict__.update(propagate=carried_propagate, edge_updater=carried_update)
    return layer
