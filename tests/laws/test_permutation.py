"""The order of the atoms is no physics."""

import pytest
from hypothesis import given, settings

from dreibein.testing import assert_permutation
from laws import mutants
from laws.cases import CASES
from laws.structures import MOLECULE, seeds, structures

ALL = pytest.mark.parametrize("case", CASES, ids=str)


@ALL
@settings(max_examples=6)
@given(structure=structures, seed=seeds)
def test_every_model_obeys(case, structure, seed):
    assert_permutation(case.build(), structure, seed=seed)


def test_a_term_that_knows_the_index_is_caught():
    potential = mutants.with_term(lambda g: mutants.place_in_list(g) * g.z)
    with pytest.raises(AssertionError, match="energy under permutation"):
        assert_permutation(potential, MOLECULE, seed=1)


def test_forces_in_another_order_are_caught():
    rolled = mutants.changed(
        results=lambda found, s: found | {"forces": found["forces"].roll(1, 0)}
    )
    with pytest.raises(AssertionError, match="forces under permutation"):
        assert_permutation(rolled, MOLECULE, seed=1)
