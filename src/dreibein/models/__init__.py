"""One architecture, one file or folder; model files; imports of others' models."""

from dreibein.models.catalog import ModelConfig, build_potential, parse_config
from dreibein.models.imports import Stated, import_matgl, import_torchmdnet
from dreibein.models.locaformer import LoCaFormer, LoCaFormerConfig
from dreibein.models.local_field import LocalField, LocalFieldConfig
from dreibein.models.localized import LocalizedConfig, LocalizedNetwork
from dreibein.models.pointnet import PointLevel, PointNet
from dreibein.models.storage import load_model, model_file, read_header, save_model
from dreibein.models.tensor_field import TensorField, TensorFieldConfig
from dreibein.models.tensornet import TensorNet, TensorNetConfig

__all__ = [
    "LoCaFormer",
    "LoCaFormerConfig",
    "LocalField",
    "LocalFieldConfig",
    "LocalizedConfig",
    "LocalizedNetwork",
    "ModelConfig",
    "PointLevel",
    "PointNet",
    "Stated",
    "TensorField",
    "TensorFieldConfig",
    "TensorNet",
    "TensorNetConfig",
    "build_potential",
    "import_matgl",
    "import_torchmdnet",
    "load_model",
    "model_file",
    "parse_config",
    "read_header",
    "save_model",
]
