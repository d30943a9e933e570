"""TensorNets of torchmd-net: Lightning checkpoints with their hyperparameters."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor

from dreibein.models.catalog import build_potential
from dreibein.models.imports.archive import read_archive
from dreibein.models.imports.card import Stated, import_card, plain, precision_of, shift_per_atom
from dreibein.models.imports.names import Layout, Parameters, equilibrations, representation
from dreibein.models.imports.torchmdnet_terms import Additions, Units, additions
from dreibein.models.tensornet.config import TensorNetConfig
from dreibein.nn.potential import Potential
from dreibein.systems.units import conversion_factor

SECOND = ("tensornet2", "tensornetv2_alt", "tensornet-nqe")  # names of TensorNet2
RADIAL = {"expnorm": "expnorm", "gauss": "gaussian"}
HEAVIEST = 118


NEEDED = (
    "model", "embedding_dimension", "num_layers", "num_rbf", "rbf_type", "activation",
    "cutoff_lower", "cutoff_upper",
)  # fmt: skip
READ = frozenset((
    *NEEDED, "trainable_rbf", "max_z", "equivariance_invariance_group", "precision",
    "output_model", "reduce_op", "prior_model", "prior_args", "atom_filter", "remove_ref_energy",
    "check_errors", "box_vecs", "q_dim", "q_weights", "repulsion", "coulomb_cutoff",
))  # fmt: skip
"""Hyperparameters that say what the function is."""

WITHOUT_EFFECT = frozenset((
    # of training, data and the run
    "load_model", "conf", "num_epochs", "batch_size", "inference_batch_size", "lr", "lr_patience",
    "lr_metric", "lr_min", "lr_factor", "lr_warmup_steps", "early_stopping_patience",
    "early_stopping_monitor", "reset_trainer", "weight_decay", "ema_alpha_y", "ema_alpha_neg_dy",
    "ema_alpha_dy", "ngpus", "num_nodes", "log_dir", "splits", "train_size", "val_size",
    "test_size", "test_interval", "save_interval", "seed", "num_workers", "redirect",
    "gradient_clipping", "checkpoint_monitor", "load_weights", "dataset", "dataset_root",
    "dataset_arg", "dataset_preload_limit", "coord_files", "embed_files", "energy_files",
    "force_files", "y_weight", "neg_dy_weight", "energy_weight", "force_weight", "train_loss",
    "train_loss_arg", "standardize", "wandb_use", "wandb_name", "wandb_project",
    "wandb_resume_from_id", "wandb_entity", "wandb_group", "wandb_id", "tensorboard_use",
    "job_id", "charge", "spin", "distributed_backend", "overfit_batches", "accelerator", "strategy",
    "max_steps", "limit_train_batches", "limit_val_batches", "num_steps", "tb_writer",
    # of memory and derivatives, which are computed here whatever it says
    "derivative", "static_shapes", "max_num_neighbors",
    # of other architectures
    "aggr", "neighbor_embedding", "distance_influence", "attn_activation", "num_heads",
    "vector_cutoff", "layernorm_on_vec", "output_mlp_num_layers",
    "coulomb_max_num_neighbors", "coulomb_neighbor_strategy",
))  # fmt: skip
"""Hyperparameters that do not change a TensorNet with the head `Scalar`."""


def import_torchmdnet(path: str | Path, stated: Stated | None = None) -> Potential:
    """The potential of a checkpoint of torchmd-net, the same function to rounding.

    E = std sum_i network_i + mean + sum_i atomref_{z_i} + terms: ZBL, D2 and Coulomb priors, and
    for TensorNet2 (AceFF-2) the Coulomb energy of its charges and its repulsion, these two times
    std. Nothing in the file is executed.

    Args:
        path: Lightning checkpoint (`.ckpt`) with `state_dict` and `hyper_parameters`.
        stated: What the file does not say: units (by default eV and Å), elements.

    Raises:
        OSError: No such file.
        ValueError: Not a checkpoint of a TensorNet, or one with a part that is not known here.
    """
    path, stated = Path(path), stated or Stated()
    checkpoint, settings = _opened(path)
    _check(settings, path)
    energy, length = _units(stated)
    tensors = _today(checkpoint["state_dict"])
    parameters = Parameters(tensors, path)
    second, old = settings["model"] in SECOND, "check_errors" in settings
    layout = Layout(
        prefix="representation_model.",
        layers=int(settings["num_layers"]),
        interleaved=old,
        interleaved_filters=old and not second,
        reversed=stated.mirrored,
    )
    weights = representation(parameters, layout)
    if second:
        weights |= equilibrations(parameters, layout)
    for kind in ("weight", "bias"):
        weights[f"head.0.{kind}"] = parameters.take(f"output_model.output_network.layers.0.{kind}")
        weights[f"head.2.{kind}"] = parameters.take(f"output_model.output_network.layers.2.{kind}")
    dtype = precision_of(weights)
    radial, widths = _radial(parameters, settings["rbf_type"], length)
    mean, scale = (float(parameters.take(name)) for name in ("mean", "std"))
    beside = additions(parameters, settings, Units(energy, length), scale, path)
    parameters.skip("representation_model.distance.box")
    parameters.finish()
    rows = weights["embedding.element.weight"]
    elements, said = _elements(stated, beside, len(rows), path)
    shift, spread = shift_per_atom(mean, stated, path)
    weights["embedding.element.weight"] = rows[list(elements)]
    config = TensorNetConfig(
        channels=int(settings["embedding_dimension"]),
        layers=layout.layers,
        cutoff=float(settings["cutoff_upper"]) * length,
        radial=RADIAL[settings["rbf_type"]],
        num_radial=int(settings["num_rbf"]),
        radial_widths=widths,
        envelope="cosine",
        symmetry=settings.get("equivariance_invariance_group", "O(3)"),
        charge_scale=0.0 if second else 0.1,
        charge_channels=int(settings["q_dim"]) if second else 0,
        charge_rule="published" if second else "exact",
        terms=tuple(beside.terms),
    )
    notes = [*_unit_notes(stated), *said, *spread, *beside.notes]
    if settings.get("box_vecs") is not None:
        notes.append("the fixed box in the file is not taken: cells come with structures")
    if config.symmetry == "SO(3)":
        notes.append(
            "directions as torchmd-net's Warp kernels take them"
            if stated.mirrored
            else "directions as torchmd-net's plain path takes them; its Warp kernels, the default "
            "of version 3, evaluate the mirror image: state mirrored for a model trained with them"
        )
    if layout.interleaved:
        notes.append("written before torchmd-net 3: rows of gates and filters brought in order")
    facts = {
        "architecture": "tensornet",
        "written with": f"pytorch-lightning {checkpoint.get('pytorch-lightning_version', '?')}",
        "epoch": plain(checkpoint.get("epoch")),
        "data": plain({k: settings.get(k) for k in ("dataset", "dataset_arg")}),
        "hyperparameters": plain({k: settings[k] for k in sorted(settings) if k in READ}),
    }
    potential = build_potential(
        config,
        elements=elements,
        reference_energies={z: energy * beside.atomref.get(z, 0.0) for z in elements},
        scale=energy * scale,
        shift=energy * shift,
        dtype=dtype,
        card=import_card("torchmd-net", [path], stated, notes, facts),
    )
    potential.network.load_state_dict(weights | radial)
    beside.fill(potential.terms, elements)
    return potential


def _opened(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The checkpoint and its hyperparameters."""
    checkpoint = read_archive(path)
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get("state_dict"), Mapping):
        raise ValueError(f"{path} has no state_dict: give a checkpoint written by torchmd-train")
    found = checkpoint.get("hyper_parameters")
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} has no hyper_parameters: give a checkpoint by torchmd-train")
    return checkpoint, dict(found)


def _check(settings: Mapping[str, Any], path: Path) -> None:
    """Refuse what changes the function and is not known here."""
    model = settings.get("model")
    second = model in SECOND
    if model != "tensornet" and not second:
        raise ValueError(
            f"{path} is a '{model}' of torchmd-net; only 'tensornet' and 'tensornet2' can be "
            "imported"
        )
    needed = (*NEEDED, "q_dim") if second else NEEDED
    if second and settings.get("output_model") == "ScalarPlusWeightedCoulomb":
        needed = (*needed, "q_weights")
    missing = [name for name in needed if name not in settings]
    if missing:
        raise ValueError(f"{path}: the hyper_parameters lack {', '.join(missing)}")
    unknown = sorted(settings.keys() - READ - WITHOUT_EFFECT)
    if unknown:
        near = get_close_matches(unknown[0], READ | WITHOUT_EFFECT, n=1)
        hint = f" (nearest known: {near[0]})" if near else ""
        raise ValueError(f"{path}: unknown hyperparameter {', '.join(unknown)}{hint}")
    expected: dict[str, tuple[Any, ...]] = {
        "rbf_type": tuple(RADIAL),
        "activation": ("silu", "swish"),
        "cutoff_lower": (0,),
        "output_model": ("Scalar", "ScalarPlusWeightedCoulomb") if second else ("Scalar",),
        "reduce_op": ("add", "sum"),
        "atom_filter": (-1,),
        "equivariance_invariance_group": ("O(3)", "SO(3)"),
    }
    for name, values in expected.items():
        if settings.get(name, values[0]) not in values:
            known = " or ".join(str(value) for value in values)
            raise ValueError(f"{path}: {name} is {settings[name]}; only {known} is known here")


def _units(stated: Stated) -> tuple[float, float]:
    """The file's units of energy and length in eV and Å."""
    energy = conversion_factor(stated.energy_unit or "eV", "eV")
    return energy, conversion_factor(stated.length_unit or "Å", "Å")


def _unit_notes(stated: Stated) -> list[str]:
    """Units and why."""
    assumed = "assumed: the file stores no units; state others if it was trained in others"
    return [
        f"unit of {what}: {unit or default} ({'stated' if unit else assumed})"
        for what, unit, default in (
            ("energy", stated.energy_unit, "eV"),
            ("length", stated.length_unit, "Å"),
        )
    ]


def _today(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as torchmd-net 3 writes them."""
    old = re.compile(r"^output_model\.output_network\.([02])\.(weight|bias)$")
    names = {name: re.sub(r"^model\.", "", name) for name in tensors}
    new = r"output_model.output_network.layers.\1.\2"
    return {old.sub(new, name): tensors[there] for there, name in names.items()}


def _radial(parameters: Parameters, kind: str, length: float) -> tuple[dict[str, Tensor], str]:
    """Radial functions as stored, trained or not, and whether each has a width of its own."""
    place = "representation_model.distance_expansion."
    if kind == "gauss":
        offsets, coefficient = (parameters.take(f"{place}{n}") for n in ("offset", "coeff"))
        found = {"radial.offsets": length * offsets, "radial.sharpness": -coefficient / length**2}
        return found, "shared"
    centers, betas = (parameters.take(f"{place}{name}") for name in ("means", "betas"))
    shared = bool((betas == betas[0]).all())
    found = {"radial.centers": centers, "radial.beta": betas[0] if shared else betas}
    return found, "shared" if shared else "each"


def _elements(
    stated: Stated, beside: Additions, rows: int, path: Path
) -> tuple[tuple[int, ...], list[str]]:
    """Elements to take, with the reason."""
    last = min(rows - 1, HEAVIEST, beside.heaviest)
    if stated.elements is not None:
        beyond = [z for z in stated.elements if not 0 < z <= last]
        if beyond:
            raise ValueError(
                f"{path} has rows for atomic numbers up to {last}, not for {beyond[0]}"
            )
        return tuple(sorted(set(stated.elements))), ["elements: as stated"]
    known = tuple(z for z in beside.known if z <= last)
    if known:
        return known, ["elements: those with a reference energy in the file"]
    return tuple(range(1, last + 1)), [
        f"elements: all rows of the table, 1 ... {last}; the file does not say which were trained, "
        "so state them to have others refused"
    ]
