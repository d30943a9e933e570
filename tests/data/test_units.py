"""Units: declared over written over convention over guessed; converted once; the reason is said."""

import re

import numpy as np
import pytest
from ase.units import GPa, Hartree, kcal, mol

from .conftest import strained_copper, waters

KCAL = kcal / mol


def scaled(frames, energy, forces):
    for atoms in frames:
        atoms.calc.results["energy"] *= energy
        atoms.calc.results["forces"] *= forces
    return frames


def units_of(data, label):
    entry = data.provenance["units"][label][0]
    return entry["unit"], entry["reason"]


def test_ase_files_are_in_ev(write, load):
    data = load(write(waters(2)))
    assert units_of(data, "energy") == ("eV", "convention of ASE formats: eV, Å")
    assert units_of(data, "forces") == ("eV/Å", "convention of ASE formats: eV, Å")


def test_declared_energy_unit_carries_over_to_forces(write, load):
    truth = waters(3)
    data = load(write(scaled(waters(3), 1 / KCAL, 1 / KCAL)), units={"energy": "kcal/mol"})
    assert units_of(data, "energy") == ("kcal/mol", "declared")
    assert units_of(data, "forces") == ("kcal/mol/Å", "from the energy unit declared")
    np.testing.assert_allclose(data[2].energy, truth[2].get_potential_energy(), rtol=1e-7)
    np.testing.assert_allclose(data[2].forces, truth[2].get_forces(), atol=1e-7)


def test_declared_length_converts_geometry(write, load):
    data = load(write(waters(1)), units={"length": "Bohr", "energy": "Ha", "forces": "Ha/Bohr"})
    original = waters(1)[0]
    np.testing.assert_allclose(data[0].pos, original.positions * 0.529177, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        data[0].forces, original.get_forces() * Hartree / 0.52917721, rtol=1e-6, atol=1e-6
    )


def test_units_written_in_the_file(write, load):
    frames = scaled(waters(2), 1 / Hartree, 1 / Hartree)
    for atoms in frames:
        atoms.info["energy_unit"] = "Ha"
    data = load(write(frames))
    assert units_of(data, "energy") == ("Ha", "written in the file")
    assert units_of(data, "forces") == ("Ha/Å", "from the energy unit written in the file")
    np.testing.assert_allclose(data[0].energy, waters(1)[0].get_potential_energy(), rtol=1e-6)


def test_mixed_written_units_are_refused(write, load):
    frames = waters(4)
    for k, atoms in enumerate(frames):
        atoms.info["energy_unit"] = "eV" if k < 2 else "kcal/mol"
    with pytest.raises(
        ValueError,
        match=r"data.extxyz: mixed units: energy is in eV in frame 0 but in kcal/mol in frame 2; "
        r"convert the parts apart",
    ):
        load(write(frames))


def big(frames):
    """Energies of the size of all-electron totals (water: -2080 eV)."""
    for atoms in frames:
        atoms.calc.results["energy"] -= 2080.0
    return frames


def test_mixed_magnitudes_are_refused_with_the_frame(write, load):
    frames = big(waters(6))
    frames[4].calc.results["energy"] /= KCAL
    path = write(frames)
    with pytest.raises(
        ValueError,
        match=r"mixed units: .*data.extxyz, frame 4 has 23.06 times the usual energy of its "
        r"composition \(1 such frames; kcal/mol taken for eV or the reverse\)",
    ):
        load(path)
    assert "mixed units" in load(path, strict=False).provenance["problems"][0]


def test_mixed_magnitudes_between_sources(write, load):
    a = write(big(waters(4)), "a.extxyz")
    b = write(scaled(big(waters(3, seed=1)), 1 / Hartree, 1 / Hartree), "b.extxyz")
    with pytest.raises(ValueError, match=r"mixed units: .*b.extxyz, frame 0 has 0.03675 times"):
        load([a, b])
    assert len(load([a, b], strict=False)) == 7


def test_hartree_totals_are_noticed(write, load):
    frames = scaled(big(waters(3)), 1 / Hartree, 1 / Hartree)
    (note,) = load(write(frames)).provenance["notes"]
    assert "times the sum of the atoms' total energies in Ha" in note
    assert "declare it: --unit energy=Ha" in note
    assert load(write(frames), units={"energy": "Ha"}).provenance["notes"] == []


def test_odd_forces_are_noticed(write, load):
    frames = scaled(waters(3), 1.0, 1e-6)
    (note,) = load(write(frames)).provenance["notes"]
    assert "eV/Å is unusual (expected 0.001 to 30); check the unit of the forces" in note


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"enrgy": "eV"}, "units: 'enrgy' is no label that was asked for; did you mean 'energy'?"),
        ({"energy": "kcal/mool"}, "unit of energy: unknown unit 'mool'"),
        ({"forces": "eV"}, "unit of forces: cannot convert 'eV'"),
        ({"length": "eV"}, "cannot convert 'eV' (energy) to 'Å'"),
        ({"xyzzy": "eV"}, "units: 'xyzzy' is no label that was asked for; name a label or"),
    ],
)
def test_wrong_units_are_refused_before_reading(load, units, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load("nowhere.extxyz", units=units)


def test_own_labels_go_to_package_units_by_dimension(write, load):
    frames = waters(1)
    frames[0].info.update(gap=0.5, shift=3.0)
    data = load(
        write(frames),
        keys={"gap": "gap", "chem": "shift"},
        units={"gap": "Ha", "chem": "ppm"},
    )
    assert float(data[0].gap) == pytest.approx(0.5 * Hartree)
    assert data.provenance["units"]["gap"][0]["converted_to"] == "eV"
    assert float(data[0].chem) == 3.0
    assert units_of(data, "chem") == ("ppm", "declared, kept")


def test_polarizability_volumes_are_understood(write, load):
    frames = waters(1)
    frames[0].info["polarizability"] = np.eye(3) * 9.8
    data = load(write(frames), units={"polarizability": "Bohr^3"})
    assert float(data[0].polarizability[0, 0, 0]) == pytest.approx(9.8 * 0.010290858)


class TestStress:
    def voigt(self, order):
        names = ["xx", "yy", "zz", "yz", "xz", "xy"]
        return [names.index(word) for word in order.split()]

    def stress(self, data, frame=3):
        return data[frame].stress[0].numpy()

    def test_matrix_and_voigt_agree(self, write, load):
        frames = strained_copper(6)
        expected = frames[3].get_stress(voigt=False)
        np.testing.assert_allclose(self.stress(load(write(frames))), expected, atol=1e-8)
        for atoms in frames:
            six = atoms.get_stress()
            del atoms.calc.results["stress"]
            atoms.info["REF_stress"] = six
        np.testing.assert_allclose(self.stress(load(write(frames))), expected, atol=1e-8)

    def test_foreign_sign_order_and_unit(self, write, load):
        frames = strained_copper(6)
        order = "xx yy zz xy yz xz"
        for atoms in frames:
            six = atoms.get_stress()[self.voigt(order)]
            del atoms.calc.results["stress"]
            atoms.info["REF_stress"] = -six / GPa * 10  # kbar
        data = load(
            write(frames),
            units={"stress": "kbar"},
            stress_convention={"sign": "compression", "order": order},
        )
        expected = strained_copper(6)[3].get_stress(voigt=False)
        np.testing.assert_allclose(self.stress(data), expected, atol=1e-8)

    def test_virial_becomes_stress(self, write, load):
        frames = strained_copper(6)
        for atoms in frames:
            virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
            del atoms.calc.results["stress"]
            atoms.info["REF_virial"] = virial
        data = load(write(frames))
        assert data.label_names == ("energy", "forces", "stress")
        expected = strained_copper(6)[3].get_stress(voigt=False)
        np.testing.assert_allclose(self.stress(data), expected, atol=1e-7)
        reason = data.provenance["keys"]["stress"][0]["reason"]
        assert reason == "found in info as 'REF_virial'; stress = -virial / volume"

    def test_no_stress_without_periodicity(self, write, load):
        frames = strained_copper(6)
        frames[2].pbc = False
        data = load(write(frames))
        assert [bool(data[i].stress_mask) for i in range(4)] == [True, True, False, True]
        assert "the stress of 1 frames without pbc is not used" in data.provenance["notes"][0]

    def test_asymmetric_stress_is_said(self, write, load):
        frames = strained_copper(2)
        for atoms in frames:
            del atoms.calc.results["stress"]
            atoms.info["REF_stress"] = np.array([[1, 2, 0], [0, 1, 0], [0, 0, 1.0]]) * 1e-2
        data = load(write(frames))
        assert "the stress of 2 frames (first 0) is not symmetric" in data.provenance["notes"][0]
        assert float(data[0].stress[0, 0, 1]) == pytest.approx(0.01)

    def test_wrong_size(self, write, load):
        frames = strained_copper(2)
        frames[1].info["REF_virial"] = np.zeros(5)
        frames[0].info["REF_virial"] = np.zeros(6)
        with pytest.raises(ValueError, match="'REF_virial' has 5 numbers where label 'virial' nee"):
            load(write(frames))

    def test_wrong_order_is_refused(self, load):
        with pytest.raises(ValueError, match="must name xx yy zz yz xz xy once each"):
            load("x", stress_convention={"order": "xx yy zz xy xy xz"})
