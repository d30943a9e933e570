"""A structure's results do not depend on its company or on their order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreibein.testing import assert_batch_equals_single, assert_order_of_structures, sample_molecule
from laws import mutants
from laws.cases import CASES, ELEMENTS
from laws.structures import CELL, ION, MOLECULE, SLAB, structures

ALL = pytest.mark.parametrize("case", CASES, ids=str)


MIXED = [MOLECULE, CELL, sample_molecule(ELEMENTS, 1), SLAB, ION]


@ALL
def test_batch_equals_one_by_one(case):
    assert_batch_equals_single(case.build(), MIXED)


@ALL
def test_order_of_structures(case):
    assert_order_of_structures(case.build(), MIXED, seed=3)


@settings(max_examples=10)
@given(batch=st.lists(structures, min_size=1, max_size=4))
def test_any_batch(batch):
    assert_batch_equals_single(CASES[2].build(), batch)


def test_a_term_that_counts_structures_is_caught():
    with pytest.raises(AssertionError, match="energy in a batch and alone"):
        assert_batch_equals_single(mutants.with_term(mutants.company), MIXED)


def test_a_charge_that_leaks_is_caught():
    leak = mutants.with_term(lambda g: g.charge.sum().expand(g.num_atoms))
    with pytest.raises(AssertionError, match="in a batch and alone"):
        assert_batch_equals_single(leak, MIXED)


def test_a_term_that_knows_the_place_in_the_batch_is_caught():
    placed = mutants.with_term(lambda g: g.batch.to(g.vectors.dtype))
    with pytest.raises(AssertionError, match="another order"):
        assert_order_of_structures(placed, MIXED, seed=3)
