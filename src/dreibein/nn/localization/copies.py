"""Copies of senders, already in the frames of their receivers.

A layer of messages is run on N nodes and P copies, one for each pair (j, i) of connected nodes:

    row n < N        x_n                              the node itself, in its own frame
    row N + p        act(rep, R_i R_j^T) x_j          node j as i sees it, p = (j, i)

To everything that the layer does before it sends messages a copy is one more, isolated node: linear
maps, activations and norms are applied to it row by row, degrees and normalizations see the
original edges. When it sends, the edge from j to i reads row N + p in place of row j.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dreibein.frames import Frames, Transport
from dreibein.o3 import Reps, direct_sum


class Copies:
    """Which rows stand for which sender.

    Args:
        frames: of the N nodes, or one that all share.
        pairs: [2, E] int64, row 0 the sender j, row 1 the receiver i; repetitions are merged.
        num_nodes: N.
    """

    def __init__(self, frames: Frames, pairs: Tensor, num_nodes: int):
        self.num_nodes = num_nodes
        self._keys = torch.unique((pairs[1] * num_nodes + pairs[0])[pairs[0] != pairs[1]])
        self.sender = self._keys % num_nodes
        self.receiver = self._keys.div(num_nodes, rounding_mode="floor")
        nodes = torch.arange(num_nodes, device=pairs.device)
        self.source = torch.cat((nodes, self.sender))
        self.transport = Transport(frames, torch.stack((self.sender, self.receiver)))

    @property
    def num_rows(self) -> int:
        """N + P."""
        return len(self.source)

    def expand(self, x: Tensor, rep: Reps | None, glob: Tensor | None = None) -> Tensor:
        """Rows of nodes and of copies of local features [N, ..., rep.dim].

        Args:
            x: local features, or invariants of any type [N, ...] if `rep` is None.
            rep: what x transforms as.
            glob: the same features in the global frame, where they are known.
        """
        if rep is None:
            return x.index_select(0, self.source)
        flat = x.flatten(1)
        rep = direct_sum((rep,) * (flat.shape[1] // rep.dim))
        if glob is None:
            copies = self.transport.between(rep, flat)
        else:
            copies = self.transport.edges_to_local(rep, glob.flatten(1)[self.sender])
        return torch.cat((flat, copies)).unflatten(1, x.shape[1:])

    def refill(self, out: Tensor, dim: int, known: Sequence[Reps]) -> Tensor:
        """What the nodes received, carried to their copies, for layers that send again.

        Features as wide as one of the `known` representations are carried as such, others are
        invariants.
        """
        dim %= out.ndim
        if out.shape[dim] != self.num_rows:
            return out
        nodes = out.narrow(dim, 0, self.num_nodes).movedim(dim, 0)
        fits = [rep for rep in known if rep.dim == out.shape[-1] and dim == out.ndim - 2]
        return self.expand(nodes, fits[0] if fits else None).movedim(0, dim)

    def redirect(self, edge_index: Tensor, flow: str) -> Tensor:
        """The same edges, from the copies in place of the senders.

        Raises:
            ValueError: for an edge that was not among the pairs.
        """
        first = flow == "target_to_source"
        sender, receiver = edge_index[int(first)], edge_index[int(not first)]
        keys = receiver * self.num_nodes + sender
        loops = sender == receiver
        place = torch.searchsorted(self._keys, keys)
        if len(self._keys):
            nearest = self._keys[place.clamp(max=len(self._keys) - 1)]
            known = (nearest == keys) & (sender < self.num_nodes) & (receiver < self.num_nodes)
        else:
            known = torch.zeros_like(loops)
        if not bool((known | loops).all()):
            raise ValueError(
                "the layer sends along an edge that is not in its edge_index, so no frame can be "
                "attached to the message: make all edges before the call"
            )
        sender = torch.where(loops, sender, self.num_nodes + place)
        return torch.stack((receiver, sender) if first else (sender, receiver))

    def cut(self, out: object, dim: int) -> object:
        """A layer's result without the rows and self-loops of copies; tuples piece by piece."""
        if isinstance(out, Tensor):
            for axis in (dim % max(out.ndim, 1), 0):
                if out.ndim > axis and out.shape[axis] == self.num_rows:
                    return out.narrow(axis, 0, self.num_nodes)
            return out
        if not isinstance(out, tuple):
            return out
        first = out[0]
        if isinstance(first, Tensor) and first.dtype == torch.int64 and first.ndim == 2:
            keep = (first < self.num_nodes).all(0)
            return (first[:, keep], *(part[keep] for part in out[1:]))
        return tuple(self.cut(part, dim) for part in out)
