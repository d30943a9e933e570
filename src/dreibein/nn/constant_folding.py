"""What depends on weights alone is computed once, when a graph of torch operators is made."""

from typing import Any

import torch
from torch import Tensor, fx


def fold_constants(graph: fx.GraphModule) -> int:
    """Replace what can be computed without the inputs by its value; returns how many.

    A filter network at the nodes of a radial grid is one constant, and so are tables of element
    pairs. Views of weights stay views, so nothing is stored twice.
    """
    known: dict[fx.Node, Any] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            known[node] = _attribute(graph, str(node.target))
        elif _is_pure(node) and all(source in known for source in node.all_input_nodes):
            arguments = fx.map_arg((node.args, node.kwargs), lambda n: known[n])
            with torch.no_grad():
                known[node] = node.target(*arguments[0], **arguments[1])
    needed: set[fx.Node] = set()
    for node in reversed(graph.graph.nodes):
        if node not in known or (node in needed and _is_view(node)):
            needed.update(source for source in node.all_input_nodes if source in known)
    folded = 0
    for node in [n for n in known if n in needed]:
        value = known[node]
        if node.op == "get_attr" or _is_view(node) or not isinstance(value, Tensor):
            continue
        name = f"folded_{folded}"
        graph.register_buffer(name, value.detach().clone(), persistent=True)
        with graph.graph.inserting_before(node):
            constant = graph.graph.get_attr(name)
        constant.meta = dict(node.meta)
        node.replace_all_uses_with(constant)
        folded += 1
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return folded


def _attribute(graph: fx.GraphModule, target: str) -> Any:
    owner: Any = graph
    for name in target.split("."):
        owner = getattr(owner, name)
    return owner


def _is_pure(node: fx.Node) -> bool:
    """Whether the same arguments give the same result and nothing else happens."""
    target = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return False
    mutable = target._schema.is_mutable
    return not mutable and torch.Tag.nondeterministic_seeded not in target.tags


def _is_view(node: fx.Node) -> bool:
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return False
    return any(a.alias_info is not None for a in target._schema.returns)
