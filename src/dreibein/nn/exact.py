"""Constants that stay exact whatever becomes of the network around them."""

from collections.abc import Callable
from typing import Self

from torch import Tensor, nn


class ExactConstants(nn.Module):
    """A module whose own float64 buffers keep their precision in `.to(dtype)`; they move only.

    A table of couplings rounded to float32 and back breaks equivariance at 1e-8 in float64.

    >>> import torch
    >>> module = ExactConstants()
    >>> module.register_buffer("third", torch.tensor(1.0, dtype=torch.float64) / 3)
    >>> module.float().third.dtype
    torch.float64
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = {k: v for k, v in self._buffers.items() if v is not None and v.dtype.itemsize == 8}
        super()._apply(fn, recurse)
        for name, value in kept.items():
            setattr(self, name, value.to(getattr(self, name).device))
        return self
