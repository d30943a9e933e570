"""Networks of others made equivariant: `localize`; and smooth, for potentials."""

from .localized import Localized, localize
from .offers import OFFERS, check_convolution, check_options, smooth_convolution
from .reasons import REASONS
from .smooth import SmoothConvolution

__all__ = [
    "OFFERS",
    "REASONS",
    "Localized",
    "SmoothConvolution",
    "check_convolution",
    "check_options",
    "localize",
    "smooth_convolution",
]
