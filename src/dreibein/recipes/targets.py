"""Targets meet their labels: keys, units, means and spreads from the training data."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from ase.data import atomic_masses

from dreibein.data import StructureDataset, label_scatter
from dreibein.data.statistics import bond_values
from dreibein.data.table import Table
from dreibein.neighbors import attach_neighbors
from dreibein.nn import Potential
from dreibein.nn.elements import NUM_ELEMENTS
from dreibein.nn.heads import TargetHead
from dreibein.nn.moments import EXTENT, from_center, known_extent
from dreibein.recipes.config import RunConfig
from dreibein.systems import FIELDS, join
from dreibein.systems.fields import BONDS
from dreibein.systems.graphs import make_graph
from dreibein.systems.units import conversion_factor
from dreibein.train import Losses
from dreibein.train.config import LabelTerm

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]
ENERGY_LABELS = ("energy", "forces", "stress")
MEASURED_FRAMES = 32  # to learn the size of untrained features


def with_target_labels(config: RunConfig) -> RunConfig:
    """The configuration whose data must have what it predicts beside the usual, and Hessians."""
    wanted = [*config.model.targets]
    wanted += [BONDS] if any(t.scope == "bond" for t in config.model.targets.values()) else []
    wanted += ["hessian"] if "hessian" in config.training.losses.terms() else []
    names = [n for n in wanted if n not in config.data.labels]
    if not names:
        return config
    data = config.data.model_copy(update={"labels": [*config.data.labels, *names]})
    return config.model_copy(update={"data": data})


def settle_targets(config: RunConfig, train_set: StructureDataset) -> RunConfig:
    """Fill in what the training data say: units, whether there is an energy, a dipole's charges.

    Raises:
        ValueError: A target is in another unit than its labels.
    """
    targets = {}
    periodic = None
    for name, target in config.model.targets.items():
        known: dict[str, Any] = {}
        if name not in FIELDS:
            known["unit"] = _unit(name, target.unit or "", train_set)
        if name == "dipole" and target.charges is None:
            periodic = _any_periodic(train_set) if periodic is None else periodic
            known["charges"] = not periodic
        targets[name] = target.model_copy(update=known)
    changes: dict[str, Any] = {"targets": targets} if targets else {}
    if targets and "energy" not in config.model.model_fields_set:
        changes["energy"] = any(name in train_set.label_names for name in ENERGY_LABELS)
        if not changes["energy"]:
            logger.info("the data have no energies: the model predicts its targets alone")
    if not changes:
        return config
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


def _unit(name: str, wanted: str, train_set: StructureDataset) -> str:
    """Unit of a label that is no field of the package, inside the package."""
    sources = train_set.provenance.get("sources", [])
    found = {source["units"].get(name, {}).get("converted_to", "") for source in sources}
    found -= {""}
    if len(found) > 1:
        raise ValueError(
            f"the label '{name}' comes in {' and in '.join(sorted(found))}: "
            f"state its unit in every file, or data.units.{name}"
        )
    unit = found.pop() if found else wanted
    if wanted and unit != wanted:
        try:
            same = abs(conversion_factor(unit, wanted) - 1.0) < 1e-9
        except ValueError:
            same = False
        if not same:
            raise ValueError(
                f"model.targets.{name}.unit is {wanted}, but its labels are in {unit} once read: "
                f"leave the unit out, or state that of the file in data.units.{name}"
            )
    return unit


def _any_periodic(train_set: StructureDataset) -> bool:
    return any(bool(table.pbc.any()) for table in train_set.blocks())


def target_losses(losses: Losses, potential: Potential) -> Losses:
    """The loss with a term for every target that the configuration does not mention."""
    missing = [name for name in potential.targets if name not in losses.model_fields_set]
    return losses.model_copy(update={name: LabelTerm() for name in missing})


def fit_targets(potential: Potential, train_set: StructureDataset) -> None:
    """Give every head the mean and spread of its labels, and the size of the features.

    Scalars of atoms get the mean and standard deviation of each element; scalars and matrices of
    structures the least-squares share of each element (of the trace over three), the same number
    for all where `pool` is the mean. Vectors and the rest have no mean.
    """
    if not potential.targets:
        return
    _measure(potential, train_set)
    for name, head in potential.targets.items():
        if head.target.scope == "bond":
            _fit_bonds(head, train_set)
            continue
        values, z, owner, sizes = _labels(train_set, name)
        if head.target.scope == "atom":
            mean, spread = _per_element(head, values, z)
        else:
            mean, spread = _per_composition(head, values, z, owner, sizes)
        _set(head, mean, spread)
        described = f"{head.target.unit or 'no unit'}, one per {head.target.scope}"
        if name == "dipole" or head.with_charges:
            part = "charges and dipoles of atoms" if head.with_charges else "dipoles of atoms"
            described += f", from {part}"
        scatter = label_scatter(train_set, name)
        logger.info("target %s: %s; its labels vary by %.4g", name, described, scatter)


def _set(head: TargetHead, mean: Array, spread: Array) -> None:
    head.mean.copy_(torch.from_numpy(mean))
    head.spread.copy_(torch.from_numpy(spread))


def _fit_bonds(head: TargetHead, train_set: StructureDataset) -> None:
    """Shares of the elements of both ends in the mean, and one spread for all bonds."""
    tables = [table for table in train_set.blocks() if head.name in table.columns]
    found = [bond_values(table, head.name) for table in tables]
    values, ends = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    if not len(values):
        raise ValueError(f"no bond of the training set has the label '{head.name}'")
    mean, means = np.zeros(NUM_ELEMENTS + 1), np.zeros(len(values))
    if _has_mean(head):
        elements = np.unique(ends)
        counts = (ends[:, :, None] == elements).sum(1).astype(float)
        mean[elements] = np.linalg.lstsq(counts, _isotropic(head, values), rcond=None)[0]
        means = counts @ mean[elements]
    spread = np.full(NUM_ELEMENTS + 1, _rms(_minus(head, values, means)))
    _set(head, mean, spread)
    unit = head.target.unit or "no unit"
    logger.info("target %s: %s, one per bond, of %d bonds", head.name, unit, len(values))


def _measure(potential: Potential, train_set: StructureDataset) -> None:
    """Features of the first training frames, at the initial weights."""
    count = min(MEASURED_FRAMES, len(train_set))
    frames = [train_set[k] for k in range(count)]
    batch = join([attach_neighbors(frame, potential.cutoff) for frame in frames])
    network: Any = potential.network
    with torch.no_grad():
        near = potential.network_view(batch)
        features = network.irreps_features(make_graph(near, batch.pos, batch.cell, potential.dtype))
    for head in potential.targets.values():
        head.measure(features)


def _labels(train_set: StructureDataset, name: str) -> tuple[Array, Array, Array, Array]:
    """Labels [rows, components], elements and owners of atoms, and atoms of structures.

    Rows, atoms and structures are those that have the label; owners count these structures.
    """
    parts = list(_label_blocks(train_set, name))
    if not parts:
        raise ValueError(f"no structure of the training set has the label '{name}'")
    values, z, sizes = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return values, z, np.repeat(np.arange(len(sizes)), sizes), sizes


def _label_blocks(train_set: StructureDataset, name: str) -> Iterator[tuple[Array, Array, Array]]:
    for table in train_set.blocks():
        column = table.columns.get(name)
        if column is None or not column.mask.any():
            continue
        values = column.values[column.mask]
        values = values.reshape(len(values), -1)
        if name == EXTENT:
            values = values - _known_extents(table)[column.mask, None]
        if column.per_atom:
            yield values, table.z[column.mask], table.sizes
        else:
            yield values, table.z[column.mask[table.owner]], table.sizes[column.mask]


def _known_extents(table: Table) -> Array:
    """Part of the spatial extent that no weight has a say in [frames] in Å^2."""
    owner, count = torch.from_numpy(table.owner), len(table)
    z, pos = torch.from_numpy(table.z.astype(np.int64)), torch.from_numpy(np.array(table.pos))
    masses = torch.from_numpy(atomic_masses).index_select(0, z)
    extents = known_extent(z, from_center(masses, pos, owner, count))
    return extents.new_zeros(count).index_add(0, owner, extents).numpy()


def _has_mean(head: TargetHead) -> bool:
    """Whether a mean may be subtracted: the target has an invariant part of its own."""
    kinds = [kind for kind, _ in head.target.parts()]
    known = head.target.tensor_shape in ((), (3, 3)) and head.target.reduce != "norm"
    return known and any(kind.is_trivial for kind in kinds)


def _isotropic(head: TargetHead, values: Array) -> Array:
    """The number in a scalar, or a third of the trace of a matrix [rows]."""
    numbers: Array = values[:, 0] if head.target.shape == () else values[:, ::4].mean(1)
    return numbers


def _minus(head: TargetHead, values: Array, means: Array) -> Array:
    """Labels without their means [rows, components]."""
    unit = np.ones(1) if head.target.shape == () else np.eye(3).ravel()
    residual: Array = values - means[:, None] * unit if _has_mean(head) else values
    return residual


def _per_element(head: TargetHead, values: Array, z: Array) -> tuple[Array, Array]:
    """Mean and spread of atoms by element [119]."""
    mean, spread = np.zeros(NUM_ELEMENTS + 1), np.ones(NUM_ELEMENTS + 1)
    if _has_mean(head):
        numbers = _isotropic(head, values)
        for element in np.unique(z):
            mean[element] = numbers[z == element].mean()
    residual = _minus(head, values, mean[z])
    spread[:] = _rms(residual)
    for element in np.unique(z):
        own = _rms(residual[z == element])
        if (z == element).sum() > 1 and own > 0.0:
            spread[element] = own
    return mean, spread


def _per_composition(
    head: TargetHead, values: Array, z: Array, owner: Array, sizes: Array
) -> tuple[Array, Array]:
    """Mean share of each element, and the spread that an atom must have [119]."""
    mean, spread = np.zeros(NUM_ELEMENTS + 1), np.ones(NUM_ELEMENTS + 1)
    pooled = head.target.pool == "mean"
    means = np.zeros(len(values))
    if _has_mean(head):
        numbers = _isotropic(head, values)
        if pooled:
            mean[:] = means[:] = numbers.mean()
        else:
            elements = np.unique(z)
            counts = np.zeros((len(values), len(elements)))
            np.add.at(counts, (owner, np.searchsorted(elements, z)), 1.0)
            mean[elements] = np.linalg.lstsq(counts, numbers, rcond=None)[0]
            means = counts @ mean[elements]
    atoms = float(np.sqrt(sizes.mean()))
    residual = _rms(_minus(head, values, means))
    spread[:] = residual * atoms if pooled else residual / atoms
    return mean, spread


def _rms(values: Array) -> float:
    """Root mean square, or 1 where it is zero."""
    return float(np.sqrt(np.mean(values**2))) or 1.0
