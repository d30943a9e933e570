"""What is known before any network: reference energies and the unit of its output."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from dreibein.data import (
    StructureDataset,
    energy_spread,
    fit_reference_energies,
    forces_rms,
    isolated_atoms,
)
from dreibein.data.statistics import residual_blocks
from dreibein.data.table import Table
from dreibein.neighbors import attach_neighbors
from dreibein.nn.terms import Term
from dreibein.nn.terms.sums import term_gradients
from dreibein.recipes.config import RunConfig
from dreibein.systems import join
from dreibein.train.config import Scale

logger = logging.getLogger(__name__)

_AT_ONCE = 64
"""Frames whose terms are evaluated together."""


def without_terms(dataset: StructureDataset, terms: Sequence[Term]) -> StructureDataset:
    """A data set's energies and forces less those of terms: what the network has to learn.

    Other labels stay as they are. Terms whose charges the network predicts are not known yet
    and stay in.
    """
    known = [term for term in terms if not term.needs_charges]
    if not known:
        return dataset
    tables, first = [], 0
    for table in dataset.blocks():
        tables.append(_less(dataset, first, table, known))
        first += len(table)
    names = ", ".join(term.describe() for term in known)
    logger.info("energies less their terms (%s) are what references and scale are fitted to", names)
    return StructureDataset(tables, dataset.provenance)


def _less(dataset: StructureDataset, first: int, table: Table, terms: Sequence[Term]) -> Table:
    """A block of frames, the first of this number, without the terms."""
    cutoff = max(1.0, *(term.cutoff for term in terms))
    energies, gradients = [], []
    for start in range(0, len(table), _AT_ONCE):
        numbers = range(first + start, first + min(start + _AT_ONCE, len(table)))
        batch = join([attach_neighbors(dataset[number], cutoff) for number in numbers])
        of_atoms, gradient, _ = term_gradients(terms, batch)
        total = of_atoms.new_zeros(len(numbers)).index_add(0, batch.batch, of_atoms)
        energies.append(total.numpy())
        gradients.append(gradient.numpy())
    columns = dict(table.columns)
    for name, parts, sign in (("energy", energies, -1.0), ("forces", gradients, 1.0)):
        if name in columns:
            column = columns[name]
            change = sign * np.concatenate(parts).reshape(column.values.shape)
            columns[name] = replace(column, values=column.values + change)
    return replace(table, columns=columns)


def reference_energies(config: RunConfig, train_set: StructureDataset) -> dict[int, float]:
    """Energy of each element of the training set in eV: fitted, zero, given, or from a file.

    Raises:
        ValueError: An unknown symbol, or an element without an energy.
    """
    choice = config.training.reference_energies
    elements = train_set.elements
    if choice == "none" or (choice == "fit" and "energy" not in train_set.label_names):
        return dict.fromkeys(elements, 0.0)
    if choice == "fit":
        return fit_reference_energies(train_set)
    if isinstance(choice, str):
        found = isolated_atoms(choice, config.data)
        origin = choice
    else:
        unknown = [symbol for symbol in choice if symbol not in atomic_numbers]
        if unknown:
            raise ValueError(
                f"training.reference_energies names '{unknown[0]}', which is no element: "
                "use symbols such as H or Si"
            )
        found = {atomic_numbers[symbol]: float(e) for symbol, e in choice.items()}
        origin = "training.reference_energies"
    missing = [chemical_symbols[z] for z in elements if z not in found]
    if missing:
        raise ValueError(
            f"{origin} has no energy of {', '.join(missing)}, which the training set contains: "
            "add it, or fit all of them with training.reference_energies=fit"
        )
    return {z: found[z] for z in elements}


def output_scale(
    choice: Scale | float, train_set: StructureDataset, references: Mapping[int, float]
) -> float:
    """Unit of the network's output in eV; 1 where the data have no spread to take it from."""
    if choice == "none":
        return 1.0
    if not isinstance(choice, str):
        return float(choice)
    found = 0.0
    if choice in ("auto", "forces"):
        found = forces_rms(train_set)
    if choice == "energy" or (choice == "auto" and not found):
        found = energy_spread(train_set, references)
    elif choice == "total_energy":
        found = _total_spread(train_set, references)
    return found or 1.0


def output_shift(
    choice: Scale | float, train_set: StructureDataset, references: Mapping[int, float]
) -> float:
    """Mean of (E - sum_i e(z_i)) / N in eV: near 0 for fitted references, binding for free atoms.

    Without it the network would have to learn some eV per atom before anything else. 0 where the
    scale is "none": then the network's output is taken as it is.
    """
    if choice == "none":
        return 0.0
    values = [values for _, values in residual_blocks(train_set, references)]
    per_atom = np.concatenate(values) if values else np.zeros(0)
    per_atom = per_atom[np.isfinite(per_atom)]
    return float(per_atom.mean()) if len(per_atom) else 0.0


def _total_spread(train_set: StructureDataset, references: Mapping[int, float]) -> float:
    """Standard deviation of E - sum_i e(z_i) in eV; 0 without energies."""
    blocks = residual_blocks(train_set, references)
    per_atom = np.concatenate([values for _, values in blocks])
    total = (per_atom * train_set.sizes)[np.isfinite(per_atom)]
    return float(total.std()) if len(total) else 0.0
