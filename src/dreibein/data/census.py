"""What there is in a data set: sums and per-frame sizes over all frames."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula

from dreibein.data.dataset import StructureDataset
from dreibein.data.frame_checks import largest_forces
from dreibein.data.table import Array, Table


class Census:
    """Sums over all frames, gathered block by block."""

    def __init__(self) -> None:
        self.atoms = 0
        self.compositions: Counter[str] = Counter()
        self.cells: Counter[str] = Counter()
        self.configs: Counter[str] = Counter()
        self.charges: Counter[float] = Counter()
        self.spins: Counter[int] = Counter()
        self.frames_with: Counter[int] = Counter()
        self.atoms_of: Counter[int] = Counter()
        self.present: Counter[str] = Counter()
        self.entries: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.singles: list[int] = []
        self.per_frame: dict[str, list[Array]] = {}
        self._squares: defaultdict[int, float] = defaultdict(float)
        self._components: Counter[int] = Counter()

    def add(self, table: Table, start: int) -> None:
        """Count one block whose first frame is number `start`."""
        self.atoms += table.num_atoms
        counts, elements = table.compositions()
        kinds, number = np.unique(counts, axis=0, return_counts=True)
        for kind, n in zip(kinds, number):
            self.compositions[_formula(kind, elements)] += int(n)
        for k, z in enumerate(elements):
            self.frames_with[z] += int((counts[:, k] > 0).sum())
            self.atoms_of[z] += int(counts[:, k].sum())
        pbc, number = np.unique(table.pbc, axis=0, return_counts=True)
        for flags, n in zip(pbc, number):
            self.cells[_periodicity(flags)] += int(n)
        self.configs.update(table.config_names[c] for c in table.config)
        self.charges.update(float(q) for q in table.charge)
        self.spins.update(int(s) for s in table.spin)
        self.singles += (np.flatnonzero(table.sizes == 1) + start).tolist()
        for name, column in table.columns.items():
            self.entries[name] += int(column.mask.sum())
            self.rows[name] += len(column.mask)
            owners = table.owner[column.mask] if column.per_atom else np.flatnonzero(column.mask)
            self.present[name] += len(np.unique(owners))
        self._measure(table)

    def _measure(self, table: Table) -> None:
        volume = np.abs(np.linalg.det(table.cell))
        periodic = table.pbc.all(1)
        per_atom = np.where(periodic, volume / table.sizes, np.nan)
        self.per_frame.setdefault("volume per atom", []).append(per_atom)
        for name, label in (("energy", "energy"), ("dipole", "dipole"), ("stress", "stress")):
            values = np.full(len(table), np.nan)
            column = table.columns.get(label)
            if column is not None:
                sizes = column.values.reshape(len(table), -1)
                if label == "energy":
                    sizes = sizes[:, 0] / table.sizes
                elif label == "dipole":
                    sizes = np.linalg.norm(sizes, axis=1)
                else:
                    sizes = np.trace(column.values, axis1=1, axis2=2) / 3.0
                values[column.mask] = sizes[column.mask]
            self.per_frame.setdefault(name, []).append(values)
        forces = table.columns.get("forces")
        largest = np.full(len(table), np.nan)
        if forces is not None:
            owners = np.bincount(table.owner, weights=forces.mask, minlength=len(table))
            largest = np.where(owners > 0, largest_forces(table), np.nan)
            for z in np.unique(table.z):
                values = forces.values[(table.z == z) & forces.mask]
                self._squares[int(z)] += float((values**2).sum())
                self._components[int(z)] += values.size
        self.per_frame.setdefault("forces", []).append(largest)

    def forces_rms(self) -> dict[str, float]:
        """Symbol -> rms of a force component in eV/Å."""
        return {
            chemical_symbols[z]: float(np.sqrt(self._squares[z] / n))
            for z, n in sorted(self._components.items())
            if n
        }

    def elements(self) -> dict[str, dict[str, int]]:
        """Symbol -> frames and atoms."""
        return {
            chemical_symbols[z]: {"frames": self.frames_with[z], "atoms": self.atoms_of[z]}
            for z in sorted(self.atoms_of)
        }


def take_census(dataset: StructureDataset) -> Census:
    """Count all frames, block by block."""
    counts, start = Census(), 0
    for table in dataset.blocks():
        counts.add(table, start)
        start += len(table)
    return counts


def _formula(counts: Array, elements: Sequence[int]) -> str:
    """Hill formula of a composition."""
    parts = {chemical_symbols[z]: int(n) for z, n in zip(elements, counts) if n}
    return format(Formula.from_dict(parts), "hill")


def _periodicity(flags: Array) -> str:
    if not flags.any():
        return "isolated"
    return "periodic" if flags.all() else f"periodic along {''.join(np.array(list('abc'))[flags])}"
