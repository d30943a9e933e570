"""`broken_laws` names what a potential breaks, and what it only declared otherwise."""

from dreibein.nn import Potential
from dreibein.testing import broken_laws
from laws import mutants
from laws.cases import CASES, ELEMENTS


def test_a_healthy_potential_breaks_none():
    assert broken_laws(CASES[1].build(), ELEMENTS, seed=5) == {}


def test_a_chiral_potential_says_so():
    chiral = next(case for case in CASES if case.chiral).build()
    assert broken_laws(chiral, ELEMENTS, chiral=True) == {}
    assert set(broken_laws(chiral, ELEMENTS)) == {
        "reflection of a molecule",
        "reflection of a crystal",
    }


def test_a_mutant_is_described():
    found = broken_laws(mutants.with_term(mutants.crowd), ELEMENTS)
    assert set(found) == {"extensivity", "supercell"}
    assert "allowed" in found["extensivity"]


def test_errors_of_a_strangers_model_are_reported_not_raised():
    class Broken(Potential):
        def forward(self, structures, compute=("energy", "forces")):
            raise KeyError("no such weight")

    found = broken_laws(Broken(mutants.HEALTHY().network), ELEMENTS)
    assert found["rotation of a molecule"] == "KeyError: 'no such weight'"


def test_molecules_alone():
    found = broken_laws(mutants.without_shifts(), ELEMENTS, periodic=False)
    assert found == {}
