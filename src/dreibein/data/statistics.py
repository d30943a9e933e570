"""What a data set says before any network: reference energies, force scale, energy spread."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from dreibein.data.config import DataConfig
from dreibein.data.dataset import StructureDataset
from dreibein.data.load import load_data
from dreibein.data.table import Array, Table
from dreibein.systems.fields import BONDS, of_bonds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferenceFit:
    """Least squares of the energy on the composition, E ~ sum_i e(z_i).

    Attributes:
        energies: Atomic number -> eV.
        rank: Independent compositions.
        residual_rms: eV per atom, over the fitted frames.
        frames: Frames with an energy.
    """

    energies: dict[int, float]
    rank: int
    residual_rms: float
    frames: int

    @property
    def deficient(self) -> bool:
        """Whether compositions leave the split between elements open (minimum norm taken)."""
        return self.rank < len(self.energies)

    def describe(self) -> str:
        """One sentence for the log."""
        values = ", ".join(f"{chemical_symbols[z]} {e:.4f}" for z, e in self.energies.items())
        text = f"reference energies fitted to {self.frames} frames (eV): {values}"
        if self.deficient:
            text += (
                f"; the compositions have rank {self.rank} for {len(self.energies)} elements, so "
                "the split between elements is the one of smallest norm, not physical"
            )
        return text


def fit_references(dataset: StructureDataset) -> ReferenceFit:
    """Least squares of energy on composition in float64; minimum norm where it is not unique.

    Raises:
        ValueError: No frame has an energy.
    """
    elements = dataset.elements
    counts, energies = _counts_and_energies(dataset, elements)
    if not len(energies):
        raise ValueError("no frame has an energy, so reference energies cannot be fitted")
    # Equal compositions enter as their mean with weight sqrt(n): the same solution, small matrix.
    unique, group, sizes = np.unique(counts, axis=0, return_inverse=True, return_counts=True)
    means = np.bincount(group.reshape(-1), weights=energies) / sizes
    weights = np.sqrt(sizes)
    solution, _, rank, _ = np.linalg.lstsq(unique * weights[:, None], means * weights, rcond=None)
    residual = (energies - counts @ solution) / counts.sum(1)
    return ReferenceFit(
        energies={z: float(e) for z, e in zip(elements, solution)},
        rank=int(rank),
        residual_rms=float(np.sqrt(np.mean(residual**2))),
        frames=len(energies),
    )


def fit_reference_energies(dataset: StructureDataset) -> dict[int, float]:
    """Atomic number -> eV by least squares; says in the log where that is not unique."""
    fit = fit_references(dataset)
    log.log(logging.WARNING if fit.deficient else logging.INFO, "%s", fit.describe())
    return fit.energies


def isolated_atoms(path: str, config: DataConfig | None = None) -> dict[int, float]:
    """Energies of single-atom frames of a file, to be used as given reference energies.

    Args:
        path: Any source; frames with more than one atom are passed over.
        config: Its keys and units, where they are not the usual ones.

    Raises:
        ValueError: No single atom with an energy, or one element with two energies.
    """
    settings = DataConfig(sources=[path])
    if config is not None:  # single atoms need no forces, whatever the rest of the data has
        keys = {k: v for k, v in config.keys.items() if k in ("energy", "charge", "spin")}
        units = {k: v for k, v in config.units.items() if k in ("energy", "length")}
        settings = config.model_copy(
            update={"sources": [path], "keys": keys, "units": units, "labels": []}
        )
    table = load_data(settings).table()
    column = table.columns.get("energy")
    found: dict[int, float] = {}
    for frame in np.flatnonzero(table.sizes == 1):
        if column is None or not column.mask[frame]:
            continue
        z, energy = int(table.z[table.offsets[frame]]), float(column.values[frame])
        if abs(found.setdefault(z, energy) - energy) > 1e-6:
            raise ValueError(
                f"{path}: two energies for the isolated atom {chemical_symbols[z]}, {found[z]} and "
                f"{energy} eV; keep one"
            )
    if not found:
        raise ValueError(f"{path}: no frame is a single atom with an energy")
    return dict(sorted(found.items()))


def forces_rms(dataset: StructureDataset) -> float:
    """Root mean square of the force components in eV/Å; 0 without forces."""
    total, number = 0.0, 0
    for table in dataset.blocks():
        column = table.columns.get("forces")
        if column is not None:
            values = column.values[column.mask]
            total += float((values**2).sum())
            number += values.size
    return float(np.sqrt(total / number)) if number else 0.0


def label_scatter(dataset: StructureDataset, label: str) -> float:
    """RMSE of predicting a label by its means, in its unit; 0 without labels.

    sqrt of the mean over components of the variance of each; scalars of atoms vary about the
    mean of the atom's element.
    """
    total, square, count = np.zeros(()), np.zeros(()), np.zeros(())
    for table in dataset.blocks():
        column = table.columns.get(label)
        if column is None:
            continue
        values = label_values(table, label)
        if column.per_atom and values.ndim == 1 and not of_bonds(label):
            values = np.eye(256)[table.z[column.mask]] * values[:, None]
            rows = np.bincount(table.z[column.mask], minlength=256)
        else:
            values = values.reshape(len(values), -1)
            rows = np.full(values.shape[1], len(values))
        total, square, count = total + values.sum(0), square + (values**2).sum(0), count + rows
    size = float(count.sum())
    variances = square - total**2 / np.maximum(count, 1)
    return float(np.sqrt(max(float(variances.sum()) / size, 0.0))) if size else 0.0


def label_values(table: Table, label: str) -> Array:
    """Values of a label that are there [rows, ...]: of frames, of atoms, or of bonds."""
    column = table.columns[label]
    if of_bonds(label):
        return bond_values(table, label)[0]
    values: Array = column.values[column.mask]
    return values


def bond_values(table: Table, label: str) -> tuple[Array, Array]:
    """Values of a label of bonds [rows, components], and the elements of both ends [rows, 2].

    Raises:
        ValueError: The frames do not list their bonds.
    """
    column, listed = table.columns[label], table.columns.get(BONDS)
    atoms = len(table.z)
    slots = 0 if listed is None else listed.values.reshape(atoms, -1).shape[1]
    if listed is None or not slots or column.values[:1].size % slots:
        raise ValueError(
            f"'{label}' is a label of bonds: give the frames an array '{BONDS}' of as many "
            "columns, with the partner of each bond, numbered from 0, and -1 for none"
        )
    partners = listed.values.reshape(atoms, slots).astype(np.int64)
    present = (partners >= 0) & (column.mask & listed.mask)[:, None]
    atom, slot = np.nonzero(present)
    other = table.offsets[table.owner[atom]] + partners[atom, slot]
    values = column.values.reshape(atoms, slots, -1)[atom, slot]
    return values, np.stack([table.z[atom], table.z[other]], axis=1)


def energy_spread(dataset: StructureDataset, references: Mapping[int, float]) -> float:
    """Standard deviation of (E - sum_i e(z_i)) / N in eV per atom; 0 without energies."""
    residual = np.concatenate([r for _, r in residual_blocks(dataset, references)])
    return float(residual[np.isfinite(residual)].std()) if np.isfinite(residual).any() else 0.0


def residual_blocks(
    dataset: StructureDataset, references: Mapping[int, float]
) -> list[tuple[int, Array]]:
    """First frame and energy per atom after references of each block; NaN where missing."""
    blocks, start = [], 0
    missing = set(dataset.elements) - set(references)
    if missing:
        names = ", ".join(chemical_symbols[z] for z in sorted(missing))
        raise ValueError(f"no reference energy for {names}: give one for every element")
    lookup = np.zeros(256)
    for z, energy in references.items():
        lookup[z] = energy
    for table in dataset.blocks():
        sums = np.bincount(table.owner, weights=lookup[table.z], minlength=len(table))
        column = table.columns.get("energy")
        values = np.full(len(table), np.nan)
        if column is not None:
            values[column.mask] = ((column.values - sums) / table.sizes)[column.mask]
        blocks.append((start, values))
        start += len(table)
    return blocks


def _counts_and_energies(
    dataset: StructureDataset, elements: tuple[int, ...]
) -> tuple[Array, Array]:
    """Compositions [F, elements] and energies [F] of the frames that have one."""
    counts, energies = [], []
    for table in dataset.blocks():
        column = table.columns.get("energy")
        if column is None or not column.mask.any():
            continue
        block, present = table.compositions()
        wide = np.zeros((len(table), len(elements)), dtype=np.int64)
        wide[:, [elements.index(z) for z in present]] = block
        counts.append(wide[column.mask])
        energies.append(column.values[column.mask])
    if not energies:
        return np.zeros((0, len(elements))), np.zeros(0)
    return np.concatenate(counts), np.concatenate(energies)
