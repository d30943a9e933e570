"""The value that every constructor returns, and a counter of badly determined sites."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dreibein.o3 import Action, Reps, at_least_float32

NEAR_SINGULAR = 0.05
"""Quality below which a site counts as near-singular."""


@dataclass(frozen=True, eq=False)
class Frames:
    """One matrix a node, its axes as rows: R -> R g^T when the structure turns by g.

    Wigner and Kronecker matrices of the frames are computed when first needed and kept, so a
    `Frames` is made once a graph and passed through all layers; do not keep it longer than one
    forward pass.

    Args:
        matrices: [N, 3, 3], or [1, 3, 3] for one frame that all nodes share; float32 or float64.
        quality: [N] or [1], from 0 (the vectors determine no frame) to 1; carries no gradient.
        threshold: quality below which a site counts as near-singular.
        uniform: frames of connected nodes are equal and orthogonal: transitions are the identity.
        is_identity: every matrix is the identity; features are handed through untouched.

    >>> from dreibein.o3 import Irreps
    >>> frames = Frames(torch.eye(3).flip(0)[None])
    >>> frames.to_local(Irreps("1o"), torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[3., 2., 1.]])
    """

    matrices: Tensor
    quality: Tensor | None = None
    threshold: float = NEAR_SINGULAR
    uniform: bool = False
    is_identity: bool = False
    _action: Action = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.matrices.ndim != 3 or self.matrices.shape[-2:] != (3, 3):
            raise ValueError(
                f"frames are matrices [N, 3, 3], got the shape {list(self.matrices.shape)}"
            )
        object.__setattr__(self, "matrices", at_least_float32(self.matrices))
        object.__setattr__(self, "_action", Action(self.matrices))

    def __len__(self) -> int:
        return len(self.matrices)

    @property
    def action(self) -> Action:
        """The frames in every representation, each computed once."""
        return self._action

    @property
    def near_singular(self) -> Tensor:
        """Whether each site is badly determined, [N] bool."""
        if self.quality is None:
            return torch.zeros(len(self), dtype=torch.bool, device=self.matrices.device)
        return self.quality < self.threshold

    @property
    def num_near_singular(self) -> Tensor:
        """Their number, a tensor on the device of the frames: nothing waits until it is read."""
        return self.near_singular.sum()

    def to_local(self, rep: Reps, x: Tensor) -> Tensor:
        """act(rep, R_i, x_i): global features [N, rep.dim] written in the axes of each node."""
        return x if self.is_identity else self.action.apply(rep, x)

    def to_global(self, rep: Reps, x: Tensor) -> Tensor:
        """act(rep, R_i^T, x_i): local features as global ones, equivariant if x is invariant."""
        return x if self.is_identity else self.action.apply(rep, x, transpose=True)

    def select(self, index: Tensor) -> "Frames":
        """The frames of some nodes, [len(index), 3, 3]."""
        quality = None if self.quality is None else self.quality.expand(len(self))[index]
        return replace(self, matrices=self.matrices[index], quality=quality)

    def to(self, *args: Any, **kwargs: Any) -> "Frames":
        """On another device or in another type, as `Tensor.to`."""
        quality = None if self.quality is None else self.quality.to(*args, **kwargs)
        return replace(self, matrices=self.matrices.to(*args, **kwargs), quality=quality)

    def detach(self) -> "Frames":
        """The same frames without their gradient."""
        return replace(self, matrices=self.matrices.detach())


class FrameCounter:
    """Near-singular sites over many calls; adding does not wait for the device, reading does.

    >>> counter = FrameCounter()
    >>> counter.add(Frames(torch.zeros(4, 3, 3), torch.tensor([1.0, 0.0, 0.5, 0.01])))
    >>> counter.read()
    (2, 4)
    """

    def __init__(self) -> None:
        self._near: Tensor | None = None
        self._total = 0

    def add(self, frames: Frames) -> None:
        """Count the sites of one call."""
        near = frames.num_near_singular
        self._near = near if self._near is None else self._near + near
        self._total += len(frames)

    def read(self) -> tuple[int, int]:
        """(near-singular sites, all sites) since the last reset."""
        return (0 if self._near is None else int(self._near)), self._total

    def reset(self) -> None:
        """Start again from zero."""
        self._near, self._total = None, 0
