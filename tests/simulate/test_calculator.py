import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from dreibein.models import TensorNetConfig, build_potential, save_model
from dreibein.simulate import Calculator


@pytest.fixture
def tiny_cell():
    """A skewed cell much smaller than the cutoff: every atom meets many of its own images."""
    atoms = Atoms(
        "CuAg",
        [[0.1, 0.0, 0.0], [1.3, 1.4, 1.2]],
        cell=[[2.6, 0.0, 0.1], [0.9, 2.7, 0.0], [0.4, 0.7, 2.9]],
        pbc=True,
    )
    return atoms


def asked(potential, calls):
    """Record what is asked of the potential."""
    potential.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(sorted(kwargs["compute"])), with_kwargs=True
    )


@pytest.mark.parametrize("kind", ["pairs", "tensornet"])
def test_forces_and_stress_are_finite_differences(kind, potential, tiny_cell):
    if kind == "tensornet":
        torch.manual_seed(0)
        config = TensorNetConfig(channels=8, layers=1, cutoff=4.5)
        potential = build_potential(config, elements=(29, 47), scale=10.0, dtype=torch.float64)
    tiny_cell.calc = Calculator(potential)
    forces, stress = tiny_cell.get_forces(), tiny_cell.get_stress()
    assert np.abs(forces).max() > 1e-3
    assert np.abs(stress).max() > 1e-3
    np.testing.assert_allclose(forces, calculate_numerical_forces(tiny_cell, 1e-4), atol=1e-6)
    np.testing.assert_allclose(stress, calculate_numerical_stress(tiny_cell, 1e-4), atol=1e-6)


def test_energies_sum_to_energy_and_free_energy(potential, crystal):
    crystal.calc = Calculator(potential)
    energy = crystal.get_potential_energy()
    assert crystal.get_potential_energy(force_consistent=True) == energy
    assert crystal.get_potential_energies().shape == (32,)
    assert crystal.get_potential_energies().sum() == pytest.approx(energy, abs=1e-10)


def test_only_what_is_asked_is_computed(potential, crystal):
    calls: list[list[str]] = []
    asked(potential, calls)
    crystal.calc = Calculator(potential)
    crystal.get_potential_energy()
    crystal.get_forces()
    crystal.get_potential_energy()
    crystal.get_stress()
    assert calls == [["energy"], ["energy", "forces"], ["energy", "stress"]]
    crystal.calc.always = ("forces", "stress")
    crystal.rattle(0.01)
    crystal.get_forces()
    crystal.get_stress()
    assert calls[3:] == [["energy", "forces", "stress"]]


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_stress_needs_three_periodic_directions(pbc, potential, crystal):
    crystal.pbc = pbc
    crystal.calc = Calculator(potential)
    crystal.get_forces()
    with pytest.raises(PropertyNotImplementedError, match="periodic in three dimensions"):
        crystal.get_stress()


def test_charge_in_info_counts_and_its_change_is_seen(potential, cluster):
    cluster.calc = Calculator(potential)
    neutral = cluster.get_potential_energy()
    cluster.info["charge"] = 1
    charged = cluster.get_potential_energy()
    assert abs(charged - neutral) > 0.1
    assert cluster.calc.calculation_required(cluster, ["energy"]) is False
    cluster.info["charge"] = 0
    assert cluster.get_potential_energy() == neutral
    cluster.info["charge"] = 1
    fresh = cluster.copy()
    fresh.calc = Calculator(potential)
    assert fresh.get_potential_energy() == charged


def test_a_change_of_spin_recomputes(potential, cluster):
    calls: list[list[str]] = []
    asked(potential, calls)
    cluster.calc = Calculator(potential)
    for spin in (1, 3, 3):
        cluster.info["spin"] = spin
        cluster.get_potential_energy()
    assert len(calls) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.positions.__setitem__((0, 0), a.positions[0, 0] + 1e-3),
        lambda a: a.numbers.__setitem__(0, 47),
        lambda a: a.set_cell(a.cell.array * 1.001),
        lambda a: setattr(a, "pbc", (True, True, False)),
    ],
)
def test_every_change_of_the_structure_is_seen(change, potential, crystal):
    crystal.calc = Calculator(potential)
    before = crystal.get_potential_energy()
    change(crystal)
    fresh = crystal.copy()
    fresh.calc = Calculator(potential)
    after = crystal.get_potential_energy()
    assert after != before
    assert after == pytest.approx(fresh.get_potential_energy(), abs=1e-12)


def test_results_are_not_shared_with_the_caller(potential, cluster):
    cluster.calc = Calculator(potential)
    cluster.get_forces()[:] = 0.0
    assert np.abs(cluster.get_forces()).max() > 0.1


def test_unknown_element_is_named(potential):
    atoms = ase.build.molecule("H2O")
    atoms.calc = Calculator(potential)
    with pytest.raises(ValueError, match=r"does not know H, O; it was trained on Cu, Ag"):
        atoms.get_forces()


def test_a_model_file_gives_the_numbers_of_its_potential(tmp_path):
    torch.manual_seed(0)
    potential = build_potential(
        TensorNetConfig(channels=8, layers=1), elements=(1, 8), dtype=torch.float64
    )
    path = save_model(potential, tmp_path / "model.safetensors")
    energies = []
    for source in (potential, path, str(path)):
        atoms = ase.build.molecule("H2O")
        atoms.calc = Calculator(source)
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[1] == energies[2]
    single = Calculator(path, dtype=torch.float32)
    assert single.potential.dtype == torch.float32
    atoms.calc = single
    assert atoms.get_potential_energy() == pytest.approx(energies[0], abs=1e-4)
