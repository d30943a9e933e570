"""Units told from magnitudes: total energies of atoms are known, so the unit of a sum shows."""

from dataclasses import dataclass

import numpy as np

from dreibein.data.table import Array, Table
from dreibein.systems.units import conversion_factor

# Total energies of the neutral atoms H to Kr in Ha, near the non-relativistic or Hartree-Fock
# limit; good to 0.5% for any all-electron method.
ATOM_TOTALS_HA = (
    0.0,
    *(-0.500, -2.904, -7.478, -14.667, -24.654, -37.845, -54.589, -75.067, -99.734, -128.938),
    *(-162.255, -200.053, -242.346, -289.359, -341.259, -398.110, -460.148, -527.540),
    *(-599.2, -676.8, -759.7, -848.4, -942.9, -1043.4, -1149.9, -1262.4, -1381.4, -1506.9),
    *(-1639.0, -1777.8, -1923.3, -2075.4, -2234.2, -2399.9, -2572.4, -2752.1),
)
_ENERGY_UNITS = ("eV", "Ha", "kcal/mol", "kJ/mol")
# A molecule's total energy exceeds the sum of its atoms' in size by the binding, 0.3 to 1.7%
# for molecules of several atoms (CH4 is near the top).
_RATIO_RANGE = (0.995, 1.02)

_FACTORS = {
    "eV taken for Ha or the reverse": 27.211386,
    "kcal/mol taken for eV or the reverse": 23.060548,
    "kJ/mol taken for eV or the reverse": 96.485332,
    "kcal/mol taken for Ha or the reverse": 627.509474,
    "kJ/mol taken for Ha or the reverse": 2625.499639,
}
_FACTOR_TOLERANCE = 0.005
# Below this energy per atom (eV) ratios of energies mean nothing (relative energies).
_MIN_PER_ATOM_EV = 1.0
# Force rms (eV/Å) outside of which a unit is doubtful.
_FORCE_RANGE = (1e-3, 30.0)


@dataclass(frozen=True)
class TotalsMatch:
    """Energies agree with sums of atomic total energies in a unit.

    Attributes:
        unit: That unit.
        ratio: Median of energy over sum of atoms.
        compositions: Number of different compositions that agree.
    """

    unit: str
    ratio: float
    compositions: int


def match_totals(energies: Array, counts: Array, elements: tuple[int, ...]) -> TotalsMatch | None:
    """The unit in which energies look like all-electron totals, or None.

    Args:
        energies: [F] in the unknown unit.
        counts: [F, elements] atoms of each element.
        elements: Atomic numbers of the columns.

    >>> match_totals(np.array([-76.4]), np.array([[2, 1]]), (1, 8)).unit
    'Ha'
    """
    if not len(energies) or max(elements) >= len(ATOM_TOTALS_HA):
        return None
    sums = counts @ np.array([ATOM_TOTALS_HA[z] for z in elements])
    several = counts.sum(1) > 1
    if not several.any():
        return None
    ratios = energies[several] / sums[several]
    for unit in _ENERGY_UNITS:
        scaled = ratios / conversion_factor("Ha", unit)
        inside = (scaled > _RATIO_RANGE[0]) & (scaled < _RATIO_RANGE[1])
        if inside.mean() > 0.9:
            kinds = len(np.unique(counts[several][inside], axis=0))
            return TotalsMatch(unit, float(np.median(scaled)), kinds)
    return None


def doubtful_totals(table: Table) -> str | None:
    """A sentence where energies, in eV by assumption, look like all-electron totals in Ha etc."""
    column = table.columns.get("energy")
    if column is None or not column.mask.any():
        return None
    counts, elements = table.compositions()
    known = column.mask
    match = match_totals(column.values[known], counts[known], elements)
    if match is None or match.unit == "eV":
        return None
    return (
        f"the energies are {match.ratio:.4f} times the sum of the atoms' total energies in "
        f"{match.unit}, so they are probably in {match.unit} and not in the unit assumed; "
        f"declare it: --unit energy={match.unit}"
    )


def mixed_energies(table: Table) -> tuple[str, list[int]] | None:
    """A sentence and frames where equal compositions differ by a unit's factor in energy."""
    column = table.columns.get("energy")
    if column is None:
        return None
    counts, _ = table.compositions()
    energies, sizes, known = column.values, table.sizes, column.mask
    _, group = np.unique(counts, axis=0, return_inverse=True)
    group = group.reshape(-1)
    odd: list[int] = []
    found: tuple[int, float, str] | None = None
    order = np.argsort(group[known], kind="stable")
    frames = np.flatnonzero(known)[order]
    for members in np.split(frames, np.flatnonzero(np.diff(group[frames])) + 1):
        if len(members) < 2:
            continue
        middle = np.partition(energies[members], (len(members) - 1) // 2)[(len(members) - 1) // 2]
        if abs(middle) < _MIN_PER_ATOM_EV * sizes[members[0]]:
            continue
        ratios = energies[members] / middle
        for name, factor in _FACTORS.items():
            for k in (factor, 1.0 / factor):
                hits = members[np.abs(ratios / k - 1.0) < _FACTOR_TOLERANCE]
                odd.extend(int(f) for f in hits)
                if len(hits) and found is None:
                    found = (int(hits[0]), k, name)
    if found is None:
        return None
    first, factor, name = found
    return (
        f"mixed units: {table.describe(first)} has {factor:.4g} times the usual energy of its "
        f"composition ({len(odd)} such frames; {name}); convert the parts apart with their own "
        "units (dreibein convert) and join them",
        sorted(odd),
    )


def doubtful_forces(table: Table) -> str | None:
    """A sentence where the force rms is not that of molecules or solids in eV/Å."""
    column = table.columns.get("forces")
    if column is None or not column.mask.any():
        return None
    rms = float(np.sqrt(np.mean(column.values[column.mask] ** 2)))
    if rms == 0.0 or _FORCE_RANGE[0] < rms < _FORCE_RANGE[1]:
        return None
    return (
        f"the force rms of {rms:.3g} eV/Å is unusual (expected {_FORCE_RANGE[0]:g} to "
        f"{_FORCE_RANGE[1]:g}); check the unit of the forces"
    )
