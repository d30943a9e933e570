"""Convolutions of PyG that make smooth potentials, by the name of their class.

Each entry says how one is made and which of its hyperparameters are free; what is not free is set
by the model or would break a law. Others are refused with the reason.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch_geometric.nn.conv as pyg
from torch import nn
from torch_geometric.nn import MessagePassing

from dreibein.o3 import Reps

from .reasons import REASONS
from .smooth import SmoothConvolution

Option = bool | int | float
Options = Mapping[str, Option]


@dataclass(frozen=True)
class Offer:
    """How one convolution is made.

    Attributes:
        make: From widths of node features, edge features and hidden layers, and options.
        free: Names of the options that a user may set.
        attention: Its messages are weighted by a softmax.
    """

    make: Callable[[int, int, int, Options], MessagePassing]
    free: tuple[str, ...]
    attention: bool = False


def _mlp(inward: int, hidden: int, outward: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inward, hidden), nn.SiLU(), nn.Linear(hidden, outward))


def _attentive(cls: type[MessagePassing], *free: str, loops: bool = False) -> Offer:
    """Several heads side by side, which share the width; `loops`: it could add its own."""
    own = {"add_self_loops": False} if loops else {}

    def make(width: int, edge_width: int, hidden: int, options: Options) -> MessagePassing:
        heads = int(options.get("heads", 1))
        if heads < 1 or width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width} of the features")
        return cls(width, width // heads, edge_dim=edge_width, **own, **options)

    return Offer(make, ("heads", *free), attention=True)


OFFERS = {
    "CGConv": Offer(lambda w, e, h, o: pyg.CGConv(w, dim=e, **o), ("bias",)),
    "GATConv": _attentive(pyg.GATConv, "negative_slope", "bias", "residual", loops=True),
    "GATv2Conv": _attentive(
        pyg.GATv2Conv, "negative_slope", "bias", "share_weights", "residual", loops=True
    ),
    "GENConv": Offer(
        lambda w, e, h, o: pyg.GENConv(w, w, aggr="add", norm=None, edge_dim=e, **o),
        ("num_layers", "expansion", "eps", "bias"),
    ),
    "GINEConv": Offer(
        lambda w, e, h, o: pyg.GINEConv(_mlp(w, h, w), edge_dim=e, **o), ("eps", "train_eps")
    ),
    "GeneralConv": Offer(
        lambda w, e, h, o: pyg.GeneralConv(w, w, e, **o),
        ("heads", "skip_linear", "directed_msg", "bias"),
    ),
    "NNConv": Offer(
        lambda w, e, h, o: pyg.NNConv(w, w, _mlp(e, h, w * w), **o), ("root_weight", "bias")
    ),
    "ResGatedGraphConv": Offer(
        lambda w, e, h, o: pyg.ResGatedGraphConv(w, w, edge_dim=e, **o), ("root_weight", "bias")
    ),
    "TransformerConv": _attentive(pyg.TransformerConv, "beta", "root_weight", "bias"),
}
NOT_SMOOTH = {
    "GMMConv": "its Gaussians may be as narrow as a rounding error, and are so from the start",
    "HEATConv": "it needs types of edges, which atoms do not have",
    "PDNConv": "it normalizes each edge by the edges of both atoms, so none fades out alone",
    "PNAConv": "maxima and standard deviations over neighbors have kinks",
    "PointTransformerConv": "it needs positions in place of edge features, and a norm for each",
    "RGATConv": "it needs types of edges, which atoms do not have",
    "RGCNConv": "it needs types of edges, which atoms do not have",
}
KINDS = {bool: "true or false", int: "a whole number", float: "a number"}
FIXED = {
    "aggr": "messages must be added up: means and maxima jump when a neighbor leaves",
    "add_self_loops": "the atom itself is among its neighbors as it is",
    "batch_norm": "statistics of a batch would couple structures",
    "norm": "statistics of a batch would couple structures",
    "dropout": "energies must be the same twice",
    "l2_normalize": "the direction of a vanishing vector jumps",
    "attention": "its softmax cannot be corrected from outside: use GATv2Conv or TransformerConv",
}


def smooth_convolution(
    name: str, reps: Reps, *, edge_width: int, hidden: int, options: Options
) -> SmoothConvolution:
    """A convolution of PyG between local features, whose messages fade out at the cutoff.

    Args:
        name: Class in `torch_geometric.nn.conv`, a key of `OFFERS`.
        reps: What the features of nodes transform as.
        edge_width: Number of edge features.
        hidden: Width of the hidden layer where a convolution wants a network.
        options: Hyperparameters of the convolution.

    Raises:
        ValueError: A convolution that cannot be smooth, with the reason; an unknown option, with
            the nearest; a value of another kind.

    >>> from dreibein.o3 import parse_reps
    >>> reps = parse_reps("4x0n+4x1n")
    >>> options = {"heads": 4}
    >>> smooth_convolution("GATv2Conv", reps, edge_width=8, hidden=8, options=options).convolution
    GATv2Conv(16, 4, heads=4)
    """
    check_options(name, options)
    offer = OFFERS[name]
    layer = offer.make(reps.dim, edge_width, hidden, options)
    return SmoothConvolution(layer, reps, attention=offer.attention)


def check_convolution(name: str) -> None:
    """Nothing if potentials can be made of this convolution.

    Raises:
        ValueError: With the reason, or the nearest name.
    """
    if name in OFFERS:
        return
    choices = ", ".join(OFFERS)
    cls = getattr(pyg, name, None) if name in pyg.__all__ else None
    if cls is None:
        near = difflib.get_close_matches(name, OFFERS, 1, 0.0)[0]
        raise ValueError(f"no convolution '{name}': did you mean '{near}'? There are {choices}")
    why = REASONS.get(name) or NOT_SMOOTH.get(name)
    if why is None and "edge_attr" not in inspect.signature(cls.forward).parameters:
        why = "it takes no edge features, so it would know neither distances nor directions"
    raise ValueError(
        f"{name} makes no smooth potential: {why or 'it was not checked'}; use one of {choices}"
    )


def check_options(name: str, options: Options) -> None:
    """Nothing if the convolution has these hyperparameters, and a user may choose them.

    Raises:
        ValueError: Naming the nearest, or why the value is not free, or what kind is expected.
    """
    check_convolution(name)
    offer = OFFERS[name]
    parameters = inspect.signature(getattr(pyg, name).__init__).parameters
    for key, value in options.items():
        if key not in offer.free:
            if key in parameters:
                why = FIXED.get(key, "the model sets it")
                raise ValueError(f"the option '{key}' of {name} is not free: {why}")
            near = difflib.get_close_matches(key, offer.free, 1, 0.0)[0]
            raise ValueError(
                f"{name} has no option '{key}': did you mean '{near}'? "
                f"There are {', '.join(offer.free)}"
            )
        kind = parameters[key].annotation if key != "skip_linear" else bool  # annotated as str
        if kind is float and type(value) is int:
            continue
        if type(value) is not kind:
            raise ValueError(f"the option '{key}' of {name} must be {KINDS[kind]}, got {value!r}")
