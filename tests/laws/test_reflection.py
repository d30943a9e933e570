"""E(Qx) = E(x) with det Q = -1; a chiral model says so and must differ."""

import pytest
from hypothesis import given, settings

from dreibein.testing import assert_chiral, assert_reflection, assert_rotation
from laws import mutants
from laws.cases import CASES
from laws.structures import MOLECULE, seeds, structures

ALL = pytest.mark.parametrize("case", CASES, ids=str)


@ALL
@settings(max_examples=8)
@given(structure=structures, seed=seeds)
def test_every_model_obeys_or_is_declared_chiral(case, structure, seed):
    if not case.chiral:
        assert_reflection(case.build(), structure, seed=seed)


@pytest.mark.parametrize("case", [c for c in CASES if c.chiral], ids=str)
def test_chiral_models_tell_mirror_images_apart(case):
    assert_chiral(case.build(), MOLECULE)
    with pytest.raises(AssertionError, match="energy under reflection"):
        assert_reflection(case.build(), MOLECULE)


def test_a_false_declaration_is_caught():
    with pytest.raises(AssertionError, match="mirror image: differs by"):
        assert_chiral(mutants.HEALTHY(), MOLECULE)


def test_a_pseudoscalar_is_caught_by_reflection_alone():
    mutant = mutants.with_term(mutants.handed)
    assert_rotation(mutant, MOLECULE)
    with pytest.raises(AssertionError, match="energy under reflection"):
        assert_reflection(mutant, MOLECULE)
