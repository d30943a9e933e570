"""Which atoms are bonded, and whether that has changed."""

from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

Bond = tuple[int, int, int, int, int]

# Fractions of the sum of covalent radii. A bond is one that is shorter than 1.25 at the start; it
# is broken beyond 1.5, and a new one is made below 1.15: what vibrates in between counts as before.
_BONDED, _BROKEN, _FORMED = 1.25, 1.5, 1.15


def bonds(atoms: Atoms, stretch: float = _BONDED) -> frozenset[Bond]:
    """Pairs nearer than `stretch` times the sum of their covalent radii, with their cell shift.

    >>> from ase.build import molecule
    >>> len(bonds(molecule("CH3CH2OH")))
    8
    """
    first, second, shift = neighbor_list(
        "ijS", atoms, cutoff=list(stretch * covalent_radii[atoms.numbers])
    )
    return frozenset(
        (int(i), int(j), int(s[0]), int(s[1]), int(s[2]))
        for i, j, s in zip(first, second, shift)
        if (i, j, *s) <= (j, i, *-s)
    )


def bonds_changed(atoms: Atoms, start: frozenset[Bond]) -> bool:
    """Whether a bond of the start is broken or another one is made.

    Args:
        atoms: Structure now; its positions are not wrapped into the cell.
        start: `bonds` of the structure at the start.
    """
    return not start <= bonds(atoms, _BROKEN) or not bonds(atoms, _FORMED) <= start
