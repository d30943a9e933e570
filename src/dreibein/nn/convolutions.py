"""Ordinary graph convolutions made equivariant: the neighbor's features arrive in one's own frame.

Every layer has `in_reps` and `out_reps`; `FrameSequential` checks that they meet.
"""

import torch
from torch import Tensor, nn

from dreibein.frames import Transport
from dreibein.nn.frame_message_passing import FrameMessagePassing
from dreibein.nn.learned_transition import LearnedTransition
from dreibein.o3 import Reps, check_features, parse_reps, require_same


class EdgeConv(FrameMessagePassing):
    """y_i = aggregate_j phi_ij network([x_i, x_{j->i}, e_ij]) (EdgeConv, arXiv 1801.07829).

    Args:
        in_reps: what x transforms as.
        out_reps: what y transforms as.
        network: from [E, 2 in_reps.dim + width of e] to [E, out_reps.dim]; any network.
        aggr: as in PyG; "sum" with an envelope phi is smooth where neighbors come and go.

    >>> conv = EdgeConv("4x0e+2x1o", "2x1o", nn.Linear(20, 6))
    >>> conv.out_reps
    Irreps("2x1o")
    """

    def __init__(
        self, in_reps: Reps | str, out_reps: Reps | str, network: nn.Module, *, aggr: str = "sum"
    ) -> None:
        super().__init__({"x": in_reps}, aggr=aggr)
        self.in_reps, self.out_reps = parse_reps(in_reps), parse_reps(out_reps)
        self.network = network

    def forward(
        self,
        x: Tensor,
        transport: Transport,
        edge: Tensor | None = None,
        envelope: Tensor | None = None,
    ) -> Tensor:
        """Local features [N, out_reps.dim].

        Args:
            x: local features [N, in_reps.dim].
            transport: frames and edges.
            edge: invariant features of edges [E, width], such as an `EdgeEmbedding`.
            envelope: phi [E].
        """
        return self.propagate(
            transport.edge_index, transport=transport, x=x, edge=edge, envelope=envelope
        )

    def message(
        self, x_i: Tensor, x_j: Tensor, edge: Tensor | None, envelope: Tensor | None
    ) -> Tensor:
        """The message phi network([x_i, x_j, e]) of each edge."""
        y = self.network(torch.cat((x_i, x_j) if edge is None else (x_i, x_j, edge), -1))
        if y.shape[-1] != self.out_reps.dim:
            raise ValueError(
                f"the network of EdgeConv returns {y.shape[-1]} numbers, "
                f"but {self.out_reps!r} has {self.out_reps.dim}"
            )
        return y if envelope is None else y * envelope[:, None]


class GCNConv(nn.Module):
    """y_i = W (x_i / d_i + sum_j w_ij x_{j->i} / sqrt(d_i d_j)) + b, d_i = 1 + sum_j w_ij.

    Graph convolution with self-loops (arXiv 1609.02907). It is linear in x_j, so the sum is taken
    in the global frame and turned once a node.

    Args:
        in_reps: what x transforms as.
        out_reps: what y transforms as.
    """

    def __init__(self, in_reps: Reps | str, out_reps: Reps | str) -> None:
        super().__init__()
        self.in_reps, self.out_reps = parse_reps(in_reps), parse_reps(out_reps)
        self.linear = nn.Linear(self.in_reps.dim, self.out_reps.dim)
        self.learned = LearnedTransition(self.in_reps) if self.in_reps.needs_learned else None

    def forward(self, x: Tensor, transport: Transport, weights: Tensor | None = None) -> Tensor:
        """Local features [N, out_reps.dim].

        Args:
            x: local features [N, in_reps.dim].
            transport: frames and edges of one set of nodes.
            weights: w [E], at least 0, such as an envelope; default 1.
        """
        check_features(self.in_reps, x)
        sender, receiver = transport.sender, transport.receiver
        w = x.new_ones(len(sender)) if weights is None else weights.to(x.dtype)
        root = (1.0 + w.new_zeros(len(x)).index_add(0, receiver, w)).rsqrt()
        w = w * root.index_select(0, sender) * root.index_select(0, receiver)
        if self.learned is None:
            total = transport.sum(self.in_reps, x, w)
        else:
            arrived = transport.between(self.in_reps, x, learned=self.learned)
            total = torch.zeros_like(x).index_add(0, receiver, arrived * w[:, None])
        return self.linear(total + x * root.square()[:, None])


class FrameSequential(nn.Module):
    """Layers one after the other, x = layer(x, transport, ...), their representations checked.

    Args:
        *layers: modules with `in_reps` and `out_reps`; others (activations, normalizations) act on
            the local features as they are, which is allowed in local frames.

    Raises:
        ValueError: naming both representations where two layers do not meet.

    >>> FrameSequential(GCNConv("4x0e", "2x1o"), nn.Tanh(), GCNConv("6x0e", "1x1o"))
    Traceback (most recent call last):
    ValueError: layer 2 (GCNConv) expects features of Irreps("6x0e"), but they are Irreps("2x1o")
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        found: Reps | None = None
        for k, layer in enumerate(layers):
            if not hasattr(layer, "out_reps"):
                continue
            if found is not None:
                require_same(found, layer.in_reps, f"layer {k} ({type(layer).__name__})")  # type: ignore[arg-type]
            found = layer.out_reps  # type: ignore[assignment]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, transport: Transport, *args: Tensor) -> Tensor:
        """Local features after the last layer; further arguments go to every layer with frames."""
        for layer in self.layers:
            x = layer(x, transport, *args) if hasattr(layer, "out_reps") else layer(x)
        return x
