"""Derivatives of energies by an electric field: against differences, laws, and refusals."""

import pytest
import torch

from dreibein.models import (
    LoCaFormerConfig,
    TensorNetConfig,
    build_potential,
    load_model,
    save_model,
)
from dreibein.neighbors import attach_neighbors
from dreibein.nn import FrozenPotential
from dreibein.systems import make_structure
from dreibein.systems.structures import join
from dreibein.testing import random_rotation

STEP = 1e-3
NUMBERS = [8, 1, 1, 6, 7, 1]
FIELD = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
NAMES = ("energy", "forces", "dipole", "polarizability", "born_charges")


def small(order=4, **options):
    torch.manual_seed(0)
    config = TensorNetConfig(channels=8, layers=1, num_radial=8, field_order=order, **options)
    return build_potential(config, elements=(1, 6, 7, 8), scale=1.7, dtype=torch.float64)


@pytest.fixture(scope="module")
def potential():
    return small(knots=24)


@pytest.fixture(scope="module")
def place():
    generator = torch.Generator().manual_seed(5)
    return 1.6 * torch.randn(6, 3, dtype=torch.float64, generator=generator)


def structure(place, field=FIELD, cell=None, **more):
    made = make_structure(NUMBERS, place, cell=cell, external_field=field, **more)
    return attach_neighbors(made, 5.0)


def steps(potential, place, names, cell=None):
    """Central differences of what is computed, by each component of the field."""
    for axis in torch.eye(3, dtype=torch.float64) * STEP:
        up = potential(structure(place, FIELD + axis, cell), names)
        down = potential(structure(place, FIELD - axis, cell), names)
        yield {name: (up[name] - down[name]) / (2.0 * STEP) for name in names}


@pytest.mark.parametrize("cell", [None, 4.5 * torch.eye(3, dtype=torch.float64)])
def test_responses_equal_differences(potential, place, cell):
    found = potential(structure(place, cell=cell), NAMES)
    by_field = list(steps(potential, place, ("energy", "dipole", "forces"), cell))
    dipole = -torch.stack([step["energy"] for step in by_field], dim=1)
    alpha = torch.stack([step["dipole"] for step in by_field], dim=2)
    charges = torch.stack([step["forces"] for step in by_field], dim=1)
    assert found["dipole"].abs().max() > 1e-3
    torch.testing.assert_close(found["dipole"], dipole, rtol=0, atol=1e-7)
    torch.testing.assert_close(found["polarizability"], alpha, rtol=0, atol=1e-7)
    torch.testing.assert_close(found["born_charges"], charges, rtol=0, atol=1e-7)


def test_born_charges_are_derivatives_by_position_and_add_up_to_zero(potential, place):
    found = potential(structure(place), ("born_charges",))["born_charges"]
    moved = place.clone()
    for atom, axis in ((0, 1), (4, 2)):
        moved[atom, axis] += STEP
        up = potential(structure(moved), ("dipole",))["dipole"]
        moved[atom, axis] -= 2.0 * STEP
        down = potential(structure(moved), ("dipole",))["dipole"]
        moved[atom, axis] += STEP
        torch.testing.assert_close(
            found[atom, :, axis], (up - down)[0] / (2.0 * STEP), rtol=0, atol=1e-6
        )
    assert found.abs().max() > 1e-3
    assert found.sum(0).abs().max() < 1e-13


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_responses_turn_with_the_structure(potential, place, mirror):
    turn = mirror * random_rotation(seed=3)
    here = potential(structure(place), NAMES)
    there = potential(structure(place @ turn.T, FIELD @ turn.T), NAMES)
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(there["energy"], here["energy"], **close)
    torch.testing.assert_close(there["dipole"], here["dipole"] @ turn.T, **close)
    torch.testing.assert_close(
        there["polarizability"], turn @ here["polarizability"] @ turn.T, **close
    )
    torch.testing.assert_close(there["born_charges"], turn @ here["born_charges"] @ turn.T, **close)
    alpha = here["polarizability"]
    torch.testing.assert_close(alpha, alpha.mT, **close)


def test_a_batch_is_its_structures(potential, place):
    single = [structure(place), structure(1.1 * place, -FIELD), structure(place, 0.0 * FIELD)]
    together = potential(join(single), NAMES)
    for name in NAMES:
        alone = torch.cat([potential(s, NAMES)[name] for s in single])
        torch.testing.assert_close(together[name], alone, rtol=0, atol=1e-12)


def test_without_a_field_the_energy_is_that_of_the_network_alone(place):
    plain, field = small(0, knots=24), small(3, knots=24)
    structure_free = structure(place, 0.0 * FIELD)
    a, b = plain(structure_free), field(structure_free)
    for name in ("energy", "forces"):
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)
    assert "dipole" not in plain.outputs
    with pytest.raises(ValueError, match="cannot compute dipole"):
        plain(structure_free, ("dipole",))


def test_orders(place):
    """Order 1: a dipole that no field changes; order 2: a polarizability that none changes."""
    for order, name in ((1, "dipole"), (2, "polarizability")):
        potential = small(order)
        values = [potential(structure(place, f), (name,))[name] for f in (FIELD, 0.0 * FIELD)]
        torch.testing.assert_close(*values, rtol=0, atol=1e-14)


def test_the_engine_serves_structures_without_a_field_alone(place):
    potential = small(2)
    fused = FrozenPotential(potential, "fused")
    for field in (FIELD, 0.0 * FIELD):
        exact, fast = potential(structure(place, field)), fused(structure(place, field))
        torch.testing.assert_close(fast["forces"], exact["forces"], rtol=0, atol=1e-6)
    assert fused.backend == "fused"
    assert fused(structure(place), ("dipole",))["dipole"].shape == (1, 3)


def test_training_with_and_without_a_field_follows_the_same_law(place):
    """The fused training pass knows no field; with one, autograd gives the forces."""
    potential = small(2, knots=24).train()
    inside = potential(structure(place))["forces"]
    names = ("energy", "forces", "dipole", "polarizability")
    together = potential(structure(place), names)
    torch.testing.assert_close(inside, together["forces"], rtol=0, atol=1e-10)
    loss = sum(together[name].square().sum() for name in names)
    exact = torch.autograd.grad(loss, list(potential.parameters()))
    assert all(bool(gradient.any()) for gradient in exact)


def test_without_a_field_the_fused_pass_trains_responses_too(place):
    """Where no field acts, forces do not depend on the dipole: same numbers, same gradients."""
    potential = small(2, knots=24).train()
    names, still = ("energy", "forces", "dipole", "polarizability"), structure(place, 0.0 * FIELD)
    found = {}
    for backend in ("reference", "fused"):
        potential.network.backend = backend
        values = potential(still, names)
        loss = sum(values[name].square().sum() for name in names)
        found[backend] = (values, torch.autograd.grad(loss, list(potential.parameters())))
    for name in names:
        torch.testing.assert_close(
            found["fused"][0][name], found["reference"][0][name], rtol=0, atol=1e-10
        )
    for fused, exact in zip(found["fused"][1], found["reference"][1], strict=True):
        torch.testing.assert_close(fused, exact, rtol=1e-6, atol=1e-8)


def test_ions_are_refused(potential, place):
    with pytest.raises(ValueError, match="neutral structures, and a structure has the charge 1 e"):
        potential(structure(place, charge=1.0))


def test_files_keep_the_field(potential, place, tmp_path):
    again = load_model(save_model(potential, tmp_path / "model.safetensors"))
    assert again.field_order == 4
    torch.testing.assert_close(
        again(structure(place), ("dipole",)), potential(structure(place), ("dipole",))
    )


def test_other_networks_say_that_they_take_no_field(place):
    config = LoCaFormerConfig(channels=8, heads=2, num_radial=6, layers=1, reps="4x0n+2x1n")
    potential = build_potential(config, elements=(1, 6, 7, 8), dtype=torch.float64)
    assert potential.field_order == 0
    with pytest.raises(ValueError, match="cannot compute polarizability"):
        potential(structure(place), ("polarizability",))
