"""virial = -dE/dstrain, stress = dE/dstrain / V; NaN without a volume."""

import pytest
import torch

from dreibein.testing import assert_virial_and_stress
from laws import mutants
from laws.cases import CASES
from laws.structures import CELL, MOLECULE, NAMED

ALL = pytest.mark.parametrize("case", CASES, ids=str)


@ALL
@pytest.mark.parametrize("structure", NAMED.values(), ids=NAMED)
def test_every_model_obeys(case, structure):
    assert_virial_and_stress(case.build(), structure)


@pytest.mark.parametrize("name", ["virial", "stress"])
@pytest.mark.parametrize("factor", [-1.0, 1.0 + 1e-5])
def test_wrong_sign_and_scale_are_caught(name, factor):
    with pytest.raises(AssertionError, match=f"{name} against differences"):
        assert_virial_and_stress(mutants.replaced(name, lambda x: factor * x), CELL)


def test_stress_without_shear_is_caught():
    diagonal = mutants.replaced("stress", lambda s: s.diagonal(dim1=1, dim2=2).diag_embed())
    with pytest.raises(AssertionError, match="stress against differences"):
        assert_virial_and_stress(diagonal, CELL)


def test_a_stress_without_a_volume_is_caught():
    made_up = mutants.replaced("stress", torch.zeros_like)
    with pytest.raises(AssertionError, match="must be NaN"):
        assert_virial_and_stress(made_up, MOLECULE)
