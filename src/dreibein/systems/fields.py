"""The one table of what a structure can carry: name, shape, unit and how it turns."""

from dataclasses import dataclass
from typing import Literal

import torch

Scope = Literal["structure", "atom", "edge"]
BONDS = "bonds"
BOND_PREFIX = "bond_"


@dataclass(frozen=True)
class Field:
    """One quantity of a structure.

    Attributes:
        name: Attribute name on the PyG `Data`.
        scope: What the leading axis counts: structures (length 1 before batching), atoms, edges.
        shape: Shape of one item; `()` for a number.
        unit: Unit inside the package; an empty string where there is none.
        transform: How it behaves under O(3): "0e" a scalar, "1o" a true vector, "1o x 1o" a true
            rank-2 tensor (both indices turn), "rows 1o" a matrix whose rows are vectors, or ""
            for labels that never turn.
        dtype: Storage type.
        meaning: One line for people.
    """

    name: str
    scope: Scope
    shape: tuple[int, ...]
    unit: str
    transform: str
    dtype: torch.dtype
    meaning: str

    @property
    def is_label(self) -> bool:
        """Whether the quantity can be a training target (and so can be missing)."""
        return self.name in LABELS


_f, _i, _b = torch.float64, torch.int64, torch.bool
_TABLE = (
    Field("z", "atom", (), "", "", _i, "atomic numbers"),
    Field("pos", "atom", (3,), "Å", "1o", _f, "positions"),
    Field("cell", "structure", (3, 3), "Å", "rows 1o", _f, "cell vectors as rows, 0 when none"),
    Field("pbc", "structure", (3,), "", "", _b, "periodic along each cell vector"),
    Field("charge", "structure", (), "e", "0e", _f, "total charge"),
    Field("spin", "structure", (), "", "0e", _i, "spin multiplicity 2S+1"),
    Field("external_field", "structure", (3,), "V/Å", "1o", _f, "applied electric field"),
    Field("frame", "structure", (), "", "", _i, "index in its data set"),
    Field("energy", "structure", (), "eV", "0e", _f, "potential energy"),
    Field("energies", "atom", (), "eV", "0e", _f, "energy of each atom"),
    Field("forces", "atom", (3,), "eV/Å", "1o", _f, "minus gradient of the energy"),
    Field("stress", "structure", (3, 3), "eV/Å^3", "1o x 1o", _f, "dE/dstrain / V, tension > 0"),
    Field("virial", "structure", (3, 3), "eV", "1o x 1o", _f, "minus dE/dstrain"),
    Field("dipole", "structure", (3,), "e*Å", "1o", _f, "electric dipole moment"),
    Field("polarizability", "structure", (3, 3), "e*Å^2/V", "1o x 1o", _f, "d dipole / d field"),
    Field("quadrupole", "structure", (3, 3), "e*Å^2", "1o x 1o", _f, "traceless, (3 M - tr M) / 2"),
    Field("second_moment", "structure", (3, 3), "e*Å^2", "1o x 1o", _f, "M = sum of charge d d^T"),
    Field("spatial_extent", "structure", (), "Å^2", "0e", _f, "<r^2> of the electrons"),
    Field("charges", "atom", (), "e", "0e", _f, "partial charges"),
    Field("shielding", "atom", (), "ppm", "0e", _f, "isotropic NMR shielding"),
    Field("edge_index", "edge", (), "", "", _i, "[2, E]: sender j, receiver i; sorted by i"),
    Field("shift", "edge", (3,), "", "", _i, "S in r_ij = x_j + S·cell - x_i"),
)
FIELDS: dict[str, Field] = {field.name: field for field in _TABLE}

LABELS: tuple[str, ...] = (
    "energy",
    "energies",
    "forces",
    "stress",
    "virial",
    "dipole",
    "polarizability",
    "quadrupole",
    "second_moment",
    "spatial_extent",
    "charges",
    "shielding",
)


def of_bonds(name: str) -> bool:
    """Whether a label is one of bonds: in rows of atoms, with a column for each slot of `bonds`.

    >>> of_bonds("bond_order"), of_bonds("bonds")
    (True, False)
    """
    return name.startswith(BOND_PREFIX)


def of_atoms(name: str, rows: int, num_atoms: int) -> bool:
    """Whether the rows of a quantity are atoms; names that are no field go by their number.

    >>> of_atoms("dipole", 3, 3), of_atoms("my_label", 3, 3)
    (False, True)
    """
    return FIELDS[name].scope == "atom" if name in FIELDS else rows == num_atoms


def mask_name(name: str) -> str:
    """Name of the boolean attribute that says where label `name` is present.

    >>> mask_name("forces")
    'forces_mask'
    """
    return f"{name}_mask"
