"""What a run says of itself: to the log at the start, in the model file at the end."""

import logging
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from lightning.fabric import Fabric

from dreibein.data import Splits
from dreibein.nn import Potential
from dreibein.recipes.config import RunConfig
from dreibein.recipes.run_folder import circumstances
from dreibein.train import FitResult

logger = logging.getLogger(__name__)


def announce(
    config: RunConfig, splits: Splits, potential: Potential, fabric: Fabric, folder: Path
) -> None:
    """Say what was chosen."""
    training = config.training
    for source in splits.train.provenance.get("sources", []):
        keys = "; ".join(
            f"{label} from '{key.get('key')}' in {source['units'].get(label, {}).get('unit', '?')}"
            for label, key in source["keys"].items()
        )
        logger.info("data: %s: %s frames; %s", source["name"], source["frames"], keys)
    sides = (splits.train, splits.validation, splits.test)
    sizes = [len(side) if side is not None else 0 for side in sides]
    logger.info("split: %d train, %d validation, %d test (seed %d)", *sizes, config.data.split_seed)
    if training.reference_energies != "fit":  # a fit speaks for itself
        energies = potential.reference_energies.items()
        values = ", ".join(f"{chemical_symbols[z]} {energy:.4f}" for z, energy in energies)
        logger.info("reference energies (eV): %s", values)
    logger.info("output unit: %.4g eV (%s)", float(potential.scale), training.scale)
    logger.info("mean energy beside the references: %.5g eV per atom", float(potential.shift))
    parameters = sum(p.numel() for p in potential.parameters())
    logger.info("model: %s, %s parameters", config.model.architecture, f"{parameters:,}")
    terms = training.losses.terms()
    logger.info(
        "loss: %s", " + ".join(f"{t.weight:g} {name} ({t.kind})" for name, t in terms.items())
    )
    where = f"{fabric.device}, {fabric.world_size} process{'es' * (fabric.world_size > 1)}"
    if fabric.device.type == "cpu":
        where += f", {torch.get_num_threads()} threads"
    elif fabric.device.type == "cuda":
        where += f" ({torch.cuda.get_device_name(fabric.device)})"
    logger.info(
        "runs on %s; network in %s, matrix products %s, energies summed in float64",
        where,
        training.precision,
        training.matmul_precision,
    )
    logger.info("training backend: %s", training_backend(potential, fabric.device))
    logger.info("run folder: %s", folder)


def training_backend(potential: Potential, device: torch.device) -> str:
    """What a training step runs on, in words; networks without a choice are plain PyTorch."""
    describe = getattr(potential.network, "training_backend", None)
    return describe(device, potential.dtype) if describe else "reference"


def card(config: RunConfig, splits: Splits, result: FitResult, fabric: Fabric) -> dict[str, Any]:
    """What the model file says of its making."""
    return {
        "name": config.name,
        "level_of_theory": splits.train.provenance.get("level_of_theory"),
        "data": {
            "sources": [s["name"] for s in splits.train.provenance.get("sources", [])],
            "sha256": splits.sha256,
            "labels": list(splits.train.label_names),
            "train_frames": len(splits.train),
            "validation_frames": len(splits.validation) if splits.validation else 0,
            "test_frames": len(splits.test) if splits.test else 0,
            "split_seed": splits.seed,
        },
        "training": {
            "ended": result.reason,
            "epochs": result.epochs,
            "steps": result.steps,
            "best_epoch": result.best_epoch,
            "seconds": round(result.seconds, 1),
            "model_seed": config.training.model_seed,
            "order_seed": config.training.order_seed,
            "averaged_weights": config.training.ema_decay is not None,
        },
        "device": str(fabric.device),
        "precision": config.training.precision,
        **circumstances(),
    }
