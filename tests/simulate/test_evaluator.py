import numpy as np
import pytest
import torch

from dreibein.neighbors import attach_neighbors
from dreibein.simulate import Evaluator
from dreibein.systems import make_structure

ALL = ("energy", "energies", "forces", "stress")


def fresh(potential, atoms, **identity):
    structure = make_structure(
        atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc, **identity
    )
    return potential(attach_neighbors(structure, potential.cutoff), compute=ALL)


def test_kept_list_equals_fresh_list_while_atoms_and_cell_move(potential, crystal):
    rng = np.random.default_rng(0)
    evaluator = Evaluator(potential, skin=0.6)
    for _ in range(12):
        found = evaluator(
            crystal.numbers, crystal.positions, crystal.cell.array, crystal.pbc, compute=ALL
        )
        expected = fresh(potential, crystal)
        for name in ALL:
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-13)
        crystal.set_cell(
            crystal.cell.array @ (np.eye(3) + 0.003 * rng.normal(size=(3, 3))), scale_atoms=True
        )
        crystal.positions += rng.normal(scale=0.05, size=(32, 3))
    assert 1 < evaluator.neighbor_searches < 12  # the list was kept, and was renewed


def test_a_limit_of_memory_changes_no_number(potential, crystal):
    potential.network.hops = 1
    evaluator = Evaluator(potential, memory=1.0)
    evaluator.frozen.memory = 0.8 * evaluator.frozen._cost(False).of(32, 32 * 42, 32 * 42)
    found = evaluator(
        crystal.numbers, crystal.positions, crystal.cell.array, crystal.pbc, compute=ALL
    )
    expected = fresh(potential, crystal)
    for name in ALL:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="a single atom"):
        Evaluator(potential, memory=1000)(
            crystal.numbers, crystal.positions, crystal.cell.array, crystal.pbc
        )


def test_a_new_composition_size_or_charge_is_seen(potential, cluster):
    evaluator = Evaluator(potential)

    def energy(numbers, positions, **identity):
        found = evaluator(numbers, positions, np.zeros((3, 3)), np.zeros(3, bool), **identity)
        return float(found["energy"])

    for numbers, positions, charge in [
        (cluster.numbers, cluster.positions, 0.0),
        (cluster.numbers[::-1].copy(), cluster.positions, 0.0),
        (cluster.numbers[::-1].copy(), cluster.positions, 1.0),
        (cluster.numbers, cluster.positions, 1.0),
        (cluster.numbers[:5], cluster.positions[:5], 1.0),
    ]:
        structure = make_structure(numbers, positions, charge=charge)
        expected = potential(attach_neighbors(structure, potential.cutoff))["energy"]
        assert energy(numbers, positions, charge=charge) == pytest.approx(
            float(expected), abs=1e-12
        )


def test_arguments_are_not_kept_by_reference(potential, cluster):
    evaluator = Evaluator(potential, skin=1.0)
    positions = cluster.positions.copy()
    nothing = np.zeros((3, 3)), np.zeros(3, bool)
    evaluator(cluster.numbers, positions, *nothing)
    positions += np.linspace(0.0, 2.0, 13)[:, None]  # in place, far beyond the skin
    moved = evaluator(cluster.numbers, positions, *nothing)["energy"]
    expected = Evaluator(potential)(cluster.numbers, positions, *nothing)["energy"]
    assert float(moved) == float(expected)


def test_unknown_element_is_named(potential, cluster):
    cluster.numbers[3] = 79
    with pytest.raises(ValueError, match=r"does not know Au; it was trained on Cu, Ag"):
        Evaluator(potential)(cluster.numbers, cluster.positions, np.zeros((3, 3)), cluster.pbc)


def test_negative_skin_is_refused(potential):
    with pytest.raises(ValueError, match="skin"):
        Evaluator(potential, skin=-0.1)
