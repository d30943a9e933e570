"""torch-sim gives the numbers of the ASE calculator, batch by batch; Python 3.12 and newer."""

import sys

import ase.build
import ase.units
import numpy as np
import pytest
import torch

from dreibein.models import TensorNetConfig, build_potential
from dreibein.simulate import Calculator
from dreibein.simulate.torchsim_model import torchsim_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ts():
    if sys.version_info < (3, 12):
        pytest.skip("torch-sim needs Python 3.12")
    return pytest.importorskip(
        "torch_sim", reason='needs torch-sim: pip install "dreibein[torchsim]"'
    )


def network(dtype=torch.float64):
    torch.manual_seed(0)
    config = TensorNetConfig(channels=8, layers=1, num_radial=6, cutoff=4.0)
    return build_potential(config, elements=(1, 6, 12, 14, 26, 29, 47), scale=3.0, dtype=dtype)


@pytest.fixture
def crystals():
    silicon = ase.build.bulk("Si", cubic=True)
    skewed = ase.build.bulk("Cu", a=3.5).repeat((2, 1, 1))
    iron = ase.build.bulk("Fe").repeat(2)
    for k, atoms in enumerate((silicon, skewed, iron)):
        atoms.rattle(0.1, seed=k)
    return [silicon, skewed, iron]


def test_the_interface_is_that_of_torch_sim(ts):
    from torch_sim.models.interface import validate_model_outputs

    validate_model_outputs(torchsim_model(network()), CPU, torch.float64)


@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_a_batch_has_the_numbers_of_ase(ts, crystals, backend):
    state = ts.io.atoms_to_state(crystals, CPU, torch.float64)
    values = torchsim_model(network(), backend=backend)(state)
    first = 0
    for k, atoms in enumerate(crystals):
        atoms.calc = Calculator(network(), backend=backend)
        assert float(values["energy"][k]) == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
        forces = values["forces"][first : first + len(atoms)].numpy()
        np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-10)
        stress = atoms.get_stress(voigt=False)
        assert np.abs(stress).max() > 1e-4
        np.testing.assert_allclose(values["stress"][k].numpy(), stress, atol=1e-12)
        first += len(atoms)


def test_charge_counts_and_molecules_have_no_stress(ts, potential, cluster):
    state = ts.io.atoms_to_state([cluster, cluster], CPU, torch.float64)
    state.pbc = False
    state.charge = torch.tensor([0.0, 1.0], dtype=torch.float64)
    values = torchsim_model(potential)(state)
    for k in (0, 1):
        cluster.info["charge"] = k
        cluster.calc = Calculator(potential)
        assert float(values["energy"][k]) == pytest.approx(cluster.get_potential_energy())
    assert (values["stress"] == 0).all()


def test_dynamics_conserves_energy_and_relaxation_ends(ts, potential, crystal):
    model = torchsim_model(potential, compute_stress=False)
    state = ts.io.atoms_to_state([crystal, crystal], CPU, torch.float64)
    kt = torch.tensor(300 * 8.617333e-5, dtype=torch.float64)
    moving = ts.nve_init(state, model, kT=kt)
    start = moving.energy + ts.calc_kinetic_energy(
        masses=moving.masses, momenta=moving.momenta, system_idx=moving.system_idx
    )
    dt = torch.tensor(2 * ase.units.fs, dtype=torch.float64)
    for _ in range(100):
        moving = ts.nve_step(moving, model, dt=dt)
    end = moving.energy + ts.calc_kinetic_energy(
        masses=moving.masses, momenta=moving.momenta, system_idx=moving.system_idx
    )
    assert not torch.allclose(moving.positions, state.positions, atol=1e-2)
    assert float((end - start).abs().max()) / len(crystal) < 2e-4
    relaxed = ts.optimize(
        system=[crystal, crystal], model=model, optimizer=ts.Optimizer.fire, max_steps=200
    )
    forces = model(relaxed)["forces"]
    assert float(model(state)["forces"].abs().max()) > 0.15
    assert float(forces.abs().max()) < 0.05  # torch-sim's default


def test_alarms_are_raised(ts, potential, crystal):
    from dreibein.simulate import Alarms, Evaluator, OutOfDomainError
    from dreibein.systems.domains import TrainingDomain

    evaluator = Evaluator(potential, alarms=Alarms(TrainingDomain(5.0), "stop"))
    state = ts.io.atoms_to_state([crystal], CPU, torch.float64)
    with pytest.raises(OutOfDomainError, match="no training structure has such a pair"):
        torchsim_model(evaluator)(state)


def test_unknown_elements_are_named(ts):
    state = ts.io.atoms_to_state([ase.build.bulk("Au")], CPU, torch.float64)
    with pytest.raises(ValueError, match="does not know Au"):
        torchsim_model(network())(state)


def test_without_torch_sim_the_extra_is_named(potential, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_sim", None)
    monkeypatch.delitem(sys.modules, "torch_sim.models.interface", raising=False)
    with pytest.raises(ImportError, match=r'pip install "dreibein\[torchsim\]"'):
        torchsim_model(potential)
