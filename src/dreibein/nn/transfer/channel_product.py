"""A tensor product with harmonics channel by channel ("uvu"), as in NequIP's convolution.

    z_i = sum_e sum_p w_p[e] M_p[e] x_j,    M_p = c_p sum_m C[l1, l2, l3][:, m, :] Y_l2m(r_e)    (1)

Every path keeps a block of its own, so O(L^5) numbers are summed whatever the axes are, and axes
along the edge save nothing: M_p is formed once an edge, for all channels, and the sum over edges
stores nothing for edges and channels (`ops.channel_products`).
"""

from typing import Any

import torch
from torch import Tensor

from dreibein.nn.exact import ExactConstants
from dreibein.nn.transfer.equivariant import split_blocks
from dreibein.nn.transfer.paths import EdgePaths, paths_of_e3nn
from dreibein.o3 import Irreps, clebsch_gordan, solid_harmonics
from dreibein.ops.channel_products import ChannelPath, channel_plan, channel_product


class ChannelProduct(ExactConstants):
    """Equation (1), summed at the receivers; owns no weights.

    Args:
        paths: "uvu" paths, from `channel_paths` or `paths_of_e3nn`.

    Raises:
        ValueError: A path of another mode.

    >>> from dreibein.nn.transfer.paths import channel_paths
    >>> irreps = Irreps("4x0e+4x1o")
    >>> ChannelProduct(channel_paths(irreps, 1, irreps)).num_weights
    16
    """

    coefficients: Tensor

    def __init__(self, paths: EdgePaths) -> None:
        super().__init__()
        if any(path.mode != "uvu" for path in paths.paths):
            raise ValueError("a channel product takes uvu paths: use AlignedProduct for uvw")
        self.paths = paths
        self.irreps_in, self.irreps_out = paths.irreps_in, paths.irreps_out
        sources, targets = self.irreps_in.slices(), self.irreps_out.slices()
        self._paths, columns, matrix, weight = [], [], 0, 0
        for path, size in zip(paths.paths, paths.weight_sizes, strict=True):
            one, three = self.irreps_in[path.source].kind, self.irreps_out[path.target].kind
            coupling = torch.tensor(clebsch_gordan(one.l, path.degree, three.l))
            block = torch.zeros((paths.lmax + 1) ** 2, one.dim * three.dim, dtype=torch.float64)
            rows = slice(path.degree**2, (path.degree + 1) ** 2)
            block[rows] = path.coefficient * coupling.transpose(0, 1).flatten(1)
            columns.append(block)
            source, target = sources[path.source].start, targets[path.target].start
            self._paths.append(
                ChannelPath(source, one.dim, target, three.dim, matrix, weight, size)
            )
            matrix, weight = matrix + one.dim * three.dim, weight + size
        self.num_weights = weight
        self._widths = (self.irreps_in.dim, matrix, weight, self.irreps_out.dim)
        table = torch.cat(columns, 1) if columns else torch.zeros(1, 0, dtype=torch.float64)
        self.register_buffer("coefficients", table, persistent=False)

    @classmethod
    def from_e3nn(cls, product: Any) -> "ChannelProduct":
        """The same function as an e3nn `TensorProduct` with "uvu" instructions and harmonics."""
        return cls(paths_of_e3nn(product))

    def matrices(self, units: Tensor) -> Tensor:
        """M of (1) [E, width] from directions [E, 3]."""
        harmonics = solid_harmonics(self.paths.lmax, units)
        return harmonics @ self.coefficients.to(harmonics.dtype)

    def forward(
        self,
        x: Tensor,
        units: Tensor,
        edge_index: Tensor,
        weights: Tensor,
        *,
        backend: str = "auto",
    ) -> Tensor:
        """Sums [N, irreps_out.dim] at the receivers.

        Args:
            x: features of nodes [N, irreps_in.dim], e3nn's order.
            units: directions of edges [E, 3].
            edge_index: [2, E], row 0 the sender.
            weights: w of every edge [E, num_weights], e3nn's order.
            backend: "reference", "fused" (compiled, for the CPU), or "auto".
        """
        if weights.shape[-1] != self.num_weights:
            raise ValueError(f"{weights.shape[-1]} weights at an edge, expected {self.num_weights}")
        if backend == "auto":
            able = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
            backend = "fused" if able else "reference"
        plan = channel_plan(self._paths, edge_index, self._widths)
        plan[0] = plan[0].to(x.device)
        x = channels_last(self.irreps_in, x)
        y = channel_product(x, self.matrices(units), weights, plan, len(x), backend=backend)
        return channels_first(self.irreps_out, y)


def channels_last(irreps: Irreps, x: Tensor) -> Tensor:
    """Every block [mul, 2l + 1] of features as [2l + 1, mul]."""
    parts = [
        part.unflatten(-1, (mul, ir.dim)).mT.flatten(-2) if ir.l and mul else part
        for (mul, ir), part in zip(irreps, split_blocks(irreps, x), strict=True)
    ]
    return torch.cat(parts, -1)


def channels_first(irreps: Irreps, x: Tensor) -> Tensor:
    """The way back from `channels_last`."""
    parts = [
        part.unflatten(-1, (ir.dim, mul)).mT.flatten(-2) if ir.l and mul else part
        for (mul, ir), part in zip(irreps, split_blocks(irreps, x), strict=True)
    ]
    return torch.cat(parts, -1)
