"""Dynamics in an electric field: forces, conserved energy, restarts, refusals; committees."""

import numpy as np
import pytest
import torch
from ase.build import molecule

from dreibein.cli.md import read_field
from dreibein.models import TensorNetConfig, build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.nn import Committee, freeze
from dreibein.simulate import Calculator, DynamicsConfig, read_thermo, run_dynamics
from dreibein.systems import from_ase

FIELD = (0.1, -0.3, 0.2)


def build(order, dtype=torch.float64, seed=0, **options):
    torch.manual_seed(seed)
    config = TensorNetConfig(
        channels=8, layers=1, num_radial=8, cutoff=4.0, field_order=order, **options
    )
    return build_potential(config, elements=(1, 6, 8), scale=0.5, dtype=dtype)


@pytest.fixture
def methanol():
    return molecule("CH3OH")


def test_forces_are_those_of_the_energy_in_the_field(methanol):
    methanol.calc = Calculator(build(2), field=FIELD)
    forces, energy = methanol.get_forces(), methanol.get_potential_energy()
    step = 1e-4
    for atom, axis in ((0, 1), (3, 2)):
        values = []
        for sign in (1.0, -1.0):
            moved = methanol.copy()
            moved.positions[atom, axis] += sign * step
            moved.calc = methanol.calc
            values.append(moved.get_potential_energy())
        assert forces[atom, axis] == pytest.approx((values[1] - values[0]) / (2 * step), abs=1e-7)
    assert np.abs(forces.sum(0)).max() < 1e-12
    still = Calculator(build(2))
    assert abs(still.get_potential_energy(methanol) - energy) > 1e-4
    assert methanol.calc.evaluator.frozen.backend == "reference"


def test_the_total_energy_in_the_field_is_conserved_and_restarts_keep_the_field(methanol, tmp_path):
    potential = build(1)
    choices = {"timestep_fs": 0.1, "external_field": FIELD, "log_interval": 5, "alarms": "off"}
    choices |= {"temperature_k": 100.0, "restart_interval": 20}
    for folder, steps in (("whole", 60), ("parts", 40)):
        run_dynamics(methanol, potential, DynamicsConfig(steps=steps, **choices), tmp_path / folder)
    run_dynamics(
        None, potential, DynamicsConfig(steps=60, **choices), tmp_path / "parts", restart=True
    )
    whole, parts = (read_thermo(tmp_path / f / "thermo.csv") for f in ("whole", "parts"))
    np.testing.assert_array_equal(whole["total_ev"], parts["total_ev"])
    drift, swing = np.ptp(whole["total_ev"]), np.ptp(whole["potential_ev"])
    assert drift < 0.01 * swing
    other = DynamicsConfig(steps=80, **{**choices, "external_field": (0.0, 0.0, 0.1)})
    with pytest.raises(ValueError, match="has external_field"):
        run_dynamics(None, potential, other, tmp_path / "parts", restart=True)


def test_who_takes_no_field_says_so(methanol):
    with pytest.raises(ValueError, match="takes no electric field: train one with"):
        Calculator(build(0), field=FIELD)
    with pytest.raises(ValueError, match="by autograd, not fused"):
        Calculator(build(1, torch.float32), field=FIELD, backend="fused")
    assert Calculator(build(1, torch.float32), field=FIELD).evaluator.frozen.backend == "reference"
    with pytest.raises(ValueError, match="--field is three numbers"):
        read_field("0 0.1")


def test_a_committee_gives_the_mean_and_the_spread_of_targets(methanol):
    targets = {"dipole": {"channels": 4}, "charges": {"channels": 4}}
    members = [build(0, seed=seed, targets=targets) for seed in range(3)]
    committee = Committee(members)
    assert {"dipole", "dipole_spread", "charges_spread"} <= set(committee.outputs)
    structure = attach_neighbors(from_ase(methanol), 4.0)
    names = ("dipole", "dipole_spread", "charges", "charges_spread", "energy_spread")
    for evaluate in (committee, freeze(committee)):
        found = evaluate(structure, compute=names)
        dipoles = torch.stack([m(structure, compute=("dipole",))["dipole"] for m in members])
        torch.testing.assert_close(found["dipole"], dipoles.mean(0))
        spread = (dipoles - dipoles.mean(0)).square().sum(2).mean(0).sqrt()
        torch.testing.assert_close(found["dipole_spread"], spread)
        assert found["charges_spread"].shape == (6,)
        assert float(found["dipole_spread"]) > 0.0
    calculator = Calculator(committee)
    assert calculator.get_property("dipole_spread", methanol).shape == ()
    with pytest.raises(ValueError, match="has heads"):
        Committee([members[0], build(0)])


def test_a_committee_of_targets_alone_has_no_energy(methanol):
    members = [build(0, seed=k, targets=["dipole"], energy=False) for k in range(2)]
    committee = Committee(members)
    assert committee.outputs == ("dipole", "dipole_spread")
