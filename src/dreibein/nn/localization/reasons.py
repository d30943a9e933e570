"""Layers that cannot be localized, each with its reason."""

from torch import nn

REASONS = {
    "CuGraphSAGEConv": "a closed CUDA kernel gathers and sums at once, no message can be changed",
    "CuGraphGATConv": "a closed CUDA kernel gathers and sums at once, no message can be changed",
    "CuGraphRGCNConv": "a closed CUDA kernel gathers and sums at once, no message can be changed",
    "FusedGATConv": "one CUDA kernel gathers and sums, no message can be changed: use GATConv",
    "GravNetConv": "it makes its edges from features inside the layer, before frames can meet",
    "DynamicEdgeConv": "it makes its edges inside the layer: find neighbors first, use EdgeConv",
    "XConv": "it makes its edges inside the layer and sends no messages: use PointTransformerConv",
    "HypergraphConv": "messages meet at hyperedges, which have no frame",
    "PANConv": "it sends through powers of the adjacency matrix, not along edges: use TAGConv",
    "WLConv": "it hashes integer colors, which do not transform: its result is invariant as it is",
    "HGTConv": "its nodes are dictionaries of several types: use HEATConv with node_type",
    "HANConv": "its nodes are dictionaries of several types: use HEATConv with node_type",
    "HeteroConv": "its nodes are dictionaries of several types: use HEATConv with node_type",
    "SplineConv": "it exists only with pyg-lib, without which it was not checked: use GMMConv",
    "MeshCNNConv": "its nodes are edges of a mesh in fixed groups of four, copies break the groups",
}
"""Names of classes of `torch_geometric.nn.conv` and why they stay as they are."""

IN_TRAINING = {
    "SuperGATConv": "its attention loss compares nodes that no edge connects, and no frame carries "
    "between them: call eval() on the layer, whose weights then still train, or use GATv2Conv",
}
"""The same for training mode alone."""

_MIXING = {
    "DiffGroupNorm",
    "GraphNorm",
    "GraphSizeNorm",
    "InstanceNorm",
    "MeanSubtraction",
    "PairNorm",
}


def reason(module: nn.Module) -> str | None:
    """Why a layer cannot be localized, None if it can."""
    for cls in type(module).__mro__:
        if cls.__module__.startswith("torch_geometric.nn.conv") and cls.__name__ in REASONS:
            return REASONS[cls.__name__]
    return None


def require_mode(module: nn.Module, name: str = "") -> None:
    """Nothing if a layer can be localized in the mode it is in.

    Raises:
        ValueError: with the reason.
    """
    why = IN_TRAINING.get(type(module).__name__)
    if why is not None and module.training:
        where = f" ({name})" if name else ""
        raise ValueError(
            f"{type(module).__name__}{where} cannot be localized in training mode: {why}"
        )


def require_wrappable(module: nn.Module, name: str = "") -> None:
    """Nothing if a layer can be localized.

    Raises:
        ValueError: with the reason.
    """
    why = reason(module)
    if why is not None:
        where = f" ({name})" if name else ""
        raise ValueError(f"{type(module).__name__}{where} cannot be localized: {why}")


def mixes_nodes(module: nn.Module) -> bool:
    """Whether a norm takes its statistics from all nodes of a graph, copies among them."""
    if not type(module).__module__.startswith("torch_geometric.nn.norm"):
        return False
    name = type(module).__name__
    return name in _MIXING or (name == "LayerNorm" and getattr(module, "mode", "") == "graph")
