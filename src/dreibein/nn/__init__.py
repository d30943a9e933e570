"""Layers that own parameters, and derivatives of energies."""

from dreibein.nn.derivatives import hessian
from dreibein.nn.potential import Potential
from dreibein.nn.radial import Bessel, Envelope, ExpNormal, Gaussian, radial_basis

__all__ = [
    "Bessel",
    "Envelope",
    "ExpNormal",
    "Gaussian",
    "Potential",
    "hessian",
    "radial_basis",
]
