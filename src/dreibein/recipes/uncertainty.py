"""Uncertainties made and calibrated: of one potential by its last layer, of several by spread."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch

from dreibein.data import StructureDataset, with_neighbors
from dreibein.nn import Committee, Potential
from dreibein.nn.committee import ENERGY_SPREAD, FORCES_SPREAD
from dreibein.nn.uncertainty import (
    ENERGY_UNCERTAINTY,
    FORCES_UNCERTAINTY,
    LastLayerUncertainty,
    has_last_layer,
    last_features,
)
from dreibein.systems import join, mask_name

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
BATCH = 32  # structures at once
MOST_HELD_OUT = 2000  # validation structures that calibrate
FORCE_FRAMES = 16  # of them, those whose forces calibrate: each costs many derivatives
REGULARIZATIONS = tuple(10.0**-k for k in range(14, 1, -1))
"""Candidates for s over the largest eigenvalue of C."""


def calibrate(
    potential: Potential,
    train_set: StructureDataset,
    validation_set: StructureDataset,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Give a potential its uncertainty; returns what the card says of it.

    C is summed over training structures with an energy. On validation structures the errors e of
    the energies fix alpha^2 = mean e^2 / (F^T (C + s 1)^-1 F), which maximizes the likelihood of
    normal errors, and s is the candidate with the highest likelihood. Forces get a factor of
    their own from a few structures. The alarm's bound is the largest uncertainty per atom.

    Args:
        potential: Changed: it knows `dreibein.nn.uncertainty.UNCERTAINTIES` afterwards.
        train_set: What it was trained on.
        validation_set: Held out, labeled alike.
        progress: Called with structures done, structures, and a note.

    Raises:
        ValueError: A network without a last linear layer, or no energies to calibrate with.
    """
    network = potential.network
    if not potential.has_energy or not has_last_layer(network):
        raise ValueError(
            f"{type(network).__name__} has no last linear layer of an energy, from which the "
            "uncertainty comes: train an ensemble instead"
        )
    potential.eval()
    potential.uncertainty = None
    covariance, frames = _covariance(potential, train_set, progress)
    features, errors = _held_out(potential, validation_set)
    if not frames or len(errors) < 2:
        raise ValueError(
            "an uncertainty is calibrated with energies, of training structures and of at least "
            f"two validation structures: there are {frames} and {len(errors)}"
        )
    share, alpha, root = _best_root(covariance, features, errors)
    potential.uncertainty = LastLayerUncertainty(len(root)).to(potential.device)
    potential.uncertainty.root.copy_(root)
    _calibrate_forces(potential, potential.uncertainty, validation_set)
    compute = (ENERGY_UNCERTAINTY,)
    largest = max(
        float((potential(batch, compute)[ENERGY_UNCERTAINTY] / batch.ptr.diff()).max())
        for batch in batches(validation_set, potential, MOST_HELD_OUT)
    )
    record = {
        "kind": "last layer",
        "features": len(root),
        "training_frames": frames,
        "validation_frames": len(errors),
        "regularization": share,
        "alpha_ev": alpha,
        "forces_factor": float(potential.uncertainty.forces_factor),
        "alarm_ev_per_atom": largest,
    }
    potential.card["uncertainty"] = record
    return record


def try_to_calibrate(
    potential: Potential, train_set: StructureDataset, validation_set: StructureDataset | None
) -> None:
    """Calibrate where that is possible; the log says what came of it."""
    if validation_set is None or not len(validation_set):
        logger.info("no uncertainty: it is calibrated on validation frames, and there are none")
        return
    try:
        found = calibrate(potential, train_set, validation_set)
    except ValueError as error:
        logger.info("no uncertainty: %s", error)
        return
    logger.info(
        "uncertainty of energies from %d features of the last layer, calibrated on %d frames",
        found["features"],
        found["validation_frames"],
    )


def calibrate_committee(
    committee: Committee, validation_set: StructureDataset
) -> dict[str, float | int]:
    """One factor each for the spread of energies and of forces: root mean square of error / spread.

    Args:
        committee: Changed: it knows "energy_uncertainty" and "forces_uncertainty" afterwards.
        validation_set: Held out, labeled.
    """
    found: dict[str, list[Tensor]] = {"energy": [], "forces": []}
    compute = ("energy", "forces", ENERGY_SPREAD, FORCES_SPREAD)
    for batch in batches(validation_set, committee, MOST_HELD_OUT):
        values = committee(batch, compute=compute)
        for name, spread in (("energy", ENERGY_SPREAD), ("forces", FORCES_SPREAD)):
            if name in batch:
                square = (values[name] - batch[name]).square().reshape(len(values[spread]), -1)
                ratio = square.sum(1) / values[spread].square().clamp(min=1e-24)
                found[name].append(ratio[_present(batch, name)])
    factors = {
        name: float(torch.cat(parts).mean().sqrt()) for name, parts in found.items() if parts
    }
    committee.factors = factors
    return {f"{name}_factor": value for name, value in factors.items()}


def batches(
    frames: StructureDataset, potential: Potential, most: int | None = None
) -> Iterator[Batch]:
    """Structures with neighbors on the potential's device; at most so many, spread evenly."""
    near = with_neighbors(frames, potential.cutoff)
    count = len(near) if most is None else min(most, len(near))
    rows = [k * len(near) // count for k in range(count)]
    for first in range(0, count, BATCH):
        yield join([near[k] for k in rows[first : first + BATCH]]).to(potential.device)


def _present(batch: Batch, name: str) -> Tensor:
    mask = batch.get(mask_name(name))
    return torch.ones(len(batch[name]), dtype=torch.bool) if mask is None else mask.cpu()


def _of_structures(potential: Potential, batch: Batch) -> Tensor:
    """F [B, D] on the CPU."""
    with torch.no_grad():
        atoms = last_features(potential, batch)
        whole = atoms.new_zeros(batch.num_graphs, atoms.shape[1])
        return whole.index_add(0, batch.batch, atoms).cpu()


def _covariance(
    potential: Potential, train_set: StructureDataset, progress: Progress | None
) -> tuple[Tensor, int]:
    """C [D, D], and the number of structures in it."""
    total, frames, done = torch.zeros(()), 0, 0
    for batch in batches(train_set, potential):
        done += batch.num_graphs
        if progress:
            progress(done, len(train_set), "covariance of the last layer")
        if "energy" not in batch:
            break
        keep = _present(batch, "energy")
        features = _of_structures(potential, batch)[keep]
        atoms = torch.bincount(batch.batch.cpu(), minlength=batch.num_graphs)[keep]
        total = total + features.mT @ (features / atoms[:, None])
        frames += int(keep.sum())
    return total, frames


def _held_out(potential: Potential, frames: StructureDataset) -> tuple[Tensor, Tensor]:
    """F [n, D] and errors of the energy [n] of validation structures."""
    features, errors = [torch.zeros(0)], [torch.zeros(0).double()]
    for batch in batches(frames, potential, MOST_HELD_OUT):
        if "energy" not in batch:
            continue
        keep = _present(batch, "energy")
        error = potential(batch, compute=("energy",))["energy"].cpu() - batch.energy.cpu()
        features.append(_of_structures(potential, batch)[keep])
        errors.append(error[keep])
    return torch.cat(features[1:] or features), torch.cat(errors)


def _best_root(covariance: Tensor, features: Tensor, errors: Tensor) -> tuple[float, float, Tensor]:
    """Regularization over the largest eigenvalue, alpha, and alpha (C + s 1)^(-1/2) [D, D]."""
    values, vectors = torch.linalg.eigh(covariance)
    largest = values[-1].clamp(min=torch.finfo(values.dtype).tiny)
    values = values.clamp(min=0.0)
    projections = (features @ vectors).square()
    found = []
    for share in REGULARIZATIONS:
        square = (projections / (values + share * largest)).sum(1)
        alpha = (errors.square() / square).mean().clamp(min=1e-24)
        variance = alpha * square
        surprise = (errors.square() / variance + variance.log()).mean()
        found.append((float(surprise), share, float(alpha.sqrt())))
    _, share, alpha_ev = min(found)
    root = alpha_ev * (values + share * largest).rsqrt()[:, None] * vectors.mT
    return share, alpha_ev, root


def _calibrate_forces(
    potential: Potential, uncertainty: LastLayerUncertainty, frames: StructureDataset
) -> None:
    """Set the factor of forces to the root mean square of error over uncertainty."""
    ratios = []
    for batch in batches(frames, potential, FORCE_FRAMES):
        if "forces" not in batch:
            return
        found = potential(batch, compute=("forces", FORCES_UNCERTAINTY))
        square = (found["forces"] - batch.forces).square().sum(1)
        ratio = square / found[FORCES_UNCERTAINTY].square().clamp(min=1e-24)
        ratios.append(ratio.cpu()[_present(batch, "forces")])
    if ratios and sum(len(ratio) for ratio in ratios):
        uncertainty.forces_factor.copy_(torch.cat(ratios).mean().sqrt())
