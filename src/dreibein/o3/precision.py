"""Geometry is computed in at least float32, whatever autocast says."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager[None]:
    """A block in which autocast is off on the device of `like`."""
    return torch.autocast(device_type=like.device.type, enabled=False)


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor itself, or as float32 if its type is narrower."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def caching_mode() -> tuple[bool, bool]:
    """Key under which a cached tensor may be used again: gradients recorded, inference mode."""
    if torch.compiler.is_compiling():
        return torch.is_grad_enabled(), False
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled()
