"""H = -dF/dx = Hᵀ."""

import pytest

from dreibein.testing import assert_forces, assert_hessian
from laws import mutants
from laws.cases import CASES
from laws.structures import CELL, MOLECULE

ALL = pytest.mark.parametrize("case", CASES, ids=str)


@ALL
@pytest.mark.parametrize("structure", [MOLECULE, CELL], ids=["molecule", "cell"])
def test_every_model_obeys(case, structure):
    assert_hessian(case.build(), structure)


def test_a_missing_second_derivative_is_caught():
    mutant = mutants.with_term(mutants.once_differentiable, size=1e-3)
    assert_forces(mutant, MOLECULE)
    with pytest.raises(AssertionError, match="Hessian against differences"):
        assert_hessian(mutant, MOLECULE)


def test_an_asymmetric_hessian_is_caught():
    def skewed(hessian):
        hessian[0, 0, 1, 1] += 1e-6
        return hessian

    with pytest.raises(AssertionError, match="not symmetric"):
        assert_hessian(mutants.replaced("hessian", skewed), MOLECULE)
