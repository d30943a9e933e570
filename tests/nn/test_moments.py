"""Moments: of point charges exactly, about the center of mass, refused in cells."""

import pytest
import torch

from dreibein.models import TensorNetConfig, build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.nn import heads
from dreibein.nn.moments import (
    EXTENT,
    from_center,
    known_extent,
    moments_of_atoms,
    neutralized,
    traceless,
)
from dreibein.systems import make_structure
from dreibein.testing import sample_crystal, sample_molecule

NAMES = ("quadrupole", "second_moment", "spatial_extent")
SIZES = {"channels": 6, "layers": 1, "num_radial": 6, "cutoff": 3.5}


@pytest.fixture(scope="module")
def potential():
    torch.manual_seed(1)
    config = TensorNetConfig(**SIZES, targets={name: {"channels": 4} for name in NAMES})
    return build_potential(config, elements=(1, 6, 8), dtype=torch.float64)


def molecule(**options):
    sample = sample_molecule((1, 6, 8), 6, seed=0)
    made = make_structure(sample.z, options.pop("pos", sample.pos), **options)
    return attach_neighbors(made, SIZES["cutoff"])


def test_moments_of_a_linear_molecule_of_charges():
    """O=C=O with charges -q, 2q, -q at distance r: M_zz = -2 q r^2 = Theta_zz, others -half."""
    charge, r = 0.3, 1.16
    places = r * torch.tensor([[0.0, 0, -1], [0, 0, 0], [0, 0, 1]]).double()
    charges = charge * torch.tensor([-1.0, 2.0, -1.0]).double()
    none = torch.zeros(3, 3).double()
    second = moments_of_atoms("second_moment", charges, none, places).sum(0)
    wanted = -2.0 * charge * r**2
    torch.testing.assert_close(second, torch.diag(torch.tensor([0.0, 0.0, wanted])).double())
    quadrupole = moments_of_atoms("quadrupole", charges, none, places).sum(0)
    diagonal = torch.tensor([-0.5 * wanted, -0.5 * wanted, wanted]).double()
    torch.testing.assert_close(quadrupole, torch.diag(diagonal))
    torch.testing.assert_close(traceless(second), quadrupole)


def test_dipoles_of_atoms_are_pairs_of_charges():
    """A dipole mu at d is a pair of charges at d +- e/2: moments agree in the limit."""
    generator = torch.Generator().manual_seed(3)
    places, vectors = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    step = 1e-4
    apart = step * vectors / vectors.norm(dim=1, keepdim=True)
    pair = torch.cat([places + apart / 2, places - apart / 2])
    q = vectors.norm(dim=1) / step
    q, none = torch.cat([q, -q]), torch.zeros(8, 3).double()
    for name in NAMES:
        nothing = torch.zeros(4).double()
        found = moments_of_atoms(name, nothing, vectors, places).sum(0)
        torch.testing.assert_close(
            found, moments_of_atoms(name, q, none, pair).sum(0), rtol=0, atol=1e-6
        )


def test_moments_are_about_the_center_of_mass(potential):
    step = torch.tensor([30.0, -7.0, 11.0], dtype=torch.float64)
    for charge in (0.0, 1.0):
        here = molecule(charge=charge)
        found = potential(here, compute=NAMES)
        moved = potential(molecule(pos=here.pos + step, charge=charge), compute=NAMES)
        for name in NAMES:
            torch.testing.assert_close(moved[name], found[name], rtol=1e-11, atol=1e-11)


def test_an_origin_elsewhere_is_caught(potential, monkeypatch):
    monkeypatch.setattr(heads, "from_center", lambda masses, pos, *rest: pos)
    ion = molecule(charge=1.0)
    moved = molecule(pos=ion.pos + 1.0, charge=1.0)
    for name in NAMES:
        found = [potential(s, compute=(name,))[name] for s in (ion, moved)]
        assert float((found[0] - found[1]).abs().max()) > 0.1


def test_the_quadrupole_has_no_trace_and_both_are_symmetric(potential):
    found = potential(molecule(), compute=NAMES)
    trace = found["quadrupole"].diagonal(dim1=1, dim2=2).sum(1)
    assert float(trace.abs().max()) < 1e-12
    for name in ("quadrupole", "second_moment"):
        torch.testing.assert_close(found[name], found[name].mT)


def test_electrons_add_up_and_those_of_neutral_atoms_are_known(potential):
    structure = molecule()
    batch = torch.zeros(6, dtype=torch.int64)
    head = potential.targets[EXTENT]
    places = from_center(head.masses[structure.z], structure.pos, batch, 1)
    shares = torch.tensor([0.5, -0.2, 0.1, 0.0, 0.3, 0.2]).double()
    for charge in (0.0, 1.0):
        electrons = neutralized(shares, torch.tensor([-charge]), batch, 1)
        assert float(electrons.sum()) == pytest.approx(-charge, abs=1e-14)
    features = torch.zeros(6, 9, 6, dtype=torch.float64)
    head.readout.scalars.weight.data.zero_(), head.readout.scalars.bias.data.zero_()
    found = head(features, structure, structure.pos).detach()
    assert float(found) == pytest.approx(float(known_extent(structure.z, places).sum()))


def test_cells_have_no_such_moments(potential):
    crystal = attach_neighbors(sample_crystal((1, 6, 8), 4), SIZES["cutoff"])
    for name in NAMES:
        with pytest.raises(ValueError, match=f"no sum in a periodic cell: leave {name} out"):
            potential(crystal, compute=(name,))
