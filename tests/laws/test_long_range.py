"""Long-range terms obey the laws too, each on the structures that it is defined for."""

import pytest
import torch
from hypothesis import given, settings

from dreibein.models import TensorNetConfig, build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.systems import make_structure
from dreibein.testing import (
    assert_forces,
    assert_hessian,
    assert_permutation,
    assert_rotation,
    assert_supercell,
    assert_translation,
    assert_virial_and_stress,
)
from laws.cases import ELEMENTS, tensornet
from laws.structures import CELL, CHARGED_CELL, MOLECULE, crystals, full, molecules

CHARGES = {"H": 0.4, "C": 0.1, "O": -0.7}
EWALD = {"term": "coulomb", "method": "ewald", "cutoff": 5.0, "accuracy": 1e-15}
DIRECT = {"term": "coulomb", "damping": 2.0}
PERIODIC = {
    "given charges": tensornet(layers=0, terms=[EWALD | {"charges": CHARGES}]),
    "predicted charges": tensornet(layers=1, charge_channels=2, terms=[EWALD]),
}
MOLECULAR = {
    "given charges": tensornet(layers=0, terms=[DIRECT | {"charges": CHARGES}]),
    "predicted charges": tensornet(layers=1, charge_channels=2, terms=[DIRECT]),
}


@pytest.mark.parametrize("build", PERIODIC.values(), ids=PERIODIC)
def test_ewald_sums_obey(build):
    potential = build()
    for cell in (CELL, CHARGED_CELL):
        assert_forces(potential, cell)
        assert_virial_and_stress(potential, cell)
    assert_supercell(potential, CELL, tolerance=1e-11, force_tolerance=1e-9)
    assert_hessian(potential, CELL)


@settings(max_examples=3)
@given(structure=crystals(periodic=full))
@pytest.mark.parametrize("build", PERIODIC.values(), ids=PERIODIC)
def test_ewald_sums_are_invariant(build, structure):
    assert_rotation(build(), structure)
    assert_translation(build(), structure)
    assert_permutation(build(), structure)


@settings(max_examples=3)
@given(structure=molecules())
@pytest.mark.parametrize("build", MOLECULAR.values(), ids=MOLECULAR)
def test_direct_sums_obey(build, structure):
    potential = build()
    assert_rotation(potential, structure)
    assert_translation(potential, structure)
    assert_permutation(potential, structure)
    assert_forces(potential, structure)


@pytest.mark.parametrize("build", MOLECULAR.values(), ids=MOLECULAR)
def test_curvatures_of_direct_sums(build):
    assert_hessian(build(), MOLECULE)


def test_one_ion_in_its_own_states():
    """Charge and spin tell apart what has the same atoms; a neutral singlet hears neither."""
    plain, heard = (
        build_potential(
            TensorNetConfig(channels=8, num_radial=4, charge_embedding=on, spin_embedding=on),
            elements=ELEMENTS,
            dtype=torch.float64,
        )
        for on in (False, True)
    )
    heard.network.load_state_dict(plain.network.state_dict(), strict=False)

    def energy(potential, charge, spin):
        atom = make_structure([8], [[0.0, 0.0, 0.0]], charge=charge, spin=spin)
        return float(potential(attach_neighbors(atom, potential.cutoff))["energy"])

    assert energy(heard, 0.0, 1) == energy(plain, 0.0, 1)
    states = [energy(heard, charge, spin) for charge in (-1.0, 0.0, 1.0) for spin in (1, 2, 3)]
    assert len({round(e, 9) for e in states}) == 9
    near = energy(heard, 1e-6, 1) - energy(heard, 0.0, 1)
    nearer = energy(heard, 1e-7, 1) - energy(heard, 0.0, 1)
    assert near == pytest.approx(10.0 * nearer, rel=1e-4)
