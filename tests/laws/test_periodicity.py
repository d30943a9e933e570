"""A crystal is its lattice and atoms: supercells, images and other cells give the same."""

import pytest
from hypothesis import given, settings

from dreibein.systems.cells import heights, volume
from dreibein.testing import (
    assert_cell_choice,
    assert_lattice_translations,
    assert_supercell,
    sample_crystal,
    supercell,
)
from laws import mutants
from laws.cases import CASES, CUTOFF
from laws.structures import CELL, CRYSTALS, SLAB, WIDE_CELL, crystals, full, seeds

ALL = pytest.mark.parametrize("case", CASES, ids=str)


@ALL
@pytest.mark.parametrize("structure", CRYSTALS.values(), ids=CRYSTALS)
def test_supercell(case, structure):
    assert_supercell(case.build(), structure)


@ALL
@settings(max_examples=5)
@given(structure=crystals(), seed=seeds)
def test_lattice_translations(case, structure, seed):
    assert_lattice_translations(case.build(), structure, seed=seed)


@ALL
@settings(max_examples=5)
@given(structure=crystals(periodic=full))
def test_choice_of_cell(case, structure):
    assert_cell_choice(case.build(), structure)


def test_the_cells_are_smaller_than_the_cutoff():
    """The cases above reach an atom's own images; the wide cell does not."""
    assert float(heights(CELL.cell[0]).max()) < CUTOFF
    assert float(heights(WIDE_CELL.cell[0]).min()) > CUTOFF


@pytest.mark.parametrize("mutant", [mutants.nearest_image_only, mutants.without_shifts])
def test_missing_images_are_caught_in_small_cells(mutant):
    with pytest.raises(AssertionError, match="in a supercell"):
        assert_supercell(mutant(), CELL)


def test_the_minimum_image_suffices_in_wide_cells_alone():
    wide = sample_crystal((1, 6, 8), 3, size=3.5, seed=6)
    assert_supercell(mutants.nearest_image_only(), wide)


def test_forgotten_shifts_are_caught_by_moved_atoms():
    with pytest.raises(AssertionError, match="atoms in other cells"):
        assert_lattice_translations(mutants.without_shifts(), CELL)


def test_a_term_that_knows_the_cell_is_caught():
    def longer(healthy, structures, pos, cell):
        return healthy(structures, pos, cell) + 1e-6 * cell.norm(dim=(1, 2))[structures.batch]

    with pytest.raises(AssertionError, match="with another cell"):
        assert_cell_choice(mutants.changed(energies=longer), CELL)


def test_repeats_along_an_open_direction_are_refused():
    with pytest.raises(ValueError, match="not periodic"):
        supercell(SLAB, (1, 2, 1))


def test_supercell_counts():
    made = supercell(CELL, (2, 1, 3))
    assert len(made.z) == 6 * len(CELL.z)
    assert float(volume(made.cell)) == pytest.approx(6 * float(volume(CELL.cell)))
