"""Architectures by name."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Discriminator, Tag, TypeAdapter
from torch import nn

from dreibein.models.locaformer import LoCaFormer, LoCaFormerConfig
from dreibein.models.local_field import LocalField, LocalFieldConfig
from dreibein.models.localized import LocalizedConfig, LocalizedNetwork
from dreibein.models.tensor_field import TensorField, TensorFieldConfig
from dreibein.models.tensornet import TensorNet, TensorNetConfig
from dreibein.nn.bonds import BondHead
from dreibein.nn.heads import TargetHead
from dreibein.nn.potential import Potential
from dreibein.nn.terms import build_terms

DEFAULT = "tensornet"


def _architecture(values: Any) -> str:
    """Which network hyperparameters are of; plain values may leave it out."""
    if isinstance(values, Mapping):
        return str(values.get("architecture", DEFAULT))
    return str(getattr(values, "architecture", DEFAULT))


ModelConfig = Annotated[
    Annotated[TensorNetConfig, Tag("tensornet")]
    | Annotated[LoCaFormerConfig, Tag("locaformer")]
    | Annotated[LocalizedConfig, Tag("localized")]
    | Annotated[LocalFieldConfig, Tag("local_field")]
    | Annotated[TensorFieldConfig, Tag("tensor_field")],
    Discriminator(_architecture),
]
NETWORKS: dict[str, type[nn.Module]] = {
    "tensornet": TensorNet,
    "locaformer": LoCaFormer,
    "localized": LocalizedNetwork,
    "local_field": LocalField,
    "tensor_field": TensorField,
}


def parse_config(values: Mapping[str, Any]) -> ModelConfig:
    """Hyperparameters from plain values; `architecture` says of which network.

    Raises:
        ValueError: An unknown architecture.
    """
    name = _architecture(values)
    if name not in NETWORKS:
        raise ValueError(f"unknown architecture '{name}': use {' or '.join(NETWORKS)}")
    return TypeAdapter(ModelConfig).validate_python(dict(values))


def build_potential(
    config: ModelConfig,
    *,
    elements: tuple[int, ...],
    reference_energies: Mapping[int, float] | None = None,
    scale: float = 1.0,
    shift: float = 0.0,
    dtype: torch.dtype = torch.float32,
    card: dict[str, Any] | None = None,
) -> Potential:
    """A potential with fresh weights, drawn from torch's global generator.

    Args:
        config: Hyperparameters.
        elements: Atomic numbers the network shall know.
        reference_energies: Energy of each element in eV.
        scale: Unit of the network's output in eV.
        shift: Energy of every atom in eV, whatever its element.
        dtype: Precision of the network.
        card: What is known of the model's making.

    >>> from dreibein.models import TensorNetConfig, build_potential
    >>> build_potential(TensorNetConfig(channels=8), elements=(1, 8)).cutoff
    5.0
    """
    if not config.energy and (config.terms or not config.targets):
        raise ValueError(
            "a model without energy (energy: false) needs targets, and takes no terms of an energy"
        )
    network: Any = NETWORKS[config.architecture](config, tuple(elements))
    terms = build_terms(config.terms, elements)
    if any(term.needs_charges for term in terms) and not getattr(config, "charge_channels", 0):
        raise ValueError(
            "the term coulomb takes charges of the network, which predicts none: set "
            "charge_channels of a TensorNet, or give charges for each element"
        )
    targets = {
        name: (BondHead if target.scope == "bond" else TargetHead)(
            name, target, network.feature_channels
        ).to(dtype)
        for name, target in config.targets.items()
    }
    potential = Potential(
        network.to(dtype),
        reference_energies=reference_energies,
        scale=scale,
        shift=shift,
        card=card,
        terms=terms,
        targets=targets,
    )
    return potential.eval()
