"""D4: the library's energies, its derivatives through autograd, and what is refused."""

import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from pydantic import ValidationError

from dreibein.models import TensorNetConfig, build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.nn.terms import DispersionD4, DispersionD4Config, surroundings
from dreibein.systems import from_ase, join, make_structure
from dreibein.testing import sample_molecule
from dreibein.testing.derivatives import assert_forces, assert_virial_and_stress

ELEMENTS = (1, 6, 8)
D4 = {"term": "dispersion_d4", "functional": "pbe"}
interface = pytest.importorskip("dftd4.interface", reason='needs pip install "dreibein[d4]"')


def with_terms(*terms):
    config = TensorNetConfig(channels=8, num_radial=6, cutoff=3.5, layers=1, terms=terms)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build_potential(config, elements=ELEMENTS, scale=1.5, dtype=torch.float64)


def energies(term, structure):
    near = attach_neighbors(structure, 1.0)
    return term(surroundings(near, near.pos, near.cell))


@pytest.mark.parametrize("periodic", [False, True])
def test_dispersion_d4_is_that_of_its_library(periodic):
    """Energies of an ethanol and, in a cell, of one with a charge; parameters by name or given."""
    atoms = molecule("CH3CH2OH")
    cell = ()
    if periodic:
        atoms.set_cell([[7.0, 0.0, 0.0], [0.5, 7.0, 0.0], [0.2, 0.3, 7.0]])
        atoms.pbc = True
        cell = (atoms.cell[:] / units.Bohr, np.array([True] * 3))
    atoms.info["charge"] = 1.0
    model = interface.DispersionModel(atoms.numbers, atoms.positions / units.Bohr, 1.0, *cell)
    damping = interface.DampingParam(method="pbe")
    expected = model.get_dispersion(damping, grad=False)["energy"] * units.Hartree
    term = DispersionD4(DispersionD4Config(functional="pbe"), ELEMENTS)
    found = energies(term, from_ase(atoms))
    assert found.shape == (9,)
    assert float(found.sum()) == pytest.approx(expected, abs=1e-12)
    given = dict(zip(("s6", "s8", "a1", "a2"), term.damping.tolist(), strict=True))
    pairs = DispersionD4(DispersionD4Config(damping=given, three_body=0.0), ELEMENTS)
    assert 1e-6 < abs(float(energies(pairs, from_ase(atoms)).sum()) - expected) < 1e-2


def test_derivatives_of_dispersion_d4():
    """Forces and stress from the library's gradient, the Hessian from differences of it."""
    potential = with_terms(D4 | {"three_body": 0.0})
    trio = sample_molecule((6, 8), 3, seed=2)
    cell = 6.0 * torch.eye(3, dtype=torch.float64) + 0.3
    crystal = make_structure(trio.z, trio.pos, cell=cell)
    assert_forces(potential, crystal, tolerance=1e-8)
    # the library ends its sums at 60 Bohr without a switch: strained images jump in and out
    assert_virial_and_stress(potential, crystal, tolerance=1e-3)
    near = attach_neighbors(trio, potential.cutoff)
    hessian = potential(near, ("hessian",))["hessian"].flatten(0, 1).flatten(1)
    torch.testing.assert_close(hessian, hessian.T, rtol=0, atol=1e-5)
    step, rows = 1e-4, []
    for sign in (1.0, -1.0):
        moved = trio.clone()
        moved.pos = trio.pos.clone()
        moved.pos[1, 2] += sign * step
        rows.append(potential(attach_neighbors(moved, potential.cutoff))["forces"].flatten())
    torch.testing.assert_close(hessian[5], (rows[1] - rows[0]) / (2 * step), rtol=0, atol=1e-5)
    single = [near, attach_neighbors(crystal, potential.cutoff)]
    together = potential(join(single))["energy"]
    for k, structure in enumerate(single):
        assert float(potential(structure)["energy"]) == pytest.approx(float(together[k]))


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ({"term": "dispersion_d4"}, "either a functional or its damping"),
        ({"term": "dispersion_d4", "functional": "hf9"}, "no parameters of the functional 'hf9'"),
        ({"term": "dispersion_d4", "damping": {"s6": 1.0}}, "needs s6, s8, a1, a2"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(term, said):
    with pytest.raises((ValueError, ValidationError), match=said):
        with_terms(term)
