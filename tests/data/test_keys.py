"""Labels are found where files keep them, and what was found is said."""

import re

import numpy as np
import pytest
from ase import Atoms

from dreibein.data.names import check_label_names

from .conftest import waters


def renamed(frames, names, place="info"):
    """The frames with calculator results moved to other keys."""
    for atoms in frames:
        results = atoms.calc.results
        atoms.calc = None
        for old, new in names.items():
            (atoms.arrays if old == "forces" else atoms.info)[new] = results[old]
    return frames


def test_calculator_results_of_extxyz_are_found(write, load):
    frames = waters(3)
    data = load(write(frames))
    assert data.label_names == ("energy", "forces")
    np.testing.assert_allclose(data[1].energy, frames[1].get_potential_energy())
    np.testing.assert_allclose(data[1].forces, frames[1].get_forces(), atol=1e-8)
    entry = data.provenance["keys"]["energy"][0]
    assert (entry["place"], entry["key"]) == ("calculator results", "energy")
    assert (entry["frames"], entry["of"]) == (3, 3)


@pytest.mark.parametrize(
    ("energy", "forces"),
    [("REF_energy", "REF_forces"), ("dft_energy", "dft_forces"), ("E", "F"), ("U0", "force")],
)
def test_usual_names_are_recognized(write, load, energy, forces):
    frames = renamed(waters(2), {"energy": energy, "forces": forces})
    data = load(write(frames))
    assert data.label_names == ("energy", "forces")
    assert data.provenance["keys"]["energy"][0]["key"] == energy
    assert data.provenance["keys"]["forces"][0]["key"] == forces


def test_a_reference_name_wins_and_the_choice_is_said(write, load):
    frames = waters(2)
    for atoms in frames:
        atoms.info["REF_energy"] = atoms.get_potential_energy() - 5.0
    data = load(write(frames, "two.extxyz"))
    np.testing.assert_allclose(data[0].energy, frames[0].info["REF_energy"])
    (note,) = data.provenance["notes"]
    assert "two.extxyz: 'REF_energy' (info, 2 frames) was chosen over 'energy' (calculator" in note
    assert "because a REF_ name says outright that it is the reference label" in note


def test_equal_candidates_are_no_matter(write, load):
    frames = waters(2)
    for atoms in frames:
        atoms.info["REF_energy"] = atoms.get_potential_energy()
    assert load(write(frames)).provenance["notes"] == []


def test_free_energy_is_offered(write, load):
    frames = waters(2)
    for atoms in frames:
        atoms.calc.results["free_energy"] = atoms.get_potential_energy() - 0.1
    (note,) = load(write(frames)).provenance["notes"]
    assert "'energy' (calculator results, 2 frames) was chosen over 'free_energy'" in note
    assert "ask for --key energy=free_energy" in note


def test_an_explicit_key_wins(write, load):
    frames = waters(2)
    for atoms in frames:
        atoms.info["scf"] = -7.0
    data = load(write(frames), keys={"energy": "scf"})
    assert float(data[0].energy) == -7.0
    assert data.provenance["keys"]["energy"][0]["reason"] == "info as 'scf', as asked for"


def test_a_wrong_key_is_refused_with_the_nearest(write, load):
    frames = renamed(waters(2), {"energy": "REF_energy", "forces": "REF_forces"})
    with pytest.raises(
        ValueError,
        match=r"data.extxyz: the key 'REF_enrgy' asked for label 'energy' is in no frame; the "
        r"nearest key is 'REF_energy'; frame 0 has 'REF_energy', 'REF_forces'",
    ):
        load(write(frames), keys={"energy": "REF_enrgy"})


def test_a_key_in_a_file_without_keys(write, load):
    with pytest.raises(ValueError, match="frame 0 has no keys at all beside the geometry"):
        load(write([Atoms("H2", [[0, 0, 0], [0, 0, 1]])]), keys={"energy": "E"})


def test_a_key_in_one_of_two_files_is_enough(write, load):
    a = write(renamed(waters(2), {"energy": "mine", "forces": "F"}), "a.extxyz")
    b = write(waters(3), "b.extxyz")
    data = load([a, b], keys={"energy": "mine"})
    assert [bool(data[i].energy_mask) for i in range(5)] == [True, True, False, False, False]


def test_required_label_nowhere(write, load):
    frames = renamed(waters(2), {"energy": "energy", "forces": "my_force"})
    with pytest.raises(
        ValueError,
        match=r"data.extxyz: the required label 'forces' is in none of the 2 frames; frame 0 has "
        r"'energy', 'my_force' \(nearest: 'my_force'\); if one of them is meant, name it: "
        r"--key forces=KEY",
    ):
        load(write(frames), labels=["forces"])
    lax = load(write(frames), labels=["forces"], strict=False)
    assert "the required label 'forces'" in lax.provenance["problems"][0]


def test_own_labels_keep_their_scope(write, load):
    frames = waters(2)
    for atoms in frames:
        atoms.info["gap"] = 5.5
        atoms.info["five_numbers"] = np.arange(5.0)
        atoms.arrays["spin_density"] = np.arange(3.0)
    data = load(
        write(frames), keys={"bandgap": "gap", "rho": "spin_density"}, labels=["five_numbers"]
    )
    assert data.label_names == ("energy", "forces", "bandgap", "rho", "five_numbers")
    assert data[0].bandgap.shape == (1,)
    assert data[0].rho.shape == (3,)
    assert data[0].five_numbers.shape == (1, 5)


def test_unused_keys_are_listed(write, load):
    frames = waters(2)
    frames[0].info["note"] = "hello"
    frames[1].info["weight"] = 2.0
    assert load(write(frames)).provenance["sources"][0]["unused_keys"] == {"note": 1, "weight": 1}


def test_charge_spin_and_kind(write, load):
    frames = waters(2)
    for atoms in frames:
        atoms.info.update(charge=1, spin=2, config_type="cation", total=-1)
    data = load(write(frames))
    assert (float(data[0].charge), int(data[0].spin), data[0].config_type) == (1.0, 2, "cation")
    assert float(load(write(frames), keys={"charge": "total"})[0].charge) == -1.0


def test_charge_of_atoms_and_of_the_whole(write, load):
    frames = waters(2)
    for atoms in frames:
        atoms.arrays["charge"] = np.array([-0.8, 0.4, 0.4])
        atoms.info["total_charge"] = 2
    data = load(write(frames))
    assert data[0].charges.tolist() == [-0.8, 0.4, 0.4]
    assert float(data[0].charge) == 2.0


def test_spin_zero_is_refused(write, load):
    frames = waters(2)
    frames[1].info["spin"] = 0
    with pytest.raises(
        ValueError, match=r"data.extxyz, frame 1: spin 0 is not a multiplicity 2S\+1 \(1, 2, 3"
    ):
        load(write(frames))


def test_wrong_size_names_the_frame(write, load):
    frames = waters(3)
    for k, atoms in enumerate(frames):
        atoms.info["dipole_moment"] = np.zeros(3 if k < 2 else 4)
    with pytest.raises(
        ValueError,
        match=r"frame 2: 'dipole_moment' has 4 numbers where label 'dipole' needs 3 \(3 atoms\)",
    ):
        load(write(frames))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("enrgy", "keys: 'enrgy' is not a label; did you mean 'energy'?"),
        ("edge_index", "keys: 'edge_index' is part of the geometry, not a label"),
        ("my_batch", "keys: a label cannot be called 'my_batch', because PyTorch Geometric"),
        ("my label", "keys: the label name 'my label' must be a plain word"),
    ],
)
def test_label_names_are_checked(name, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        check_label_names([name], "keys")
