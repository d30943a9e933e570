"""Convolutions of PyG whose messages fade out at a cutoff, for energies that are smooth.

A layer is called on pairs of senders and receivers: row e of the senders is x_j as i sees it,
act(R_i) act(R_j^T) x_j for edge e from j to i, so that nothing merges two images of one atom. Its
messages are then

    sum of messages     phi_ij m(x_i, x_{j->i}, e_ij)                                           (1)
    softmax attention   phi_ij exp(s_ij) / (exp(s_ii) + sum_k phi_ik exp(s_ik)) v_ij            (2)

In (2) the atom attends to itself too, with phi = 1 and zero edge features: a softmax over neighbors
alone gives weight one to the last neighbor, however far it is. The layer's own weights w are put
right afterwards, phi_ij w_ij / sum_k phi_ik w_ik, where its normalization cancels. ReLU and leaky
ReLU, at whose kinks forces would change direction abruptly, are read as SiLU and a x + (1 - a)
silu(x).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch_geometric.nn import MessagePassing

from dreibein.frames import Transport
from dreibein.nn.learned_transition import LearnedTransition
from dreibein.o3 import Reps

from .views import shallow_copy

OWN_PHI = 1.0  # of an atom among its own neighbors
RELUS = (torch.relu, torch.Tensor.relu, nn.functional.relu)


class SmoothConvolution(nn.Module):
    """Equation (1) or (2) of this file for a layer of PyG, between local features.

    Args:
        convolution: takes a pair of node features, edges and `edge_attr`, and adds messages up.
        reps: what x transforms as.
        attention: its messages are weighted by a softmax: equation (2).

    >>> from torch_geometric.nn import CGConv
    >>> from dreibein.frames import identity
    >>> from dreibein.o3 import parse_reps
    >>> layer = SmoothConvolution(CGConv(7, dim=2), parse_reps("4x0n+1x1n"))
    >>> transport = Transport(identity(), torch.tensor([[0], [1]]))
    >>> layer(torch.ones(2, 7), transport, torch.ones(1, 2), torch.ones(1)).shape
    torch.Size([2, 7])
    """

    def __init__(self, convolution: MessagePassing, reps: Reps, *, attention: bool = False) -> None:
        super().__init__()
        self.convolution, self.reps, self.attention = convolution, reps, attention
        self.learned = LearnedTransition(reps) if reps.needs_learned else None

    def forward(
        self, x: Tensor, transport: Transport, edge_attr: Tensor, envelope: Tensor
    ) -> Tensor:
        """The layer's result for local features [N, reps.dim].

        Args:
            x: local features [N, reps.dim].
            transport: frames and edges.
            edge_attr: invariant features of edges [E, ...].
            envelope: phi [E], which with its slope and curvature is zero at the cutoff.
        """
        senders = transport.between(self.reps, x, learned=self.learned)
        receiver = transport.receiver
        if self.attention:
            own = torch.arange(len(x), device=x.device)
            receiver = torch.cat((receiver, own))
            senders = torch.cat((senders, x))
            edge_attr = torch.cat((edge_attr, edge_attr.new_zeros(len(x), edge_attr.shape[1])))
            envelope = torch.cat((envelope, envelope.new_full((len(x),), OWN_PHI)))
        edges = torch.stack((torch.arange(len(senders), device=x.device), receiver))
        layer: Any = shallow_copy(self.convolution, self.convolution._modules)
        layer.__dict__["message"] = self._faded(layer, envelope, receiver, len(x))
        with SmoothActivations():
            return layer((senders, x), edges, edge_attr)

    def _faded(
        self, layer: Any, envelope: Tensor, receiver: Tensor, num_nodes: int
    ) -> Callable[..., Tensor]:
        """The layer's `message`, multiplied by phi or weighted anew."""
        message = layer.message

        def faded(**kwargs: Any) -> Tensor:
            out = message(**kwargs)
            factor = envelope
            if self.attention:
                weights = _weights(layer, kwargs)  # [E, heads]
                factor = envelope[:, None]
                # not quite zero: an atom's own weight may underflow beside one at the cutoff;
                # the third power, of the second derivative, must not
                tiny = torch.finfo(weights.dtype).tiny ** (1 / 3)
                kept = weights.new_full((num_nodes, weights.shape[1]), tiny)
                kept = kept.index_add(0, receiver, factor * weights)
                factor = factor / kept.index_select(0, receiver)
            return out * factor.reshape(*factor.shape, *(1,) * (out.ndim - factor.ndim))

        return faded


def _weights(layer: Any, kwargs: dict[str, Any]) -> Tensor:
    """What the layer's softmax made: an argument of its messages, or kept by them."""
    if "alpha" in kwargs:
        return kwargs["alpha"]
    return layer._alpha


class SmoothActivations(TorchFunctionMode):
    """Reads ReLU as SiLU while it is active, and leaky ReLU as a x + (1 - a) silu(x).

    >>> with SmoothActivations():
    ...     torch.relu(torch.tensor([-1.0, 2.0]))
    tensor([-0.2689,  1.7616])
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The smooth relative of what was called, or the function itself."""
        if func in RELUS:
            return nn.functional.silu(args[0])
        if func is nn.functional.leaky_relu:
            given = dict(zip(("input", "negative_slope"), args)) | (kwargs or {})
            x, slope = given["input"], given.get("negative_slope", 0.01)
            return slope * x + (1.0 - slope) * nn.functional.silu(x)
        return func(*args, **(kwargs or {}))
