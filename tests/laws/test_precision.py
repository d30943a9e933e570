"""float32 lies within a stated distance of float64, wherever the structure stands."""

import pytest
import torch
from hypothesis import given, settings

from dreibein.testing import assert_far_from_origin, assert_float32_is_near_float64
from laws import mutants
from laws.cases import CASES
from laws.structures import CELL, MOLECULE, structures

ALL = pytest.mark.parametrize("case", CASES, ids=str)


@ALL
@settings(max_examples=5)
@given(structure=structures)
def test_float32_is_near_float64(case, structure):
    assert_float32_is_near_float64(case.build(), structure)


@ALL
@settings(max_examples=3)
@given(structure=structures)
def test_results_do_not_depend_on_the_place(case, structure):
    assert_far_from_origin(case.build(), structure)


def test_lost_digits_are_caught():
    mutant = mutants.with_term(mutants.steep, size=1.0)
    with pytest.raises(AssertionError, match="in float32 against float64"):
        assert_float32_is_near_float64(mutant, MOLECULE)


@pytest.mark.parametrize("structure", [MOLECULE, CELL], ids=["molecule", "cell"])
def test_edges_formed_in_float32_are_caught(structure):
    with pytest.raises(AssertionError, match="in float32, 1000 Å away"):
        assert_far_from_origin(mutants.edges_in_float32(), structure)


def test_the_potential_itself_is_not_converted():
    potential = CASES[1].build()
    assert_float32_is_near_float64(potential, MOLECULE)
    assert_far_from_origin(potential, MOLECULE)
    assert potential.dtype == torch.float64
