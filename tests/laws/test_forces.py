"""F = -dE/dx; the forces and torques of a whole sum to zero."""

import pytest
from hypothesis import given, settings

from dreibein.testing import assert_forces, assert_no_net_force, assert_no_torque
from laws import mutants
from laws.cases import CASES
from laws.structures import CELL, MOLECULE, NAMED, structures

ALL = pytest.mark.parametrize("case", CASES, ids=str)


@ALL
@pytest.mark.parametrize("structure", NAMED.values(), ids=NAMED)
def test_every_model_obeys(case, structure):
    assert_forces(case.build(), structure)


@ALL
@settings(max_examples=5)
@given(structure=structures)
def test_net_force_and_torque_vanish(case, structure):
    assert_no_net_force(case.build(), structure)
    if not structure.pbc.any():
        assert_no_torque(case.build(), structure)


@pytest.mark.parametrize("factor", [-1.0, 1.0 + 1e-5])
@pytest.mark.parametrize("structure", [MOLECULE, CELL], ids=["molecule", "cell"])
def test_wrong_sign_and_scale_are_caught(factor, structure):
    with pytest.raises(AssertionError, match="forces against differences"):
        assert_forces(mutants.replaced("forces", lambda f: factor * f), structure)


def test_forces_that_push_the_whole_are_caught():
    pushed = mutants.replaced("forces", lambda f: f + 1e-9)
    with pytest.raises(AssertionError, match="sum of the forces"):
        assert_no_net_force(pushed, MOLECULE)


def test_forces_that_spin_the_whole_are_caught():
    with pytest.raises(AssertionError, match="sum of the torques"):
        assert_no_torque(mutants.with_term(mutants.turned_axes), MOLECULE)


def test_crystals_have_no_torque():
    with pytest.raises(ValueError, match="no torque"):
        assert_no_torque(mutants.HEALTHY(), CELL)
