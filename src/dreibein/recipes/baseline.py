"""What is known before any network: reference energies and the unit of its output."""

from collections.abc import Mapping

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
from dreibein.recipes.config import RunConfig
from dreibein.train.config import Scale


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
