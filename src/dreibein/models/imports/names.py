"""TensorNet's parameters under their published names, and under ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor


class Parameters:
    """Tensors of a foreign file; each is taken once, and what is left over is unknown.

    Args:
        tensors: By their names in the file.
        file: For messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], file: Path) -> None:
        self._left = dict(tensors)
        self._file = file

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str) -> Tensor:
        """The tensor of that name.

        Raises:
            ValueError: There is none.
        """
        if name not in self._left:
            near = get_close_matches(name, self._left, n=1)
            hint = f"; it has {near[0]}" if near else ""
            raise ValueError(f"{self._file} lacks the tensor {name}{hint}")
        return self._left.pop(name)

    def skip(self, *names: str) -> None:
        """Leave tensors aside that have no effect, where they are there."""
        for name in names:
            self._left.pop(name, None)

    def finish(self) -> None:
        """Refuse what was not taken.

        Raises:
            ValueError: Naming it.
        """
        if self._left:
            names = sorted(self._left)
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ValueError(
                f"{self._file} holds tensors that no TensorNet known here has: "
                f"{', '.join(names[:3])}{more}"
            )


@dataclass(frozen=True)
class Layout:
    """How a family writes what we write differently.

    Attributes:
        prefix: Of the names.
        layers: Interaction layers.
        interleaved: Rows of the last linear layer of gates by channel, then by part (F, 3),
            where ours are by part, then by channel (3, F).
        interleaved_filters: The same of filters alone.
        reversed: Directions are from receiver to sender, where ours are from sender to receiver:
            then A = [r]x has the other sign, and with it the weights of its filter.
    """

    prefix: str
    layers: int
    interleaved: bool
    interleaved_filters: bool
    reversed: bool


def representation(parameters: Parameters, layout: Layout) -> dict[str, Tensor]:
    """Everything of TensorNet but the head and the radial functions, under our names."""
    rep, emb = layout.prefix, f"{layout.prefix}tensor_embedding."
    take = parameters.take

    def mixing(place: str, first: int) -> Tensor:
        return torch.stack([take(f"{place}linears_tensor.{first + k}.weight") for k in range(3)])

    def parts_first(rows: Tensor, interleaved: bool) -> Tensor:
        if not interleaved:
            return rows
        return rows.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)

    ours = {
        "embedding.element.weight": take(f"{emb}emb.weight"),
        "embedding.mix.weight": mixing(emb, 0),
    }
    for kind in ("weight", "bias"):
        ours |= {
            f"embedding.pair.{kind}": take(f"{emb}emb2.{kind}"),
            f"embedding.distance.{kind}": _distance(parameters, emb, kind, layout),
            f"embedding.norm.{kind}": take(f"{emb}init_norm.{kind}"),
            f"embedding.gate.0.{kind}": take(f"{emb}linears_scalar.0.{kind}"),
            f"embedding.gate.2.{kind}": parts_first(
                take(f"{emb}linears_scalar.1.{kind}"), layout.interleaved
            ),
            f"out_norm.{kind}": take(f"{rep}out_norm.{kind}"),
            f"out.{kind}": take(f"{rep}linear.{kind}"),
        }
        for layer in range(layout.layers):
            there, here = f"{rep}layers.{layer}.", f"interactions.{layer}."
            ours[f"{here}filter.0.{kind}"] = take(f"{there}linears_scalar.0.{kind}")
            ours[f"{here}filter.2.{kind}"] = take(f"{there}linears_scalar.1.{kind}")
            last = take(f"{there}linears_scalar.2.{kind}")
            ours[f"{here}filter.4.{kind}"] = parts_first(last, layout.interleaved_filters)
    for layer in range(layout.layers):
        there, here = f"{rep}layers.{layer}.", f"interactions.{layer}."
        ours[f"{here}mix_in.weight"] = mixing(there, 0)
        ours[f"{here}mix_out.weight"] = mixing(there, 3)
    return ours


def _distance(parameters: Parameters, place: str, kind: str, layout: Layout) -> Tensor:
    """The filters of the first sum, I, A, S one after the other."""
    if f"{place}distance_proj.{kind}" in parameters:
        parts = list(parameters.take(f"{place}distance_proj.{kind}").chunk(3))
    else:
        parts = [parameters.take(f"{place}distance_proj{k}.{kind}") for k in (1, 2, 3)]
    if layout.reversed:
        parts[1] = -parts[1]
    return torch.cat(parts)


def equilibrations(parameters: Parameters, layout: Layout) -> dict[str, Tensor]:
    """The networks that predict charges in a TensorNet2, under our names."""
    ours = {}
    for number in range(layout.layers + 1):
        place = "charge_predict_0" if number == 0 else f"charge_predicts.{number - 1}"
        there, here = f"{layout.prefix}{place}.", f"equilibrations.{number}."
        for kind in ("weight", "bias"):
            ours[f"{here}norm.{kind}"] = parameters.take(f"{there}q_norm.{kind}")
            for layer in (0, 2, 4):
                name = f"{there}q_mlp.layers.{layer}.{kind}"
                ours[f"{here}mlp.{layer}.{kind}"] = parameters.take(name)
    return ours
