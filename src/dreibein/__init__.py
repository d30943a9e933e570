"""Equivariant networks on Cartesian tensors and local frames, from data to checked simulation."""

__version__ = "0.1.0"
