"""E(x + t) = E(x)."""

import pytest
from hypothesis import given, settings

from dreibein.testing import assert_translation
from laws import mutants
from laws.cases import CASES
from laws.structures import MOLECULE, seeds, structures

ALL = pytest.mark.parametrize("case", CASES, ids=str)


@ALL
@settings(max_examples=6)
@given(structure=structures, seed=seeds)
def test_every_model_obeys(case, structure, seed):
    assert_translation(case.build(), structure, seed=seed)


def test_a_term_that_knows_the_origin_is_caught():
    with pytest.raises(AssertionError, match="energy under translation"):
        assert_translation(mutants.anchored(), MOLECULE)
