"""Labels against each other: right data pass, and each deliberate corruption is caught."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.units import GPa, Hartree, kcal, mol

from dreibein.data import DataConfig, load_data
from dreibein.data.consistency import check_forces, check_stress
from dreibein.data.pairs import force_work, like_frames, near_pairs, stress_work
from dreibein.data.table import Column

from .conftest import strained_copper, waters

KCAL = kcal / mol
SHEARS = {"yz": (1, 2), "xz": (0, 2), "xy": (0, 1)}


def changed(table, **columns):
    """The table with other values in some columns."""
    new = {
        n: Column(v, table.columns[n].mask, table.columns[n].per_atom) for n, v in columns.items()
    }
    return replace(table, columns={**table.columns, **new})


def values(table, name):
    return table.columns[name].values


def exchanged(stress, a, b):
    """Two shear components exchanged."""
    out = stress.copy()
    for one, other in ((a, b), (b, a)):
        (i, j), (k, m) = SHEARS[one], SHEARS[other]
        out[:, i, j] = out[:, j, i] = stress[:, k, m]
    return out


@pytest.fixture(scope="module")
def copper():
    from dreibein.data.interpret import interpret
    from dreibein.data.raw import Collector

    return table_of(strained_copper(60), interpret, Collector)


def table_of(frames, interpret, collector_type):
    collector = collector_type("memory")
    for atoms in frames:
        collector.add(atoms)
    raw = collector.finish("ASE", "", convention={"length": "Å", "energy": "eV"})
    return interpret(raw, DataConfig(sources="memory"))[0]


@pytest.fixture(scope="module")
def water():
    from dreibein.data.interpret import interpret
    from dreibein.data.raw import Collector

    random = np.random.default_rng(5)
    frames = waters(60, amplitude=0.05)
    for atoms in frames:  # orientation and place must not matter
        atoms.rotate(random.uniform(0, 360), random.normal(size=3), rotate_cell=False)
        atoms.translate(random.normal(size=3))
        atoms.calc.results["forces"] = forces_again(atoms)
    return table_of(frames, interpret, Collector)


def forces_again(atoms):
    fresh = atoms.copy()
    fresh.calc = EMT()
    atoms.calc.atoms = fresh.copy()
    return fresh.get_forces()


class TestWork:
    def test_the_trapezoid_rule_is_third_order(self, copper):
        (members,) = like_frames(copper)
        pairs = near_pairs(copper, members, strained=True)
        energy = values(copper, "energy")
        change = energy[pairs.second] - energy[pairs.first]
        work = force_work(copper, pairs) + stress_work(copper, pairs, values(copper, "stress"))
        size = np.sqrt((pairs.strain**2).sum((1, 2)))
        small = size < 0.02
        assert small.sum() > 20
        assert np.abs(change - work)[small].max() < 2e-4
        assert np.abs(change)[small].max() > 0.01

    def test_a_turned_cell_is_turned_back(self):
        from dreibein.data.interpret import interpret
        from dreibein.data.raw import Collector

        frames = strained_copper(12)
        for k, atoms in enumerate(frames):
            atoms.rotate(25 * k, (1, 2, 3), rotate_cell=True)
            fresh = atoms.copy()
            fresh.calc = EMT()
            results = {
                "energy": fresh.get_potential_energy(),
                "forces": fresh.get_forces(),
                "stress": fresh.get_stress(),
            }
            atoms.calc.results.update(results)
        table = table_of(frames, interpret, Collector)
        (members,) = like_frames(table)
        pairs = near_pairs(table, members, strained=True)
        energy = values(table, "energy")
        change = energy[pairs.second] - energy[pairs.first]
        work = stress_work(table, pairs, values(table, "stress"))
        small = np.sqrt((pairs.strain**2).sum((1, 2))) < 0.03
        assert small.sum() > 4
        np.testing.assert_allclose(work[small], change[small], atol=1e-3)
        assert np.abs(change[small]).max() > 0.02

    def test_molecules_are_superposed(self, water):
        (members,) = like_frames(water)
        pairs = near_pairs(water, members)
        assert pairs.rms.max() < 0.1
        energy = values(water, "energy")
        change = energy[pairs.second] - energy[pairs.first]
        assert np.abs(change - force_work(water, pairs)).max() < 0.1 * np.abs(change).max()


class TestForces:
    def test_right_labels_pass(self, water, copper):
        for table in (water, copper):
            finding = check_forces(table)
            assert finding.severity == "info"
        assert check_forces(water).message.startswith("energy differences follow the work of the")

    @pytest.mark.parametrize(
        ("label", "factor", "cause"),
        [
            ("forces", -1.0, "the forces have the wrong sign: energy rises along them"),
            ("forces", 1 / KCAL, "the forces are in kcal/mol/Å while the energy is in eV"),
            ("energy", 1 / KCAL, "the energy is in kcal/mol while the forces are in eV/Å"),
            ("energy", 1 / Hartree, "the forces are in eV/Å while the energy is in Ha"),
            ("forces", 1 / Hartree, "the energy is in eV while the forces are in Ha/Å"),
            ("forces", 0.529177 / Hartree, "the energy is in eV while the forces are in Ha/Bohr"),
            ("forces", 0.529177, "the forces are per Bohr while the positions are in Å"),
        ],
    )
    def test_mutants_are_refused(self, water, label, factor, cause):
        finding = check_forces(changed(water, **{label: values(water, label) * factor}))
        assert finding.severity == "refusal"
        assert finding.label == "forces"
        assert cause in finding.message

    def test_other_factors_are_a_warning(self, water):
        finding = check_forces(changed(water, forces=values(water, "forces") * 4.0))
        assert finding.severity == "warning"
        assert "belong to different methods or units" in finding.message
        assert finding.frames

    def test_noise_cannot_be_judged(self, water):
        random = np.random.default_rng(0)
        finding = check_forces(changed(water, energy=random.normal(size=len(water))))
        assert finding.severity == "info"
        assert "cannot be checked because near frames are too far apart" in finding.message

    def test_too_few_frames(self, water):
        finding = check_forces(water.select(range(5)))
        assert finding.message == "cannot be checked because only 5 frames have both"
        lonely = water.select(np.arange(20))
        lonely.pos[:] += np.random.default_rng(0).normal(size=lonely.pos.shape)
        assert "no two frames of the same atoms are near enough" in check_forces(lonely).message
        bare = replace(water, columns={"energy": water.columns["energy"]})
        assert check_forces(bare) is None


class TestStress:
    def test_right_labels_are_confirmed(self, copper):
        finding = check_stress(copper)
        assert finding.severity == "info"
        assert "tension is positive, order xx yy zz yz xz xy confirmed" in finding.message

    def test_mutants_are_refused(self, copper):
        stress = values(copper, "stress")
        mutants = {
            "its sign is compression positive: --stress-sign compression": -stress,
            "it is in GPa and not in eV/Å^3: --unit stress=GPa": stress / GPa,
            "it is in kbar and not in eV/Å^3: --unit stress=kbar": stress / GPa * 10,
            "times too large for the energies: check its unit": stress * 7,
        }
        for a, b in itertools.combinations(SHEARS, 2):
            order = " ".join({a: b, b: a}.get(w, w) for w in ["xx", "yy", "zz", "yz", "xz", "xy"])
            mutants[f"exchanged (rms error * : --stress-order '{order}'"] = exchanged(stress, a, b)
        for told, mutant in mutants.items():
            finding = check_stress(changed(copper, stress=mutant))
            assert finding.severity == "refusal", told
            assert finding.label == "stress"
            for part in told.split(" * "):
                assert part in finding.message

    def test_all_at_once(self, copper):
        mutant = -exchanged(values(copper, "stress"), "yz", "xy") / GPa
        message = check_stress(changed(copper, stress=mutant)).message
        assert "--stress-sign compression" in message
        assert "--unit stress=GPa" in message
        assert "--stress-order 'xx yy zz xy xz yz'" in message

    def test_the_advice_starts_from_what_was_declared(self, copper):
        mutant = exchanged(values(copper, "stress"), "yz", "xz")
        message = check_stress(changed(copper, stress=mutant), "xx yy zz xy yz xz").message
        assert "--stress-order 'xx yy zz xy xz yz'" in message

    def test_honest_when_impossible(self, copper, water):
        assert check_stress(water) is None
        same = copper.select([0] * 12)
        assert "cannot be checked because no two frames" in check_stress(same).message
        bare = replace(copper, columns={"stress": copper.columns["stress"]})
        assert "because there are no energies to compare with" in check_stress(bare).message
        assert "fewer than two frames have both" in check_stress(copper.select([0])).message
        straight = copper.select([f for f in range(len(copper)) if f % 6 < 3])
        message = check_stress(straight).message
        assert "tension is positive" in message
        assert "order of the shear components cannot be checked because frames have no" in message
        noise = np.random.default_rng(0).normal(size=(len(copper), 3, 3))
        noise = changed(copper, stress=noise + noise.transpose(0, 2, 1))
        assert "energies do not follow the stress" in check_stress(noise).message


class TestSharedMetals:
    def test_molybdenum_is_confirmed_and_its_mutants_are_not(self, shared):
        path = shared / "data" / "mlearn_Mo" / "training.extxyz"
        table = load_data(DataConfig(sources=str(path))).table()
        finding = check_stress(table)
        assert "tension is positive, order xx yy zz yz xz xy confirmed" in finding.message
        for a, b in itertools.combinations(SHEARS, 2):
            mutant = changed(table, stress=exchanged(values(table, "stress"), a, b))
            assert check_stress(mutant).severity == "refusal"
        assert check_stress(changed(table, stress=-values(table, "stress"))).severity == "refusal"
        assert check_forces(table).severity == "info"

    def test_silicon_has_two_shears_exchanged(self, shared):
        """A shear in xz (cell vector c along x) stands under yz in the file, 113 pairs say."""
        path = str(shared / "data" / "mlearn_Si" / "training.extxyz")
        finding = check_stress(load_data(DataConfig(sources=path)).table())
        assert finding.severity == "refusal"
        assert "--stress-order 'xx yy zz xz yz xy'" in finding.message
        order = "xx yy zz xz yz xy"
        declared = load_data(DataConfig(sources=path, stress_convention={"order": order}))
        finding = check_stress(declared.table(), order)
        assert f"tension is positive, order {order} confirmed" in finding.message
