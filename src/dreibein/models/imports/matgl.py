"""TensorNets of matgl: a folder with `model.json` and `state.pt`."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers
from torch import Tensor

from dreibein.models.catalog import build_potential
from dreibein.models.imports.archive import read_archive
from dreibein.models.imports.card import Stated, import_card, plain, precision_of, shift_per_atom
from dreibein.models.imports.names import Layout, Parameters, representation
from dreibein.models.tensornet.config import TensorNetConfig
from dreibein.nn.potential import Potential

ANY = object()
POTENTIAL: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("model", "data_mean", "data_std", "element_refs"), (ANY,)),
    # derivatives are computed here whatever it says
    **dict.fromkeys(("calc_forces", "calc_stresses", "calc_hessian", "debug_mode"), (ANY,)),
    **dict.fromkeys(("compile_model", "compile_mode", "zbl_trainable"), (ANY,)),
    **dict.fromkeys(("calc_magmom", "calc_charge", "calc_repuls"), (False,)),
}
"""Arguments of matgl's Potential and the values that are known here."""

NETWORK: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("element_types", "units", "nblocks", "num_rbf", "max_n", "cutoff"), (ANY,)),
    **dict.fromkeys(("width", "dtype", "use_smooth", "use_warp", "max_l"), (ANY,)),
    # of the heads of intensive properties, and of states, which TensorNet does not read
    **dict.fromkeys(("readout_type", "field", "niters_set2set", "nlayers_set2set"), (ANY,)),
    **dict.fromkeys(("ntypes_state", "dim_state_embedding", "dim_state_feats"), (ANY,)),
    "include_state": (False,),
    "is_intensive": (False,),
    "ntargets": (1,),
    "task_type": ("regression",),
    "activation_type": ("swish",),
    "rbf_type": ("SphericalBessel", "Gaussian"),
    "equivariance_invariance_group": ("O(3)", "SO(3)"),
}
"""Arguments of matgl's TensorNet and the values that are known here."""

DEFAULTS = {"units": 64, "nblocks": 2, "max_n": 3, "rbf_type": "Gaussian", "width": 0.5}


def import_matgl(folder: str | Path, stated: Stated | None = None) -> Potential:
    """The potential in a folder of matgl, the same function to rounding.

    E = std sum_i network_i + mean + sum_i reference_{z_i}, in eV and Å as matgl's potentials are.
    Nothing in the files is executed.

    Args:
        folder: Holds `model.json` and `state.pt`.
        stated: What the files do not say: level of theory, license.

    Raises:
        OSError: No such folder or files.
        ValueError: Not a TensorNet potential, or one with a part that is not known here.
    """
    folder, stated = Path(folder), stated or Stated()
    for unit, known in ((stated.energy_unit, "eV"), (stated.length_unit, "Å")):
        if unit not in (None, known):
            raise ValueError(f"potentials of matgl are in eV and Å, so the unit {unit} is refused")
    if stated.mirrored:
        raise ValueError("mirrored is of torchmd-net's networks, not of matgl's")
    description, state = folder / "model.json", folder / "state.pt"
    if not description.is_file():
        raise FileNotFoundError(f"there is no {description}: give a folder saved by matgl")
    settings, arguments = _described(description)
    tensors = read_archive(state)
    if not isinstance(tensors, Mapping):
        raise ValueError(f"{state} holds no tensors by name")
    parameters = Parameters(tensors, state)
    config = _config(settings)
    weights = representation(
        parameters,
        Layout("model.", config.layers, interleaved=True, interleaved_filters=True, reversed=True),
    )
    for there, here in (("layers", "value"), ("gates", "gate")):
        for kind in ("weight", "bias"):
            for k in (0, 2, 4, 6):
                found = parameters.take(f"model.final_layer.gated.{there}.{k}.{kind}")
                weights[f"head.{here}.{k}.{kind}"] = found
    weights |= _radial(parameters, settings)
    mean, scale = (float(parameters.take(name)) for name in ("data_mean", "data_std"))
    elements = tuple(atomic_numbers[symbol] for symbol in settings["element_types"])
    references = _references(parameters, elements, state)
    parameters.finish()
    shift, notes = shift_per_atom(mean, stated, state)
    facts = {
        "architecture": "TensorNet",
        "metadata": plain(arguments["metadata"]),
        "hyperparameters": plain({k: v for k, v in settings.items() if k != "element_types"}),
    }
    units = "units: eV and Å, as documented by matgl"
    potential = build_potential(
        config,
        elements=elements,
        reference_energies=references,
        scale=scale,
        shift=shift,
        dtype=precision_of(weights),
        card=import_card("matgl", [description, state], stated, [units, *notes], facts),
    )
    potential.network.load_state_dict(weights)
    return potential


def _described(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of the network, and the whole description; refused where unknown."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        kind, arguments = found["@class"], found["kwargs"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no description of a matgl model ({error})") from error
    if kind != "Potential":
        raise ValueError(f"{file} describes a {kind}; only a Potential can be imported")
    network = arguments.get("model", {})
    name = network.get("@class") if isinstance(network, Mapping) else None
    if name != "TensorNet":
        raise ValueError(f"{file}: the network is a {name}; only a TensorNet can be imported")
    for what, version, known in (
        ("Potential", found.get("@model_version"), (3,)),
        ("TensorNet", network.get("@model_version"), (1, 2)),
    ):
        if version not in known:
            raise ValueError(
                f"{file}: {what} has version {version}; known are {', '.join(map(str, known))}"
            )
    settings = dict(network.get("init_args", {}))
    _check(arguments, POTENTIAL, file)
    _check(settings, NETWORK, file)
    for needed in ("element_types", "cutoff", "is_intensive"):
        if needed not in settings:
            raise ValueError(f"{file}: init_args lack {needed}")
    return DEFAULTS | settings, {"metadata": found.get("metadata")}


def _check(settings: Mapping[str, Any], known: Mapping[str, tuple[Any, ...]], file: Path) -> None:
    """Refuse names and values that are not known here."""
    for name, value in settings.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" (nearest known: {near[0]})" if near else ""
            raise ValueError(f"{file}: unknown argument {name}{hint}")
        if known[name] != (ANY,) and value not in known[name]:
            values = " or ".join(str(v) for v in known[name])
            raise ValueError(f"{file}: {name} is {value}; only {values} is known here")
    smooth = settings.get("use_smooth", False)
    if settings.get("rbf_type") == "SphericalBessel" and not smooth:
        raise ValueError(
            f"{file}: use_smooth is {smooth}; of SphericalBessel only the smooth functions are "
            "known here"
        )


def _config(settings: Mapping[str, Any]) -> TensorNetConfig:
    smooth = settings["rbf_type"] == "SphericalBessel"
    return TensorNetConfig(
        channels=settings["units"],
        layers=settings["nblocks"],
        cutoff=float(settings["cutoff"]),
        radial="smooth_bessel" if smooth else "gaussian",
        num_radial=settings["max_n"] if smooth else settings.get("num_rbf", 32),
        envelope="cosine",
        self_loops=False,
        charge_scale=0.0,
        head="gated",
        symmetry=settings.get("equivariance_invariance_group", "O(3)"),
    )


def _radial(parameters: Parameters, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Radial functions as stored."""
    place = "model.bond_expansion.rbf."
    parameters.skip(f"{place}cutoff")
    if settings["rbf_type"] == "SphericalBessel":
        return {}
    # matgl holds the width in float32, whatever the precision
    width = torch.tensor(settings["width"], dtype=torch.float32)
    return {"radial.offsets": parameters.take(f"{place}centers"), "radial.sharpness": width}


def _references(parameters: Parameters, elements: tuple[int, ...], file: Path) -> dict[int, float]:
    """Reference energies in eV; none where the file has none."""
    name = "element_refs.property_offset"
    parameters.skip("element_refs.onehot")
    if name not in parameters:
        return {}
    energies = parameters.take(name).double()
    if energies.ndim != 1 or len(energies) < len(elements):
        raise ValueError(
            f"{file}: {name} has shape {tuple(energies.shape)}; known is one number per element"
        )
    return dict(zip(elements, energies.tolist(), strict=False))
