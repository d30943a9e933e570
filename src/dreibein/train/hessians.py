"""Hessians in the loss: products with random directions, so that the cost does not grow with 3N.

With v of random signs, E |(H - H_label) v|^2 = sum of all (H - H_label)_kl^2: the mean over
directions is the error of the whole matrix, and H v is one derivative of the forces.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch_geometric.data import Batch

from dreibein.train.config import HESSIAN, LossTerm


class PlainLayerNorm(TorchFunctionMode):
    """Within, layer norms are sums and products.

    PyTorch's own has first and second derivatives only: the third, which a Hessian's gradient by
    weights takes, comes out wrong without a word.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Replace `layer_norm`, let the rest through."""
        if func is nn.functional.layer_norm:
            return _layer_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _layer_norm(
    x: Tensor,
    shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    axes = tuple(range(-len(tuple(shape)), 0))
    centered = x - x.mean(axes, keepdim=True)
    normed = centered * (centered.square().mean(axes, keepdim=True) + eps).rsqrt()
    normed = normed if weight is None else normed * weight
    return normed if bias is None else normed + bias


def check_term(terms: Mapping[str, LossTerm], processes: int) -> None:
    """Refuse what random directions cannot do.

    Raises:
        ValueError: A Hessian's term that is not a square, or several processes.
    """
    term = terms.get(HESSIAN)
    if term is None:
        return
    if term.kind != "mse":
        raise ValueError(
            f"training.losses.hessian.kind is {term.kind}, but random directions give the mean of "
            "squares alone: use mse"
        )
    if processes > 1:
        raise ValueError(
            "a Hessian in the loss is trained on one device: set training.devices to 1, or "
            "training.losses.hessian to null"
        )


def predict_with_products(
    potential: nn.Module, batch: Batch, compute: tuple[str, ...], seed: tuple[int, ...]
) -> dict[str, Tensor]:
    """Predictions in training mode; "hessian" is what a random direction leaves of the labels.

    That is (H - H_label) v / sqrt(3N) [N, 3] in eV/Å^2, so that its mean square over a structure
    is, on average over v, the mean square error of the entries of H.

    Args:
        potential: In training mode.
        batch: With the label "hessian" [N, 3, M, 3], M at least the most atoms of a structure.
        compute: Names, "hessian" among them.
        seed: Of the directions.
    """
    generator = np.random.default_rng(seed)
    signs = generator.integers(0, 2, (len(batch.z), 3)) * 2.0 - 1.0
    directions = torch.from_numpy(signs).to(batch.pos)
    names = tuple(dict.fromkeys((*(n for n in compute if n != HESSIAN), "forces")))
    given = batch.pos
    batch.pos = given.detach().requires_grad_()  # so the potential keeps the graph by positions
    try:
        with torch.enable_grad(), PlainLayerNorm():
            found: dict[str, Tensor] = potential(batch, compute=names)
            along = (found["forces"] * directions).sum()
            (slope,) = torch.autograd.grad(along, batch.pos, create_graph=True)
    finally:
        batch.pos = given
    sizes = batch.ptr.diff().index_select(0, batch.batch)
    left = -slope - label_products(batch, directions)
    return found | {HESSIAN: left / (3.0 * sizes).sqrt()[:, None]}


def label_products(batch: Batch, directions: Tensor) -> Tensor:
    """H_label v [N, 3] of every structure.

    Args:
        batch: With the label "hessian" [N, 3, M, 3].
        directions: v [N, 3].
    """
    label = batch[HESSIAN]
    rank = torch.arange(len(batch.z), device=batch.z.device) - batch.ptr[batch.batch]
    spread = directions.new_zeros(batch.num_graphs, label.shape[2], 3)
    spread[batch.batch, rank] = directions
    return torch.einsum("iajb,ijb->ia", label, spread.index_select(0, batch.batch))
