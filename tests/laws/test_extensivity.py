"""E(A + B) = E(A) + E(B) for molecules that do not see each other."""

import pytest
from hypothesis import given, settings

from dreibein.testing import assert_extensivity
from laws import mutants
from laws.cases import CASES
from laws.structures import ION, MOLECULE, molecules

ALL = pytest.mark.parametrize("case", [case for case in CASES if case.extensive], ids=str)


@ALL
@settings(max_examples=4)
@given(first=molecules(), second=molecules())
def test_every_model_obeys(case, first, second):
    assert_extensivity(case.build(), first, second)


def test_a_term_that_grows_faster_is_caught():
    with pytest.raises(AssertionError, match="two distant molecules"):
        assert_extensivity(mutants.with_term(mutants.crowd), MOLECULE, ION)


def test_a_lost_reference_energy_is_caught():
    lost = mutants.replaced("energy", lambda e: e + 1e-3)
    with pytest.raises(AssertionError, match="two distant molecules"):
        assert_extensivity(lost, MOLECULE, ION)
