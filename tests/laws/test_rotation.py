"""E(Rx) = E(x), F(Rx) = R F(x), stress(Rx) = R stress(x) Rᵀ."""

import pytest
from hypothesis import given, settings

from dreibein.testing import assert_rotation
from laws import mutants
from laws.cases import CASES
from laws.structures import CELL, MOLECULE, seeds, structures

ALL = pytest.mark.parametrize("case", CASES, ids=str)


@ALL
@settings(max_examples=8)
@given(structure=structures, seed=seeds)
def test_every_model_obeys(case, structure, seed):
    assert_rotation(case.build(), structure, seed=seed)


@pytest.mark.parametrize("structure", [MOLECULE, CELL], ids=["molecule", "cell"])
def test_a_term_that_knows_the_axes_is_caught(structure):
    with pytest.raises(AssertionError, match=r"energy under rotation: .*, allowed"):
        assert_rotation(mutants.with_term(mutants.turned_axes), structure)


@pytest.mark.parametrize("name", ["forces", "stress"])
def test_results_that_do_not_turn_are_caught(name):
    def stretched(values):
        return values * values.new_tensor([1.0, 1.0, 1.0 + 1e-6])

    with pytest.raises(AssertionError, match=f"{name} under rotation"):
        assert_rotation(mutants.replaced(name, stretched), CELL)
