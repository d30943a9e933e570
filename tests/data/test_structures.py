"""Structures from files and SMILES; conformers."""

import sys

import numpy as np
import pytest
from ase.data import covalent_radii

from dreibein.data import conformers, read_structure

from .conftest import waters


def test_last_frame_of_a_file(write):
    frames = waters(3)
    path = write(frames)
    np.testing.assert_allclose(read_structure(path).positions, frames[2].positions, atol=1e-8)
    np.testing.assert_allclose(
        read_structure(path + "@1").positions, frames[1].positions, atol=1e-8
    )
    assert read_structure(path).info == {"charge": 0.0, "spin": 1}
    assert read_structure(path, charge=-1).info["charge"] == -1.0


def test_stated_charge_of_a_file(write):
    frames = waters(1)
    frames[0].info["charge"] = 1
    path = write(frames)
    assert read_structure(path).info["charge"] == 1.0
    with pytest.raises(ValueError, match="states a charge of 1, but -1 was asked for; leave one"):
        read_structure(path, charge=-1)


def test_broken_files(tmp_path):
    path = tmp_path / "x.xyz"
    path.write_text("3\n\nH 0 0 0\n")
    with pytest.raises(ValueError, match=r"x.xyz: frame 0 cannot be read"):
        read_structure(str(path))
    with pytest.raises(FileNotFoundError, match=r"there is no file 'gone.xyz'"):
        read_structure("gone.xyz")


@pytest.mark.parametrize(
    ("smiles", "formula", "charge", "spin"),
    [
        ("CCO", "C2H6O", 0, 1),
        ("C[NH3+]", "CH6N", 1, 1),
        ("[CH3]", "CH3", 0, 2),
        ("[O][O]", "O2", 0, 3),
        ("[OH-]", "HO", -1, 1),
        ("[He]", "He", 0, 1),
    ],
)
def test_smiles(smiles, formula, charge, spin):
    atoms = read_structure(smiles)
    assert atoms.get_chemical_formula() == formula
    assert (atoms.info["charge"], atoms.info["spin"]) == (charge, spin)


def test_the_seed_decides():
    one, same, other = (read_structure("CCCCO", seed=s).positions for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.1


def test_parts_do_not_overlap():
    atoms = read_structure("[Na+].[Cl-].CCO.O")
    d = atoms.get_all_distances()
    radii = covalent_radii[atoms.numbers]
    ratio = d / (radii[:, None] + radii[None, :]) + 9 * np.eye(len(atoms))
    assert ratio.min() > 0.8
    assert len(atoms) == 14


def test_conformers_differ():
    found = conformers("CCCCCCO", 6, seed=4)
    assert len(found) == 6
    again = conformers("CCCCCCO", 6, seed=4)
    for a, b in zip(found, again):
        np.testing.assert_array_equal(a.positions, b.positions)
    spans = {round(float(a.get_all_distances().max()), 2) for a in found}
    assert len(spans) > 2
    assert len(conformers("O", 5)) == 1


def test_refusals():
    for text in ("hello world", "XYZ", ""):
        with pytest.raises(
            ValueError, match=f"'{text}' is neither a file that exists nor a SMILES string such as"
        ):
            read_structure(text)
    with pytest.raises(ValueError, match=r"'CCO' has a total charge of \+0, not \+1; write the"):
        read_structure("CCO", charge=1)
    with pytest.raises(ValueError, match="the number of conformers must be at least 1, not 0"):
        conformers("C", 0)


def test_without_rdkit(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    monkeypatch.setitem(sys.modules, "rdkit.Chem", None)
    with pytest.raises(ImportError, match=r'needs rdkit: pip install "dreibein\[label\]"'):
        read_structure("CCO")
