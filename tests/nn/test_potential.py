"""What surrounds a network: references, precision, names, refusals."""

import copy
import math

import pytest
import torch
from torch import nn

from dreibein.models import TensorNetConfig, build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.nn import Potential, hessian
from dreibein.nn.derivatives import gradients, stress_from_strain_gradient
from dreibein.systems import join, make_structure
from dreibein.testing import sample_crystal, sample_molecule

REFERENCES = {1: -13.6057, 8: -2041.25}
CUTOFF = 3.0


class Springs(nn.Module):
    """E_i = sum_j k (|r_ij|^2 - cutoff^2)^2 / 4: known derivatives."""

    def __init__(self, stiffness=0.5):
        super().__init__()
        self.cutoff, self.elements, self.config = CUTOFF, (1, 8), None
        self.stiffness = nn.Parameter(torch.tensor(stiffness))

    def forward(self, graph):
        square = (graph.vectors**2).sum(-1) - self.cutoff**2
        energy = self.stiffness * square**2 / 4.0
        return energy.new_zeros(graph.num_atoms).index_add(0, graph.receiver, energy)


def springs(**options) -> Potential:
    return Potential(Springs(), **options).double().eval()


def dimer(distance=1.5, **options):
    pos = torch.tensor([[0.0, 0, 0], [0, 0, distance]], dtype=torch.float64)
    return attach_neighbors(make_structure([1, 8], pos, **options), CUTOFF)


@pytest.fixture(scope="module")
def potential():
    torch.manual_seed(0)
    config = TensorNetConfig(channels=4, layers=1, num_radial=4, cutoff=CUTOFF)
    return build_potential(
        config, elements=(1, 8), reference_energies=REFERENCES, scale=0.7, dtype=torch.float32
    )


def test_closed_form_of_energy_forces_virial_and_hessian():
    r, k = 1.5, 0.5
    found = springs()(dimer(r), compute=("energy", "energies", "forces", "virial", "hessian"))
    square = r**2 - CUTOFF**2
    assert float(found["energy"]) == pytest.approx(2 * k * square**2 / 4, rel=1e-14)
    assert found["energies"].tolist() == pytest.approx([k * square**2 / 4] * 2, rel=1e-14)
    slope = 2 * k * square * r  # dE/dr
    assert found["forces"][:, 2].tolist() == pytest.approx([slope, -slope], rel=1e-14)
    assert float(found["virial"][0, 2, 2]) == pytest.approx(-slope * r, rel=1e-14)
    curvature = 2 * k * (3 * r**2 - CUTOFF**2)
    assert float(found["hessian"][1, 2, 1, 2]) == pytest.approx(curvature, rel=1e-13)
    assert float(found["hessian"][0, 2, 1, 2]) == pytest.approx(-curvature, rel=1e-13)


def test_stress_is_minus_virial_over_volume():
    crystal = attach_neighbors(sample_crystal((1, 8), 2, seed=1), CUTOFF)
    found = springs()(crystal, compute=("stress", "virial"))
    size = float(torch.linalg.det(crystal.cell[0]).abs())
    assert torch.allclose(found["stress"], -found["virial"] / size, rtol=1e-14)


def test_a_repulsive_crystal_has_negative_stress():
    """Tension is positive: what wants to expand is under compression, as in ASE."""
    crystal = attach_neighbors(make_structure([1], torch.zeros(1, 3), cell=[2.0] * 3), CUTOFF)
    repulsive = Potential(Springs(stiffness=1.0)).double().eval()  # falls with the distance
    stress = repulsive(crystal, compute=("stress",))["stress"][0]
    assert (stress.diagonal() < 0).all()


def test_references_and_scale_enter_in_float64():
    plain = springs()(dimer(), compute=("energy",))["energy"]
    full = springs(reference_energies=REFERENCES, scale=3.0)(dimer(), compute=("energy",))["energy"]
    assert float(full) == pytest.approx(sum(REFERENCES.values()) + 3.0 * float(plain), rel=1e-15)


def test_elements_without_a_reference_count_as_zero():
    assert springs(reference_energies={8: -1.0}).reference_energies == {1: 0.0, 8: -1.0}


@pytest.mark.parametrize("convert", [lambda p: p.float(), lambda p: p.to(torch.float32)])
def test_precision_is_the_networks_and_references_stay_exact(convert):
    single = convert(springs(reference_energies=REFERENCES, scale=math.pi))
    assert single.dtype == torch.float32
    assert single.network.stiffness.dtype == torch.float32
    assert single.reference.dtype == single.scale.dtype == torch.float64
    assert single.reference_energies == REFERENCES
    assert float(single.scale) == math.pi
    assert single(dimer(), compute=("energy",))["energy"].dtype == torch.float64
    again = single.double()
    assert again.dtype == torch.float64
    assert again.reference_energies == REFERENCES


def test_a_trip_through_half_precision_leaves_references_exact():
    assert copy.deepcopy(
        springs(reference_energies=REFERENCES)
    ).half().double().reference_energies == (REFERENCES)


def test_float32_energies_are_summed_in_float64(potential):
    """A million electronvolts of references cost the network no digit."""
    heavy = copy.deepcopy(potential)
    heavy.reference[1] -= 1e6
    heavy.reference[8] -= 1e6
    found, shifted = (p(dimer(), compute=("energy",))["energy"] for p in (potential, heavy))
    assert float(shifted - found) == pytest.approx(-2e6, abs=1e-8)


@pytest.mark.parametrize(
    "compute",
    [("energy",), ("forces",), ("stress", "energies"), ("hessian",), (), ["energy", "energy"]],
)
def test_exactly_what_was_asked_for_comes_back(potential, compute):
    crystal = attach_neighbors(sample_crystal((1, 8), 2, seed=1), CUTOFF)
    assert set(potential(crystal, compute=compute)) == set(compute)


def test_every_result_is_float64(potential):
    crystal = attach_neighbors(sample_crystal((1, 8), 2, seed=1), CUTOFF)
    names = ("energy", "energies", "forces", "stress", "virial", "hessian")
    found = potential(crystal, compute=names)
    assert {v.dtype for v in found.values()} == {torch.float64}
    shapes = [tuple(found[name].shape) for name in names]
    assert shapes == [(1,), (2,), (2, 3), (1, 3, 3), (1, 3, 3), (2, 3, 2, 3)]


def test_unknown_names_are_refused(potential):
    with pytest.raises(ValueError, match=r"cannot compute enrgy, force; choose from energy, ener"):
        potential(dimer(), compute=("enrgy", "force"))


def test_hessians_of_several_structures_stand_below_each_other(potential):
    small = dimer()
    large = attach_neighbors(sample_crystal((1, 8), 3, seed=1), CUTOFF)
    both = potential(join([small, large]), compute=("hessian",))["hessian"]
    assert both.shape == (5, 3, 3, 3)
    alone = [potential(s, compute=("hessian",))["hessian"] for s in (small, large)]
    torch.testing.assert_close(both[:2, :, :2], alone[0])
    torch.testing.assert_close(both[2:], alone[1])
    assert not both[:2, :, 2:].any()


def test_a_missing_neighbor_list_is_refused(potential):
    with pytest.raises(ValueError, match="carries no neighbor list"):
        potential(make_structure([1], torch.zeros(1, 3)))


def test_unknown_elements_give_nan_and_check_names_them(potential):
    stranger = make_structure([1, 26, 92], torch.eye(3))
    found = potential(attach_neighbors(stranger, CUTOFF), compute=("energy", "energies"))
    assert found["energy"].isnan().all()
    assert found["energies"].isnan().tolist() == [False, True, True]
    with pytest.raises(ValueError, match="does not know Fe, U; it was trained on H, O"):
        potential.check(stranger)
    potential.check(dimer())
    potential.check(make_structure([], torch.zeros(0, 3)))


def test_one_stranger_spoils_its_own_structure_alone(potential):
    good, bad = dimer(), attach_neighbors(make_structure([26], torch.zeros(1, 3)), CUTOFF)
    assert potential(join([good, bad]))["energy"].isnan().tolist() == [False, True]


def test_stress_of_molecules_and_slabs_is_nan_and_spoils_no_gradient():
    slab = attach_neighbors(sample_crystal((1, 8), 2, pbc=(True, True, False), seed=1), CUTOFF)
    crystal = attach_neighbors(sample_crystal((1, 8), 2, seed=1), CUTOFF)
    trained = springs().train()
    found = trained(join([slab, crystal, dimer()]), compute=("stress",))["stress"]
    assert found.isnan().all(-1).all(-1).tolist() == [True, False, True]
    (gradient,) = torch.autograd.grad(found[1].square().sum(), trained.network.stiffness)
    assert torch.isfinite(gradient)


def test_stress_from_strain_gradient():
    gradient = torch.eye(3, dtype=torch.float64)[None] * 6.0
    cell = torch.diag(torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64))[None]
    periodic = torch.tensor([[True, True, True]])
    found = stress_from_strain_gradient(gradient, cell, periodic)
    assert torch.equal(found, torch.eye(3, dtype=torch.float64)[None])
    assert stress_from_strain_gradient(gradient, cell, ~periodic).isnan().all()


def test_gradients_of_what_does_not_depend_are_zero():
    x, y = (torch.ones(2, requires_grad=True) for _ in range(2))
    assert [g.tolist() for g in gradients((2 * x).sum(), [x, y], create_graph=False)] == [
        [2.0, 2.0],
        [0.0, 0.0],
    ]
    assert gradients(torch.ones(1), [x], create_graph=True)[0].tolist() == [0.0, 0.0]


def test_hessian_of_a_quadratic_form_and_of_less():
    matrix = torch.arange(36.0, dtype=torch.float64).reshape(6, 6)
    found = hessian(lambda x: 0.5 * x.flatten() @ matrix @ x.flatten(), torch.ones(2, 3).double())
    assert torch.allclose(found.reshape(6, 6), 0.5 * (matrix + matrix.T))
    linear = hessian(lambda x: x.sum(), torch.ones(2, 3))
    constant = hessian(lambda x: torch.ones(1), torch.ones(2, 3))
    assert linear.shape == constant.shape == (2, 3, 2, 3)
    assert not linear.any()
    assert not constant.any()


def test_the_caller_may_differentiate_by_his_own_positions(potential):
    """Positions that already require grad are used as they are."""
    mine = dimer()
    mine.pos.requires_grad_()
    trained = copy.deepcopy(potential).train()
    found = trained(mine, compute=("energy", "forces"))
    (gradient,) = torch.autograd.grad(found["energy"].sum(), mine.pos)
    assert torch.allclose(gradient, -found["forces"].detach(), atol=1e-12)


def test_card_is_copied_and_repr_is_short(potential):
    card = {"data": "x"}
    made = springs(card=card)
    made.card["data"] = "y"
    assert card == {"data": "x"}
    assert springs().card == {}
    assert str(potential.device) == "cpu"
    assert potential.elements == (1, 8)
    assert potential.cutoff == CUTOFF


def test_the_neighbor_list_may_reach_further_than_the_cutoff(potential):
    """Edges beyond the cutoff weigh nothing, so a list with a skin gives the same."""
    molecule = sample_molecule((1, 8), 6, seed=3)
    exact = copy.deepcopy(potential).double()
    near, wide = (exact(attach_neighbors(molecule, c))["energy"] for c in (CUTOFF, CUTOFF + 2.0))
    assert float(near) == pytest.approx(float(wide), abs=1e-9)
