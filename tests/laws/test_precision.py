"""float32 lies within a stated distance of float64, wherever the structure stands."""

import pytest
import torch
from hypothesis import given, settings

from dreibein.models import TensorNetConfig, build_potential
from dreibein.testing import assert_far_from_origin, assert_float32_is_near_float64, sample_crystal
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


@pytest.mark.parametrize("seed", [79, 149, 292])
def test_the_place_in_a_batch_is_not_the_place_in_space(seed):
    """Networks whose forces nearly cancel, so that rounding of a batch's rows shows."""
    torch.manual_seed(seed)
    config = TensorNetConfig(channels=4, layers=1, num_radial=4, cutoff=3.0)
    potential = build_potential(config, elements=(1, 8))
    assert_far_from_origin(potential, sample_crystal((1, 8), 2, seed=0))


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
