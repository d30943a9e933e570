"""Views of modules: the same parameters and buffers, other behavior, nothing written back."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def view_of(module: nn.Module, replace: Callable[[str, nn.Module], nn.Module | None]) -> nn.Module:
    """A module that shares everything with `module`, some of its descendants replaced.

    Args:
        module: left as it is.
        replace: called with the dotted name and the module of each descendant; None keeps it.
    """

    def visit(name: str, child: nn.Module) -> nn.Module:
        other = replace(name, child)
        if other is not None:
            return other
        inner = {key: grown(f"{name}.{key}", part) for key, part in child._modules.items()}
        if all(inner[key] is part for key, part in child._modules.items()):
            return child
        return shallow_copy(child, inner)

    def grown(name: str, part: nn.Module | None) -> Any:
        return None if part is None else visit(name, part)

    children = {key: grown(key, part) for key, part in module._modules.items()}
    return shallow_copy(module, children)


def shallow_copy(module: nn.Module, children: dict[str, Any]) -> nn.Module:
    """The module with other children; caches of earlier calls are left behind."""
    copy = object.__new__(type(module))
    state = dict(module.__dict__)
    for name in state:
        if name.startswith("_cached"):
            state[name] = None
    state["_modules"] = children
    copy.__dict__.update(state)
    _keep_from_fast_path(copy)
    return copy


def with_forward(module: nn.Module, forward: Callable[..., Any]) -> nn.Module:
    """The module with another `forward`, still an instance of its class."""
    copy = shallow_copy(module, module._modules)
    copy.__dict__["forward"] = forward
    return copy


def _keep_from_fast_path(module: nn.Module) -> None:
    """Fused transformer kernels would read the weights and pass by the attention of the view."""
    if isinstance(module, nn.TransformerEncoderLayer):
        module.__dict__["activation_relu_or_gelu"] = 0
    if isinstance(module, nn.TransformerEncoder):
        module.__dict__["use_nested_tensor"] = False


class NodeBatchNorm(nn.Module):
    """Batch norm whose statistics are those of the first N rows; copies are normalized with them.

    Args:
        norm: a `torch.nn.BatchNorm1d`, whose running statistics are updated as ever.
        num_nodes: N.
        num_rows: N and the number of copies.
    """

    def __init__(self, norm: nn.Module, num_nodes: int, num_rows: int):
        super().__init__()
        self._modules["norm"] = norm
        self.num_nodes, self.num_rows = num_nodes, num_rows

    def forward(self, x: Tensor) -> Tensor:
        """All rows [num_rows, channels, ...], normalized."""
        norm: Any = self._modules["norm"]
        live = norm.training or not norm.track_running_stats
        if len(x) != self.num_rows or not live:
            return norm(x)
        nodes, copies = x[: self.num_nodes], x[self.num_nodes :]
        over = [dim for dim in range(x.ndim) if dim != 1]
        mean = nodes.mean(over, keepdim=True)
        variance = nodes.var(over, unbiased=False, keepdim=True)
        copies = (copies - mean) / (variance + norm.eps).sqrt()
        if norm.affine:
            shape = [1, -1] + [1] * (x.ndim - 2)
            copies = copies * norm.weight.view(shape) + norm.bias.view(shape)
        return torch.cat((norm(nodes), copies))
