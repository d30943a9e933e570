"""Hot arithmetic on bare tensors, the plain reference beside every fused form."""

from dreibein.ops.splines import RadialGrid, interpolate

__all__ = ["RadialGrid", "interpolate"]
