"""Every format gives the same frames; what cannot be read is said in one sentence."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.db import connect
from ase.units import kcal, mol

from dreibein.data import DataConfig, load_data
from dreibein.data.read_qm9 import read_qm9

from .conftest import strained_copper, waters

KCAL = kcal / mol


def assert_same(data, frames, tolerance=1e-7):
    assert len(data) == len(frames)
    for structure, atoms in zip(data, frames):
        np.testing.assert_array_equal(structure.z, atoms.numbers)
        np.testing.assert_allclose(structure.pos, atoms.positions, atol=tolerance)
        np.testing.assert_allclose(structure.cell[0], atoms.cell.array, atol=tolerance)
        np.testing.assert_array_equal(structure.pbc[0], atoms.pbc)
        np.testing.assert_allclose(structure.energy, atoms.get_potential_energy(), rtol=tolerance)
        np.testing.assert_allclose(structure.forces, atoms.get_forces(), atol=tolerance)


@pytest.mark.parametrize("name", ["a.extxyz", "a.xyz", "a.traj", "a.json", "a.db", "a.extxyz.gz"])
def test_ase_formats(write, load, name):
    frames = strained_copper(3)
    data = load(write(frames, name))
    assert_same(data, frames)
    np.testing.assert_allclose(data[1].stress[0], frames[1].get_stress(voigt=False), atol=1e-8)


def test_slices(write, load):
    frames = waters(6)
    data = load(write(frames) + "@1:5:2")
    assert_same(data, frames[1:5:2])


def test_database_entries_and_units(tmp_path, load):
    """Key-value pairs, data, and the units that SchNetPack writes."""
    path = tmp_path / "s.db"
    frames = waters(3)
    with connect(path) as database:
        database.metadata = {
            "_property_unit_dict": {"energy": "kcal/mol", "forces": "kcal/mol/Ang"},
            "_distance_unit": "Ang",
        }
        for atoms in frames:
            bare = atoms.copy()
            bare.calc = None
            energy, forces = atoms.get_potential_energy() / KCAL, atoms.get_forces() / KCAL
            database.write(bare, data={"energy": np.array([energy]), "forces": forces}, group="w")
    data = load(str(path))
    assert_same(data, frames)
    assert data[0].config_type == "w"
    assert data.provenance["units"]["energy"][0]["reason"] == "written in the file"


def test_not_a_database(tmp_path, load):
    path = tmp_path / "x.db"
    path.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(ValueError, match=r"x.db: not an ASE database"):
        load(str(path))


def test_truncated_extxyz_names_the_frame(write, load):
    path = write(waters(5))
    lines = Path(path).read_text().splitlines()
    Path(path).write_text("\n".join(lines[: 3 * 5 + 4]) + "\n")
    with pytest.raises(
        ValueError, match=r"data.extxyz: frame 3 cannot be read \(.*\); the file may be cut off"
    ):
        load(path)


def test_unknown_format(tmp_path, load):
    path = tmp_path / "x.nonsense"
    path.write_text("1 2 3")
    with pytest.raises(ValueError, match=r"x.nonsense: not a format that ASE knows; give extxyz"):
        load(str(path))


def test_empty_file(tmp_path, load):
    path = tmp_path / "x.extxyz"
    path.write_text("")
    with pytest.raises(ValueError, match=r"x.extxyz"):
        load(str(path))


def test_missing_files(tmp_path, load):
    with pytest.raises(FileNotFoundError, match=r"there is no file 'gone.extxyz'"):
        load("gone.extxyz")
    with pytest.raises(FileNotFoundError, match="no file matches"):
        load(str(tmp_path / "*.xyz"))
    with pytest.raises(IsADirectoryError, match="is a folder: give files, for example"):
        load(str(tmp_path))


def test_patterns_are_expanded_in_order(write, load, tmp_path):
    write(waters(2), "b.extxyz")
    write(waters(3), "a.extxyz")
    data = load(str(tmp_path / "*.extxyz"))
    assert len(data) == 5
    assert data.describe(0).endswith("a.extxyz, frame 0")
    assert data.describe(4).endswith("b.extxyz, frame 1")


class TestNpz:
    def arrays(self, style):
        frames = waters(4)
        z = frames[0].numbers
        r = np.stack([a.positions for a in frames])
        e = np.array([a.get_potential_energy() for a in frames]) / KCAL
        f = np.stack([a.get_forces() for a in frames]) / KCAL
        names = {
            "md17": ("z", "R", "E", "F"),
            "rmd17": ("nuclear_charges", "coords", "energies", "forces"),
            "odd": ("atomic_numbers", "positions", "energy", "force"),
        }[style]
        return frames, dict(zip(names, (z, r, e, f)))

    def save(self, path, **arrays):
        np.savez(path, **arrays)
        return str(path)

    @pytest.mark.parametrize("style", ["md17", "rmd17"])
    def test_md17_styles(self, tmp_path, load, style):
        frames, arrays = self.arrays(style)
        data = load(self.save(tmp_path / "m.npz", **arrays))
        assert_same(data, frames)
        reason = "convention of MD17 files: kcal/mol, Å"
        assert data.provenance["units"]["forces"][0]["reason"] == reason

    def test_column_energies(self, tmp_path, load):
        frames, arrays = self.arrays("md17")
        arrays["E"] = arrays["E"][:, None]
        assert_same(load(self.save(tmp_path / "m.npz", **arrays)), frames)

    def test_written_units_win(self, tmp_path, load):
        _, arrays = self.arrays("md17")
        data = load(self.save(tmp_path / "m.npz", e_unit="eV", r_unit="Ang", **arrays))
        assert float(data[0].energy) == pytest.approx(float(arrays["E"][0]))
        assert data.provenance["units"]["forces"][0]["unit"] == "eV/Ang"

    def test_guess_from_totals(self, tmp_path, load):
        frames, arrays = self.arrays("odd")
        arrays["energy"] = arrays["energy"] * KCAL / 27.211386 - 76.4
        data = load(self.save(tmp_path / "m.npz", **arrays))
        entry = data.provenance["units"]["energy"][0]
        assert entry["unit"] == "Ha"
        assert entry["reason"].startswith("guessed: energies are 1.00")
        expected = frames[0].get_potential_energy() - 76.4 * 27.211386
        assert float(data[0].energy) == pytest.approx(expected)

    def test_no_unit_is_refused(self, tmp_path, load):
        _, arrays = self.arrays("odd")
        path = self.save(tmp_path / "m.npz", **arrays)
        with pytest.raises(
            ValueError,
            match=r"m.npz: the unit of energy is neither declared nor written in the file, and the "
            r"magnitudes fit none; declare it, for example --unit energy=eV",
        ):
            load(path)
        assert len(load(path, units={"energy": "kcal/mol"})) == 4

    def test_named_geometry_and_cell(self, tmp_path, load):
        frames, arrays = self.arrays("md17")
        arrays["where"] = arrays.pop("R")
        arrays["box"] = np.array([10.0, 11.0, 12.0])
        data = load(
            self.save(tmp_path / "m.npz", **arrays),
            keys={"pos": "where"},
            units={"energy": "kcal/mol"},
        )
        np.testing.assert_allclose(data[0].pos, frames[0].positions)
        np.testing.assert_allclose(data[3].cell[0], np.diag([10.0, 11.0, 12.0]))
        assert data[3].pbc.all()

    def test_missing_arrays(self, tmp_path, load):
        _, arrays = self.arrays("md17")
        del arrays["R"]
        with pytest.raises(
            ValueError, match=r"no array of positions \(any of coords.*; the file has z, E, F; name"
        ):
            load(self.save(tmp_path / "m.npz", **arrays))

    def test_wrong_shapes(self, tmp_path, load):
        _, arrays = self.arrays("md17")
        with pytest.raises(ValueError, match=r"positions have shape \(4, 3, 2\), expected"):
            load(self.save(tmp_path / "a.npz", **{**arrays, "R": arrays["R"][..., :2]}))
        with pytest.raises(ValueError, match=r"\(2,\) atomic numbers do not fit 3 atoms in 4"):
            load(self.save(tmp_path / "b.npz", **{**arrays, "z": arrays["z"][:2]}))

    def test_broken_files(self, tmp_path, load):
        path = tmp_path / "m.npz"
        _, arrays = self.arrays("md17")
        self.save(path, **arrays)
        path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(ValueError, match=r"m.npz: not a whole npz file"):
            load(str(path))
        path.write_text("text")
        with pytest.raises(ValueError, match=r"m.npz: (not an npz file|holds pickled objects)"):
            load(str(path))
        np.savez(path, z=np.array([{}], dtype=object))
        with pytest.raises(ValueError, match="holds pickled objects, which are not loaded"):
            load(str(path))

    def test_shared_ethanol(self, shared):
        path = shared / "data" / "rmd17" / "rmd17_ethanol_train_01.npz"
        data = load_data(DataConfig(sources=str(path)))
        assert len(data) == 1000
        assert data.elements == (1, 6, 8)
        with np.load(path) as raw:
            assert float(data[7].energy) == pytest.approx(raw["energies"][7] * KCAL)
            np.testing.assert_allclose(data[7].forces, raw["forces"][7] * KCAL)
        assert data.provenance["notes"] == []
        assert "old_energies" in data.provenance["sources"][0]["unused_keys"]


class TestQm9:
    def test_first_molecules(self, load):
        pytest.importorskip("pandas")
        data = load("qm9:50")
        methane = data[0]
        assert methane.z.tolist() == [6, 1, 1, 1, 1]
        assert float(methane.energy) == pytest.approx(-40.47893 * 27.211386, rel=1e-7)
        assert float(methane.alpha) == pytest.approx(13.21 * 0.529177**3, rel=1e-5)
        assert methane.charges.shape == (5,)
        np.testing.assert_allclose(
            methane.pos[0], [-0.0126981359, 1.0858041578, 0.0080009958], atol=1e-12
        )
        water = data[2]
        assert float(water.mu) == pytest.approx(1.8511 * 0.20819434, rel=1e-6)
        assert data.provenance["units"]["gap"][0]["unit"] == "Ha"
        assert data.provenance["level_of_theory"] == "B3LYP/6-31G(2df,p)"
        assert set(data.label_names) >= {"energy", "mu", "alpha", "homo", "lumo", "gap", "cv"}

    def test_another_energy(self, load):
        data = load("qm9:3", keys={"energy": "h298"})
        assert float(data[0].energy) == pytest.approx(-40.475117 * 27.211386, rel=1e-7)

    def test_wrong_number(self, load):
        with pytest.raises(ValueError, match="after 'qm9:' comes a number of molecules"):
            load("qm9:many")

    def test_without_the_package(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r'pip install "dreibein\[qm9\]"'):
            read_qm9(3)


def test_shared_files(shared, load):
    folder = shared / "data"
    data = load(str(folder / "nma_field" / "nma_a.extxyz@:20"))
    assert data.label_names == ("energy", "forces", "dipole", "polarizability")
    assert data[0].external_field.shape == (1, 3)
    first = ase.io.read(folder / "nma_field" / "nma_a.extxyz", 0)
    np.testing.assert_allclose(data[0].polarizability[0], first.info["polarizability"])
    nmr = load(str(folder / "qm7_nmr" / "qm7_nmr.extxyz@:20"))
    assert nmr.label_names == ("shielding",)
    assert float(nmr[0].shielding[0]) == pytest.approx(194.2725)
