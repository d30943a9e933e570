"""One atom, no neighbors, coincident atoms, symmetric sites, tiny cells: finite numbers."""

import pytest
import torch

from dreibein.systems import make_structure
from dreibein.testing import (
    assert_deterministic,
    assert_edge_cases_are_finite,
    assert_finite,
    edge_cases,
)
from dreibein.testing.probing import predict
from laws import mutants
from laws.cases import CASES, ELEMENTS
from laws.structures import CELL, MOLECULE

ALL = pytest.mark.parametrize("case", CASES, ids=str)


@ALL
@pytest.mark.parametrize("name", edge_cases(ELEMENTS))
def test_every_model_stays_finite(case, name):
    if name == "coincident atoms" and not case.finite:
        with pytest.raises(AssertionError, match="energy: 1 of 1 values are not finite"):
            assert_finite(case.build(), edge_cases(ELEMENTS)[name])
    else:
        assert_finite(case.build(), edge_cases(ELEMENTS)[name])


@ALL
def test_an_isolated_atom_feels_nothing(case):
    found = predict(case.build(), [edge_cases(ELEMENTS)["one atom"]], ("forces", "virial"))[0]
    assert found["forces"].abs().max() == 0.0
    assert found["virial"].abs().max() == 0.0


@ALL
def test_a_structure_without_atoms_has_no_energy(case):
    """Also between others in a batch."""
    empty = make_structure([], torch.zeros(0, 3))
    compute = ("energy", "forces")
    alone, first, nothing, last = predict(case.build(), [empty], compute) + predict(
        case.build(), [MOLECULE, empty, CELL], compute
    )
    assert float(alone["energy"]) == float(nothing["energy"]) == 0.0
    assert alone["forces"].shape == nothing["forces"].shape == (0, 3)
    assert len(first["forces"]) == len(MOLECULE.z)
    assert len(last["forces"]) == len(CELL.z)


def test_infinite_energies_are_caught():
    with pytest.raises(AssertionError, match=r"coincident atoms: energy: .* not finite"):
        assert_edge_cases_are_finite(mutants.with_term(mutants.undefined_at_zero), ELEMENTS)


def test_an_unknown_element_is_not_finite():
    """NaN, never a number: `check` says why."""
    unknown = make_structure([1, 92], torch.tensor([[0.0, 0, 0], [0, 0, 1.2]]))
    with pytest.raises(AssertionError, match="not finite"):
        assert_finite(CASES[0].build(), unknown)


@ALL
def test_every_model_is_deterministic(case):
    assert_deterministic(case.build(), MOLECULE)
    assert_deterministic(case.build(), CELL)


def test_noise_is_caught():
    with pytest.raises(AssertionError, match="differs between two calls"):
        assert_deterministic(mutants.with_term(mutants.noise, size=1e-12), MOLECULE)
