"""Under which names labels stand in files, best first, and the choice between several."""

import difflib
from collections.abc import Iterable

from dreibein.systems import FIELDS, LABELS

# Names in lower case, best first. "REF_" and "dft_" say outright that a value is a reference.
_STEMS: dict[str, tuple[str, ...]] = {
    "energy": ("energy", "total_energy", "potential_energy", "u0", "e", "free_energy"),
    "energies": ("energies", "atomic_energies", "energy_per_atom"),
    "forces": ("forces", "force", "f"),
    "stress": ("stress", "stresses"),
    "virial": ("virial", "virials"),
    "dipole": ("dipole", "dipoles", "dipole_moment"),
    "polarizability": ("polarizability", "polarizabilities"),
    "quadrupole": ("quadrupole", "quadrupole_moment"),
    "second_moment": ("second_moment",),
    "spatial_extent": ("spatial_extent", "electronic_spatial_extent"),
    "charges": ("charges", "partial_charges", "atomic_charges", "mulliken_charges"),
    "shielding": ("shielding", "shieldings", "nmr_shielding"),
    "external_field": ("external_field", "electric_field", "efield"),
}
_PREFIXES = ("ref_", "dft_", "qm_", "")
_NPZ_NAMES = {"energy": ("energies",)}  # in npz files `energies` is one number a frame

_ATOM_CHARGES = ("charge", "q")  # a column of atoms; in info `charge` is the total

NAMES: dict[str, tuple[str, ...]] = {
    label: tuple(prefix + stem for prefix in _PREFIXES for stem in stems)
    for label, stems in _STEMS.items()
}
CHARGE_NAMES = ("charge", "total_charge", "net_charge")
SPIN_NAMES = ("spin", "multiplicity", "spin_multiplicity")
CONFIG_NAMES = ("config_type", "group")
LEVEL_NAMES = frozenset({"level_of_theory"})

_CONVENTIONAL = frozenset(
    {name for names in NAMES.values() for name in names}
    | {*CHARGE_NAMES, *SPIN_NAMES, *_ATOM_CHARGES}
)


def is_conventional(low: str) -> bool:
    """Whether a key in lower case is one of the usual names of a label, charge or spin."""
    return low in _CONVENTIONAL


def usual_names(label: str, place: str) -> tuple[str, ...]:
    """Names of a label in one place of a file, best first, in lower case.

    >>> usual_names("forces", "info")[:2]
    ('ref_forces', 'ref_force')
    """
    names = NAMES.get(label, ())
    if label == "charges" and place == "arrays":
        return names + _ATOM_CHARGES
    if place == "npz":
        return names + _NPZ_NAMES.get(label, ()) if label != "energies" else names[-1:]
    return names


def nearest(word: str, choices: Iterable[str], number: int = 1, cutoff: float = 0.5) -> list[str]:
    """The choices most like `word`, whatever their case, best first.

    >>> nearest("REF_enrgy", ["forces", "ref_energy"])
    ['ref_energy']
    """
    by_low: dict[str, str] = {}
    for choice in choices:
        by_low.setdefault(choice.lower(), choice)
    found = difflib.get_close_matches(word.lower(), by_low, n=number, cutoff=cutoff)
    return [by_low[low] for low in found]


def check_label_names(names: Iterable[str], option: str, more: Iterable[str] = ()) -> None:
    """Refuse a label name that is a known one misspelt; other names are the user's own labels.

    Args:
        names: Names as the user wrote them.
        option: Where he wrote them.
        more: Further valid names.

    Raises:
        ValueError: A name is nearly, but not quite, a label.
    """
    known = [*LABELS, "external_field", "charge", "spin", "config_type", *more]
    for name in names:
        if name in known:
            continue
        close = nearest(name, known, cutoff=0.88)
        if close:
            raise ValueError(f"{option}: '{name}' is not a label; did you mean '{close[0]}'?")
        if name in FIELDS:
            raise ValueError(f"{option}: '{name}' is part of the geometry, not a label")
        if "index" in name or "batch" in name:
            raise ValueError(
                f"{option}: a label cannot be called '{name}', because PyTorch Geometric renumbers "
                "attributes with 'index' or 'batch' in their names"
            )
        if not name.isidentifier():
            raise ValueError(f"{option}: the label name '{name}' must be a plain word")
