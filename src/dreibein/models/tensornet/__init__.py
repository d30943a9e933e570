"""TensorNet: the network, and the forms of it that are fast.

`network` is the model in plain PyTorch (the reference); `config` its options; `edges` and `packing`
its features of edges and its nine numbers per channel. `inference` runs a frozen network without
autograd, with `tables` for its filters and `passes` over blocks of atoms; `training` and
`gradients` give energies, forces and their gradient in one fused step.
"""

from dreibein.models.tensornet.config import TensorNetConfig
from dreibein.models.tensornet.network import TensorNet

__all__ = ["TensorNet", "TensorNetConfig"]
