"""Structures are checked when they are made, and come back from ASE as they went."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given
from hypothesis import strategies as st

from dreibein.systems import (
    FIELDS,
    from_ase,
    join,
    make_structure,
    split_batch,
    to_ase,
)

POS = torch.tensor([[0.0, 0, 0], [0, 0, 1]])


def test_defaults():
    made = make_structure([1, 8], POS)
    assert made.z.tolist() == [1, 8]
    assert made.pos.dtype == torch.float64
    assert made.cell.shape == (1, 3, 3)
    assert not made.cell.any()
    assert made.pbc.tolist() == [[False] * 3]
    assert made.charge.tolist() == [0.0]
    assert made.spin.tolist() == [1]
    assert made.num_nodes == 2


def test_a_cell_makes_it_periodic_unless_told():
    assert make_structure([1, 8], POS, cell=[3, 4, 5]).pbc.all()
    assert torch.equal(
        make_structure([1, 8], POS, cell=[3, 4, 5]).cell[0],
        torch.diag(torch.tensor([3.0, 4.0, 5.0], dtype=torch.float64)),
    )
    slab = make_structure([1, 8], POS, cell=np.eye(3), pbc=[True, False, True])
    assert slab.pbc.tolist() == [[True, False, True]]
    assert make_structure([1, 8], POS, cell=np.eye(3), pbc=False).pbc.any().item() is False


@pytest.mark.parametrize("number", [np.float32(-1.5), -1.5, torch.tensor(-1.5), [-1.5]])
def test_numbers_become_float64_of_length_one(number):
    made = make_structure([1, 8], POS, energy=number)
    assert made.energy.dtype == torch.float64
    assert made.energy.tolist() == [-1.5]


@pytest.mark.parametrize(
    ("name", "value", "shape"),
    [
        ("pos", torch.zeros(3, 3), "(3, 3), expected (2, 3)"),
        ("pos", torch.zeros(2, 2), "(2, 2), expected (2, 3)"),
        ("z", [[1, 8], [1, 8]], "(2, 2), expected (2,)"),
        ("forces", torch.zeros(6), "(6,), expected (2, 3)"),
        ("energy", torch.zeros(2), "(2,), expected (1,)"),
        ("stress", torch.zeros(6), "(6,), expected (1, 3, 3)"),
        ("cell", torch.zeros(2, 3), "(2, 3), expected (1, 3, 3)"),
        ("charge", [0.0, 1.0], "(2,), expected (1,)"),
        ("dipole", torch.zeros(2, 3), "(2, 3), expected (1, 3)"),
        ("charges", torch.zeros(3), "(3,), expected (2,)"),
    ],
)
def test_a_wrong_shape_is_named(name, value, shape):
    with pytest.raises(ValueError, match="expected") as error:
        make_structure(**({"z": [1, 8], "pos": POS} | {name: value}))
    assert str(error.value) == f"field '{name}' has shape {shape} for a structure of 2 atoms"


def test_pbc_of_a_wrong_length_is_refused():
    with pytest.raises(ValueError, match="pbc must be one bool or three, got 2"):
        make_structure([1, 8], POS, pbc=[True, False])


def test_fields_of_another_structure_may_be_given():
    """With their leading axis, and with a history that is not kept."""
    first = make_structure([1, 8], POS, cell=[3, 4, 5], pbc=[True, True, False])
    second = make_structure(
        first.z, first.pos, cell=first.cell.clone().requires_grad_(), pbc=first.pbc
    )
    assert torch.equal(first.pbc, second.pbc)
    assert torch.equal(first.cell, second.cell)
    assert not second.cell.requires_grad


def test_what_is_not_a_field_is_stored_as_it_is():
    made = make_structure([1, 8], POS, config_type="dimer", forces_mask=torch.tensor([True, False]))
    assert made.config_type == "dimer"
    assert made.forces_mask.tolist() == [True, False]


def test_the_structure_does_not_require_grad():
    assert not make_structure([1, 8], POS.clone().requires_grad_()).pos.requires_grad


def test_no_atoms():
    empty = make_structure([], torch.zeros(0, 3))
    assert empty.z.dtype == torch.int64
    assert empty.pos.shape == (0, 3)
    assert len(to_ase(empty)) == 0


def labels(num_atoms, seed=0):
    """One value of every label."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, field in FIELDS.items():
        if field.is_label:
            lead = (num_atoms,) if field.scope == "atom" else ()
            values = rng.normal(size=(*lead, *field.shape))
            made[name] = values + values.swapaxes(-1, -2) if field.shape == (3, 3) else values
    return made


@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), bulk("NaCl", "rocksalt", 5.6)])
def test_ase_round_trip(atoms):
    atoms.info["charge"], atoms.info["spin"] = -1, 2
    made = from_ase(atoms, **labels(len(atoms)))
    back = to_ase(made)
    assert np.array_equal(back.numbers, atoms.numbers)
    assert np.array_equal(back.positions, atoms.positions)
    assert np.array_equal(back.cell.array, atoms.cell.array)
    assert np.array_equal(back.pbc, atoms.pbc)
    again = from_ase(back)
    for name in ("z", "pos", "cell", "pbc", "charge", "spin"):
        assert torch.equal(again[name], made[name]), name


def test_ase_reads_the_labels_in_its_own_order():
    values = labels(2)
    back = to_ase(make_structure([1, 8], POS, cell=[3, 3, 3], **values))
    s = values["stress"]
    voigt = [s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]]
    assert back.get_potential_energy() == values["energy"]
    assert np.array_equal(back.get_forces(), values["forces"])
    assert np.allclose(back.get_stress(), voigt, rtol=0, atol=1e-15)
    assert np.allclose(back.get_stress(voigt=False), s, rtol=0, atol=1e-15)
    assert np.array_equal(back.get_dipole_moment(), values["dipole"])
    assert np.array_equal(back.get_charges(), values["charges"])
    assert np.array_equal(back.arrays["shielding"], values["shielding"])
    assert np.array_equal(back.info["polarizability"], values["polarizability"])


def test_missing_labels_stay_away():
    made = make_structure(
        [1, 8],
        POS,
        energy=0.0,
        energy_mask=torch.tensor([False]),
        forces=torch.zeros(2, 3),
        forces_mask=torch.tensor([True, True]),
    )
    results = to_ase(made).calc.results
    assert "energy" not in results
    assert "forces" in results


def test_labels_of_a_calculator_are_not_read_by_themselves():
    """Which label counts is the reader's decision."""
    atoms = Atoms("OH", positions=POS)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    assert "energy" not in from_ase(atoms)


def test_nothing_is_wrapped():
    atoms = Atoms("H", positions=[[7.0, -3.0, 0.0]], cell=[2, 2, 2], pbc=True)
    assert from_ase(atoms).pos.tolist() == [[7.0, -3.0, 0.0]]


def test_a_molecule_of_ase_has_no_cell_and_a_wire_keeps_its_vector():
    assert not from_ase(molecule("H2O")).cell.any()
    wire = from_ase(Atoms("H", cell=[2, 0, 0], pbc=[True, False, False]))
    assert wire.pbc.tolist() == [[True, False, False]]
    assert wire.cell[0].diagonal().tolist() == [2.0, 0.0, 0.0]


@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_a_batch_splits_into_what_was_joined(sizes):
    parts = [
        make_structure([k + 1] * n, torch.full((n, 3), float(k)), charge=k, energy=-k)
        for k, n in enumerate(sizes)
    ]
    batch = join(parts)
    assert batch.num_graphs == len(parts)
    for part, back in zip(parts, split_batch(batch), strict=True):
        for name in ("z", "pos", "cell", "pbc", "charge", "energy"):
            assert torch.equal(part[name], back[name])


def test_a_single_structure_is_a_batch_of_one():
    made = make_structure([1, 8], POS)
    assert split_batch(made) == [made]
