"""Tensor field networks in local frames: the same function faster, or a freer one."""

from dreibein.nn.transfer.aligned_product import AlignedProduct
from dreibein.nn.transfer.channel_product import ChannelProduct
from dreibein.nn.transfer.equivariant import (
    EquivariantLinear,
    EquivariantNorm,
    Gate,
    NodeProduct,
)
from dreibein.nn.transfer.paths import (
    EdgePaths,
    Path,
    channel_paths,
    full_paths,
    paths_of_e3nn,
)

__all__ = [
    "AlignedProduct",
    "ChannelProduct",
    "EdgePaths",
    "EquivariantLinear",
    "EquivariantNorm",
    "Gate",
    "NodeProduct",
    "Path",
    "channel_paths",
    "full_paths",
    "paths_of_e3nn",
]
