"""TensorNets with the published layout of parameters, filled by the golden rule."""

import math

import torch
from torch import nn

from dreibein.models import TensorNetConfig, build_potential
from dreibein.nn import Potential


def golden_weights(order: list[tuple[str, list[int]]]) -> dict[str, torch.Tensor]:
    """w[j][k] = 0.3 sin(1 + j + 0.7 k) for the j-th named parameter, float64."""
    weights = {}
    for j, (name, shape) in enumerate(order):
        k = torch.arange(math.prod(shape), dtype=torch.float64)
        weights[name] = (0.3 * torch.sin(1.0 + j + 0.7 * k)).view(shape)
    return weights


def published_order(layers: int, shapes: dict[str, list[int]]) -> list[tuple[str, list[int]]]:
    """The sorted parameter names of a network of fewer layers, with their shapes."""
    kept = [n for n in shapes if ".layers." not in n or not _beyond(n, layers)]
    return [(name, shapes[name]) for name in sorted(kept)]


def _beyond(name: str, layers: int) -> bool:
    parts = name.split(".")
    return parts[0] == "representation_model" and int(parts[2]) >= layers


def to_dreibein(weights: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """Published parameter names to ours."""
    rep, emb = "representation_model.", "representation_model.tensor_embedding."
    stack = lambda names: torch.stack([weights[n] for n in names])  # noqa: E731
    cat = lambda names: torch.cat([weights[n] for n in names])  # noqa: E731
    ours = {
        "embedding.element.weight": weights[emb + "emb.weight"],
        "embedding.mix.weight": stack([f"{emb}linears_tensor.{k}.weight" for k in range(3)]),
    }
    for kind in ("weight", "bias"):
        ours |= {
            f"embedding.pair.{kind}": weights[f"{emb}emb2.{kind}"],
            f"embedding.distance.{kind}": cat([f"{emb}distance_proj{k}.{kind}" for k in (1, 2, 3)]),
            f"embedding.norm.{kind}": weights[f"{emb}init_norm.{kind}"],
            f"embedding.gate.0.{kind}": weights[f"{emb}linears_scalar.0.{kind}"],
            f"embedding.gate.2.{kind}": weights[f"{emb}linears_scalar.1.{kind}"],
            f"out_norm.{kind}": weights[f"{rep}out_norm.{kind}"],
            f"out.{kind}": weights[f"{rep}linear.{kind}"],
            f"head.0.{kind}": weights[f"output_model.output_network.layers.0.{kind}"],
            f"head.2.{kind}": weights[f"output_model.output_network.layers.2.{kind}"],
        }
        for layer in range(layers):
            there, here = f"{rep}layers.{layer}.", f"interactions.{layer}."
            ours[f"{here}filter.0.{kind}"] = weights[f"{there}linears_scalar.0.{kind}"]
            ours[f"{here}filter.2.{kind}"] = weights[f"{there}linears_scalar.1.{kind}"]
            ours[f"{here}filter.4.{kind}"] = weights[f"{there}linears_scalar.2.{kind}"]
    for layer in range(layers):
        there, here = f"{rep}layers.{layer}.", f"interactions.{layer}."
        ours[f"{here}mix_in.weight"] = stack(
            [f"{there}linears_tensor.{k}.weight" for k in range(3)]
        )
        ours[f"{here}mix_out.weight"] = stack(
            [f"{there}linears_tensor.{k}.weight" for k in range(3, 6)]
        )
    return ours


def golden_potential(golden: dict, *, layers: int = 2, **options: str) -> Potential:
    """The golden TensorNet: 8 channels, 4 radial functions, cutoff 4.5 Å, float64."""
    config = TensorNetConfig(
        channels=8, layers=layers, cutoff=4.5, num_radial=4, envelope="cosine", **options
    )
    potential = build_potential(config, elements=tuple(range(10)), dtype=torch.float64)
    shapes = dict(golden["meta"]["param_order"])
    weights = golden_weights(published_order(layers, shapes))
    network = potential.network
    network.load_state_dict(
        to_dreibein(weights, layers) | _radial_in_float32(network.radial, config)
    )
    return potential


def golden_second(golden: dict, **coulomb: object) -> Potential:
    """The golden TensorNet2: the same sizes, two sets of charges, weights 1, 1/2, 1/4."""
    term = {"term": "coulomb", "damping": 4.6, "weights": [1.0, 0.5, 0.25], **coulomb}
    config = TensorNetConfig(
        channels=8,
        layers=2,
        cutoff=4.5,
        num_radial=4,
        envelope="cosine",
        charge_channels=2,
        charge_rule="published",
        charge_scale=0.0,
        terms=[term],
    )
    potential = build_potential(config, elements=tuple(range(10)), dtype=torch.float64)
    weights = golden_weights(golden["meta"]["param_order_tn2"])
    ours = to_dreibein(weights, 2) | _radial_in_float32(potential.network.radial, config)
    for number, place in enumerate(("charge_predict_0", "charge_predicts.0", "charge_predicts.1")):
        there, here = f"representation_model.{place}.", f"equilibrations.{number}."
        for kind in ("weight", "bias"):
            ours[f"{here}norm.{kind}"] = weights[f"{there}q_norm.{kind}"]
            for k in (0, 2, 4):
                ours[f"{here}mlp.{k}.{kind}"] = weights[f"{there}q_mlp.layers.{k}.{kind}"]
    potential.network.load_state_dict(ours)
    return potential


def _radial_in_float32(radial: nn.Module, config: TensorNetConfig) -> dict[str, torch.Tensor]:
    """The radial buffers as the published code forms them, in float32 whatever the precision."""
    if config.radial == "gaussian":
        sharpness = radial.sharpness.to(torch.float32)
        return {"radial.offsets": radial.offsets, "radial.sharpness": sharpness}
    start = torch.exp(torch.tensor(-config.cutoff, dtype=torch.float32))
    centers = torch.linspace(float(start), 1.0, config.num_radial, dtype=torch.float32)
    beta = (2.0 / config.num_radial * (1.0 - start)) ** -2
    return {"radial.centers": centers, "radial.beta": beta}
