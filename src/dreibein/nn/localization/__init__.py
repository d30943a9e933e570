"""Networks of others made equivariant: `localize`."""

from .localized import Localized, localize
from .reasons import REASONS

__all__ = ["REASONS", "Localized", "localize"]
