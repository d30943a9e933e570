"""Message passing whose arguments are carried between frames, as a class and as a decorator.

In `message(x_j, ...)` of an ordinary layer x_j is what the sender wrote in its own axes. Here it
is what the receiver reads,

    x_j -> act(R_i) act(R_j^T) x_j                                                        (1)

(arXiv 2405.15389, "tensorial messages"), so that whatever the layer then does, with any
nonlinearity, depends on invariants alone.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from dreibein.frames import Transport
from dreibein.nn.learned_transition import LearnedTransition
from dreibein.o3 import Reps, check_features, parse_reps


class FrameMessagePassing(MessagePassing):
    """A PyG layer that sees its neighbors in its own frame: equation (1) for every carried name.

    Write `message` as ever and call `self.propagate(transport.edge_index, transport=transport,
    x=x)`. Nothing of a call stays on the module, so layers may be nested, shared and called again
    before a backward pass.

    Args:
        carried: local node features by name; `{"x": reps}` makes `x_j` arrive in the receiver's
            frame. Pass `x=(x_senders, x_receivers)` for bipartite graphs.
        to_local: global features of edges by name, such as their vectors; they arrive in the
            receiver's frame.
        aggr: as in PyG; all further options too.

    Raises:
        ValueError: a name that `message` does not take (names the nearest); no `transport`;
            features of another width than their representation.

    >>> import torch
    >>> from dreibein.frames import Frames
    >>> class Mean(FrameMessagePassing):
    ...     def forward(self, x, transport):
    ...         return self.propagate(transport.edge_index, transport=transport, x=x)
    ...     def message(self, x_j):
    ...         return x_j
    >>> frames = Frames(torch.stack([torch.eye(3), torch.eye(3).flip(0)]))
    >>> transport = Transport(frames, torch.tensor([[0], [1]]))
    >>> Mean({"x": "1x1o"}, aggr="mean")(torch.tensor([[1.0, 2.0, 3.0], [0, 0, 0]]), transport)
    tensor([[0., 0., 0.],
            [3., 2., 1.]])
    """

    def __init__(
        self,
        carried: Mapping[str, Reps | str],
        *,
        to_local: Mapping[str, Reps | str] | None = None,
        aggr: Any = "sum",
        **options: Any,
    ) -> None:
        if options.get("flow", "source_to_target") != "source_to_target":
            raise ValueError("frames are carried from sender to receiver: leave flow as it is")
        super().__init__(aggr, **options)
        self.carried = {name: parse_reps(reps) for name, reps in carried.items()}
        self.to_local = {name: parse_reps(reps) for name, reps in (to_local or {}).items()}
        arguments = list(inspect.signature(self.message).parameters)
        for name in [*(f"{name}_j" for name in self.carried), *self.to_local]:
            _require_argument(name, arguments, type(self).__name__)
        self.learned = nn.ModuleDict(
            {
                name: LearnedTransition(reps)
                for name, reps in self.carried.items()
                if reps.needs_learned
            }
        )

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "message" in cls.__dict__:
            cls.message = _receiving(cls.__dict__["message"])
        if "propagate" not in cls.__dict__:
            # PyG replaces an inherited `propagate` by compiled source, but keeps a class's own
            cls.propagate = FrameMessagePassing.propagate  # type: ignore[method-assign]

    def propagate(
        self,
        edge_index: Tensor,
        size: tuple[int, int] | None = None,
        *,
        transport: Transport | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """PyG's `propagate`, after carrying what was declared.

        Args:
            edge_index: [2, E], that of the transport.
            size: as in PyG.
            transport: frames and edges of the graph.
            **kwargs: arguments of `message`, `aggregate` and `update`.
        """
        if transport is None:
            raise ValueError(
                f"{type(self).__name__} has no frames: "
                "pass transport=Transport(frames, edge_index) to propagate"
            )
        if edge_index.shape != transport.edge_index.shape:
            raise ValueError(
                f"{edge_index.shape[1]} edges meet a transport of {transport.edge_index.shape[1]}: "
                "pass transport.edge_index"
            )
        arriving: dict[str, Tensor] = {}
        for name, reps in self.carried.items():
            value = _argument(name, kwargs, type(self).__name__)
            senders, receivers = value if isinstance(value, tuple) else (value, value)
            if size is None and receivers is not None:
                size = (len(senders), len(receivers))  # not of the frames: one may serve all
            _check_width(reps, senders, f"argument '{name}' of {type(self).__name__}")
            learned = self.learned[name] if reps.needs_learned else None
            arriving[f"{name}_j"] = transport.between(reps, senders, learned=learned)
            kwargs[name] = (None, receivers)  # nothing is gathered twice
        for name, reps in self.to_local.items():
            value = _argument(name, kwargs, type(self).__name__)
            _check_width(reps, value, f"argument '{name}' of {type(self).__name__}")
            kwargs[name] = transport.edges_to_local(reps, value)
        if size is None:
            size = (len(transport.frames), len(transport.targets))
        return super().propagate(edge_index, size, arriving=arriving, **kwargs)


def carried(**reps: Reps | str | Callable[[Any], Reps]) -> Callable[[Callable], Callable]:
    """Equation (1) for a `message` function of a plain PyG layer.

    The layer then takes `transport` in `propagate`. Both rotations are done once an edge here,
    while `FrameMessagePassing` does the sender's once a node.

    Args:
        **reps: representation of each argument without its `_j`, or a function of the layer that
            gives it.

    Raises:
        ValueError: an argument that the function does not take; at the call: no `transport`.

    >>> class Sum(MessagePassing):
    ...     def forward(self, x, transport):
    ...         return self.propagate(transport.edge_index, transport=transport, x=x)
    ...     @carried(x="2x0e+1x1o")
    ...     def message(self, x_j):
    ...         return x_j
    """

    def decorate(message: Callable) -> Callable:
        signature = inspect.signature(message)
        for name in reps:
            _require_argument(f"{name}_j", list(signature.parameters), message.__qualname__)

        @functools.wraps(message)
        def wrapped(self: Any, *args: Any, transport: Any = None, **kwargs: Any) -> Tensor:
            if not isinstance(transport, Transport):
                raise ValueError(
                    f"{message.__qualname__} has no frames: "
                    "pass transport=Transport(frames, edge_index) to propagate"
                )
            bound = signature.bind(self, *args, **kwargs)
            for name, source in reps.items():
                rep = source(self) if callable(source) else parse_reps(source)
                x = bound.arguments[f"{name}_j"]
                _check_width(rep, x, f"argument '{name}' of {message.__qualname__}")
                bound.arguments[f"{name}_j"] = _between_rows(transport, rep, x)
            return message(*bound.args, **bound.kwargs)

        wrapped.__signature__ = _with_argument(signature, "transport")  # type: ignore[attr-defined]
        return wrapped

    return decorate


def _between_rows(transport: Transport, rep: Reps, x: Tensor) -> Tensor:
    """Equation (1) for features [E, rep.dim] that are already gathered."""
    if rep.needs_learned:
        raise ValueError(
            f"{rep!r} has a learned part, which needs weights: use FrameMessagePassing"
        )
    if transport.is_trivial:
        return x
    action = transport.frames.action
    if len(transport.frames) > 1:
        action = action.select(transport.sender)
    return transport.edges_to_local(rep, action.apply(rep, x, transpose=True))


def _receiving(message: Callable) -> Callable:
    """`message` with one more argument, the features that arrived, put where they belong."""

    @functools.wraps(message)
    def wrapped(self: Any, *args: Any, arriving: Any = None, **kwargs: Any) -> Tensor:
        if isinstance(arriving, dict):
            kwargs.update(arriving)
        return message(self, *args, **kwargs)

    signature = inspect.signature(message)
    wrapped.__signature__ = _with_argument(signature, "arriving")  # type: ignore[attr-defined]
    return wrapped


def _with_argument(signature: inspect.Signature, name: str) -> inspect.Signature:
    """The signature with one more optional argument; PyG hands over what it finds there.

    Annotations are left out: PyG does not read all of them (`Tensor | None`).
    """
    extra = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return inspect.Signature([*plain, extra])


def _argument(name: str, kwargs: Mapping[str, Any], owner: str) -> Any:
    if kwargs.get(name) is None:
        near = difflib.get_close_matches(name, kwargs, 1, 0.0)
        hint = f", only '{near[0]}' and the like" if near else ""
        raise ValueError(f"{owner} carries '{name}', but propagate was not given it{hint}")
    return kwargs[name]


def _require_argument(name: str, arguments: list[str], owner: str) -> None:
    known = [argument for argument in arguments if argument not in ("self", "arriving")]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.0)
        hint = f"; the nearest is '{near[0]}'" if near else ""
        raise ValueError(f"message of {owner} has no argument '{name}' to carry{hint}")


def _check_width(reps: Reps, x: Tensor, where: str) -> None:
    try:
        check_features(reps, x)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
