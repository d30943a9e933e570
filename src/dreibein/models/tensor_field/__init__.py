"""Tensor field networks in tensor-product form, and their description."""

from dreibein.models.tensor_field.config import TensorFieldConfig
from dreibein.models.tensor_field.network import TensorField

__all__ = ["TensorField", "TensorFieldConfig"]
