"""Trained TensorNets of other packages, as potentials of this one."""

from dreibein.models.imports.card import Stated
from dreibein.models.imports.matgl import import_matgl
from dreibein.models.imports.torchmdnet import import_torchmdnet

__all__ = ["Stated", "import_matgl", "import_torchmdnet"]
