"""`localize`: any network made equivariant, without a change to it."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from dreibein.frames import Frames, Transport
from dreibein.o3 import Reps, check_features, parse_reps

from .carriage import Carriage, turn
from .reasons import require_wrappable
from .views import view_of

_GEOMETRY = {"pos": "1x1n", "normal": "1x1n"}
"""Arguments that hold vectors of nodes in the global frame, by the names that PyG gives them."""


class Localized(nn.Module):
    """The network y = R_i^T f(R_i x_i, R_i R_j^T R_j x_j, R_i e_ij), made by `localize`.

    Call it as the network itself, with the frames after the first argument. Its parameters are
    those of the network; nothing of a call stays on either.
    """

    def __init__(
        self,
        network: nn.Module,
        reps: Mapping[str, Reps],
        out_reps: Reps | None,
        hidden_reps: Reps | None,
        local: bool,
    ):
        super().__init__()
        self.network = network
        self.reps, self.out_reps, self.hidden_reps = dict(reps), out_reps, hidden_reps
        self.local = local

    def forward(
        self, x: Tensor | None, frames: Frames | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """The network's result, equivariant if R_i -> R_i g^T when the input turns by g.

        Args:
            x: what the network takes first: features of nodes, in the global frame unless `local`.
            frames: of the nodes (of the tokens x.reshape(-1, dim) for attention), or one for all.
            args: what else the network takes; positions and edges in the global frame.
            kwargs: the same by name.

        Raises:
            ValueError: missing frames, sizes or representations that do not fit, an argument that
                the network does not have.
        """
        if not isinstance(frames, Frames):
            got = "nothing" if frames is None else type(frames).__name__
            raise ValueError(
                f"the second argument of a localized network is its Frames, got {got}: call it as "
                "localized(x, frames, edge_index)"
            )
        given = self._bind(x, args, kwargs)
        first = next(iter(given))
        vectors = {
            name: rep
            for name, rep in self.reps.items()
            if name not in ("", first) and not name.startswith("edge")
        }
        known = [rep for rep in (self.hidden_reps, self.reps[""], self.out_reps) if rep is not None]
        carriage = Carriage(frames, known, vectors, given.get("batch"))
        for name, value in given.items():
            given[name] = self._enter(carriage, name, value, name == first, given)
        if isinstance(self.network, nn.MultiheadAttention):
            query = given.pop(first)
            out = carriage.attention(self.network, "", query, query, query, **given)
        elif isinstance(self.network, MessagePassing):
            out = carriage.messages(self.network, "", (), given)
        else:
            out = view_of(self.network, carriage.layer)(**given)
        return out if self.local else self._leave(frames, out)

    def extra_repr(self) -> str:
        """Representations of input and output."""
        out = "" if self.out_reps is None else f", out_reps={self.out_reps!r}"
        return f"reps={self.reps['']!r}{out}"

    def _bind(self, x: Tensor | None, args: tuple[Any, ...], kwargs: Any) -> dict[str, Any]:
        """All arguments by name, those in `**kwargs` of the network among them."""
        name = type(self.network).__name__
        signature = _signature(self.network)
        open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        for key in kwargs:
            if key not in signature.parameters and not open_ended:
                near = difflib.get_close_matches(key, signature.parameters, 1)
                hint = f", did you mean {near[0]!r}?" if near else f": {signature}"
                raise ValueError(f"{name} has no argument {key!r}{hint}")
        try:
            given = dict(signature.bind(x, *args, **kwargs).arguments)
        except TypeError as error:
            names = ["frames", *signature.parameters]
            names[:2] = names[1::-1]  # the frames stand second
            raise ValueError(
                f"{error} for {name}, which takes ({', '.join(names)}) once it is localized"
            ) from None
        for key, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                given.update(given.pop(key, {}))
            elif parameter.kind is parameter.VAR_POSITIONAL and given.pop(key, ()):
                raise ValueError(f"pass the further arguments of {name} by name")
        return given

    def _enter(
        self, carriage: Carriage, name: str, value: Any, first: bool, given: dict[str, Any]
    ) -> Any:
        rep = self.reps.get(name)
        if rep is None and (first or name.startswith("x")):
            rep = self.reps[""]
        if isinstance(value, tuple) and rep is not None:
            raise ValueError(
                f"{name} is a pair of features, but senders and receivers of a localized network "
                "are the same nodes: pass one tensor"
            )
        if rep is None or not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        check_features(rep, value)
        if name.startswith("edge"):
            flow = getattr(self.network, "flow", "source_to_target")
            edges = given["edge_index"]
            edges = edges.flip(0) if flow == "target_to_source" else edges
            return Transport(carriage.frames, edges).edges_to_local(rep, value)
        if self.local and name not in _GEOMETRY:
            return value
        return carriage.enter(rep, value)

    def _leave(self, frames: Frames, out: Any) -> Any:
        """The first result in the global frame; whatever else there is stays as it is."""
        if isinstance(out, tuple):
            return (self._leave(frames, out[0]), *out[1:])
        rep = self.reps[""] if self.out_reps is None else self.out_reps
        if not isinstance(out, Tensor) or not rep.segments:
            return out
        if rep.dim != out.shape[-1]:
            raise ValueError(
                f"{type(self.network).__name__} returns features of the width {out.shape[-1]}, but "
                f"{rep!r} has {rep.dim}: pass out_reps of that width"
            )
        return turn(frames, rep, out, back=True)


def localize(
    network: nn.Module,
    reps: str | Reps | Mapping[str, str | Reps],
    *,
    out_reps: str | Reps | None = None,
    edge_reps: str | Reps | Mapping[str, str | Reps] | None = None,
    hidden_reps: str | Reps | None = None,
    local: bool = False,
) -> Localized:
    """The network with R_i R_j^T x_j for every neighbor x_j, R_i^T y_i for its result: equivariant.

    With identity frames it equals the network. What is not named here (edge weights, distances,
    types) is taken as invariant.

    Args:
        network: a layer of PyG, a `MessagePassing` of your own, `torch.nn.MultiheadAttention`, or
            a module that holds such; neither its source nor its state is touched.
        reps: of the node features, the first argument and all that begin with x; with a mapping, of
            further arguments too ({"x": "8x0n+4x1n", "velocity": "1x1n"}). `pos` and `normal` are
            vectors.
        out_reps: of the result; as `reps` unless given. "" leaves it invariant, in local frames.
        edge_reps: of `edge_attr`, or a mapping of edge arguments; without it they are invariant.
        hidden_reps: of features between the layers, where they are wider than `reps`.
        local: node features are local on both sides, for layers inside a network of your own.

    Raises:
        ValueError: for a layer that cannot be localized, with the reason; a name in `reps` that
            the network does not have; a width that its features do not have.

    >>> import torch, dreibein.frames, torch_geometric.nn
    >>> x, vectors, edge_index = torch.randn(2, 7), torch.randn(2, 3, 3), torch.tensor([[0], [1]])

    >>> layer = localize(torch_geometric.nn.GATConv(7, 7), reps="4x0n+1x1n")
    >>> frames = dreibein.frames.soft_frames(vectors)
    >>> y = layer(x, frames, edge_index)
    """
    require_wrappable(network)
    names = list(_signature(network).parameters)
    _check_width(network, reps.get(names[0]) if isinstance(reps, Mapping) else reps)
    given = dict(reps) if isinstance(reps, Mapping) else {names[0]: reps}
    edges = edge_reps if isinstance(edge_reps, Mapping) else {"edge_attr": edge_reps}
    given.update({name: rep for name, rep in edges.items() if rep is not None})
    for name in given:
        if name not in names and "kwargs" not in names:
            near = difflib.get_close_matches(name, names, 1) or names[:1]
            raise ValueError(
                f"{type(network).__name__} has no argument {name!r}, did you mean {near[0]!r}?"
            )
    wrong = [name for name in edges if edges[name] is not None and not name.startswith("edge")]
    if wrong:
        raise ValueError(f"arguments of edges begin with 'edge', got {wrong[0]!r} in edge_reps")
    parsed = {name: parse_reps(rep) for name, rep in {**_GEOMETRY, **given}.items()}
    parsed[""] = parsed.get(names[0], next(iter(parsed.values())))
    return Localized(
        network,
        parsed,
        None if out_reps is None else parse_reps(out_reps),
        None if hidden_reps is None else parse_reps(hidden_reps),
        local,
    )


def _check_width(network: nn.Module, reps: str | Reps | None) -> None:
    """Refuse a representation that is not as wide as the features that a layer declares."""
    declared = getattr(network, "in_channels", getattr(network, "embed_dim", None))
    if reps is None or type(declared) is not int or declared <= 0:
        return
    rep = parse_reps(reps)
    if rep.dim != declared:
        raise ValueError(
            f"{type(network).__name__} takes features of the width {declared}, but {rep!r} has "
            f"{rep.dim}: make one as wide as the other"
        )


def _signature(network: nn.Module) -> inspect.Signature:
    """What the localized network takes, the frames left out."""
    declared = getattr(getattr(network, "signature", None), "param_dict", None)
    if declared is not None:  # torch_geometric.nn.Sequential names its arguments in a string
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature([inspect.Parameter(name, kind) for name in declared])
    signature = inspect.signature(network.forward)
    if isinstance(network, nn.MultiheadAttention):
        parameters = [p for n, p in signature.parameters.items() if n not in ("key", "value")]
        signature = signature.replace(parameters=parameters)
    return signature
