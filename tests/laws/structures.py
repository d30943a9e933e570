"""Structures that the laws are tried on: a few by name, the others drawn by hypothesis."""

from hypothesis import strategies as st

from dreibein.testing import sample_crystal, sample_molecule
from laws.cases import ELEMENTS

MOLECULE = sample_molecule(ELEMENTS, 5, seed=1)
ION = sample_molecule(ELEMENTS, 4, charge=-1.0, seed=2)
CELL = sample_crystal(ELEMENTS, 2, seed=3)  # every atom sees its own images
CHARGED_CELL = sample_crystal(ELEMENTS, 2, seed=4)
CHARGED_CELL.charge += 1.0
SLAB = sample_crystal(ELEMENTS, 3, pbc=(True, False, True), seed=5)
WIDE_CELL = sample_crystal(ELEMENTS, 3, size=2.5, seed=6)  # wider than twice the cutoff

NAMED = {
    "molecule": MOLECULE,
    "ion": ION,
    "cell": CELL,
    "charged-cell": CHARGED_CELL,
    "slab": SLAB,
}
CRYSTALS = {"cell": CELL, "slab": SLAB, "wide-cell": WIDE_CELL}

seeds = st.integers(0, 2**31 - 1)


@st.composite
def molecules(draw, max_atoms=8):
    """Neutral and charged molecules of 1 atom and more."""
    return sample_molecule(
        ELEMENTS,
        draw(st.integers(1, max_atoms)),
        charge=draw(st.sampled_from([0.0, 1.0, -2.0])),
        seed=draw(seeds),
    )


full = st.just((True, True, True))
some = st.tuples(st.booleans(), st.booleans(), st.booleans())


@st.composite
def crystals(draw, max_atoms=3, periodic=some):
    """Skewed cells, most of them smaller than the cutoff, periodic in some directions."""
    return sample_crystal(
        ELEMENTS,
        draw(st.integers(1, max_atoms)),
        pbc=draw(periodic),
        size=draw(st.sampled_from([1.0, 1.6])),
        seed=draw(seeds),
    )


structures = molecules() | crystals()
