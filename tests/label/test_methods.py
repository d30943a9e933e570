"""Methods: forces and stress are derivatives, units are right, wrong names are answered."""

import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.units import Bohr, Hartree

from dreibein.label import make_method

DFT = "PBE/sto-3g"


def prepared(atoms, charge=0, spin=1, rattle=0.05):
    atoms = atoms.copy()
    atoms.rattle(rattle, seed=1)
    atoms.info |= {"charge": charge, "spin": spin}
    return atoms


def labels(method, atoms, positions=None):
    level = make_method(method)
    level.check(atoms)
    return level.calculation(atoms).labels(atoms.positions if positions is None else positions)


def numerical_force(method, atoms, atom, axis, step=2e-3):
    """Fourth-order difference of the energy."""
    calculation = make_method(method).calculation(atoms)
    energies = []
    for k in (1, -1, 2, -2):
        positions = atoms.positions.copy()
        positions[atom, axis] += k * step
        energies.append(calculation.labels(positions).energy)
    one, back, two, back_two = energies
    return -(8 * (one - back) - (two - back_two)) / (12 * step)


@pytest.fixture(scope="module", autouse=True)
def programs():
    pytest.importorskip("tblite", reason="tblite is not installed (extra label)")


@pytest.fixture
def pyscf():
    return pytest.importorskip("pyscf", reason="PySCF is not installed (extra dft)")


@pytest.mark.parametrize("method", ["GFN2-xTB", "GFN1-xTB"])
@pytest.mark.parametrize(
    ("name", "charge", "spin"), [("CH3CH2OH", 0, 1), ("OH", 0, 2), ("OH", -1, 1)]
)
def test_xtb_forces_are_minus_the_gradient(method, name, charge, spin):
    atoms = prepared(molecule(name), charge, spin)
    forces = labels(method, atoms).forces
    for atom, axis in ((0, 2), (1, 1)):
        assert forces[atom, axis] == pytest.approx(
            numerical_force(method, atoms, atom, axis), abs=2e-6
        )


@pytest.mark.parametrize(
    ("name", "spin", "method"),
    [("H2", 1, DFT), ("H2O", 1, DFT), ("CH3", 2, "SVWN/sto-3g"), ("H2O", 1, "HF/6-31G")],
)
def test_dft_forces_are_minus_the_gradient(pyscf, name, spin, method):
    """Only with the response of the grid: without it this fails at 1e-4 eV/Å."""
    atoms = prepared(molecule(name), spin=spin)
    found = labels(method, atoms)
    assert found.forces[0, 2] == pytest.approx(numerical_force(method, atoms, 0, 2), abs=3e-5)
    assert np.abs(found.forces.sum(axis=0)).max() < 1e-8


def test_dft_knows_core_potentials(pyscf):
    atoms = prepared(Atoms("HI", [[0, 0, 0], [0, 0, 1.6]]))
    found = labels("HF/def2-SVP", atoms)
    assert found.energy / Hartree == pytest.approx(-297.8, abs=1.0)  # 28 electrons are replaced


def test_stress_is_the_strain_derivative():
    atoms = prepared(bulk("Si", cubic=True))
    found = labels("GFN1-xTB", atoms)
    step = 1e-4
    for i, j in ((0, 0), (1, 2)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(labels("GFN1-xTB", strained).energy)
        slope = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
        assert found.stress[i, j] == pytest.approx(slope, abs=2e-6)
    assert found.dipole is None


def test_xtb_dipole_is_the_field_derivative():
    """E(F) = E - mu F, with a field F in V/Å: settles sign and unit (e·Å)."""
    from tblite.interface import Calculator
    from tblite.library import ffi

    atoms = prepared(molecule("H2O"))
    found = labels("GFN2-xTB", atoms)
    field = 0.005  # V/Å
    energies = []
    for sign in (1, -1):
        calculator = Calculator("GFN2-xTB", atoms.numbers, atoms.positions / Bohr)
        calculator.set("verbosity", 0)
        calculator.set("accuracy", 0.01)
        calculator.add(
            "electric-field", ffi.new("double[3]", [0, 0, sign * field * Bohr / Hartree])
        )
        energies.append(calculator.singlepoint().get("energy") * Hartree)
    assert found.dipole[2] == pytest.approx(-(energies[0] - energies[1]) / (2 * field), abs=1e-4)


def test_dft_dipole_is_the_field_derivative(pyscf):
    from pyscf import gto, scf

    atoms = prepared(molecule("H2O"))
    found = labels("HF/sto-3g", atoms)
    field = 1e-3  # Hartree / (e Bohr)
    energies = []
    for sign in (1, -1):
        water = gto.M(atom=list(zip(atoms.symbols, atoms.positions)), basis="sto-3g", verbose=0)
        mean_field = scf.RHF(water)
        core = mean_field.get_hcore() + sign * field * water.intor("int1e_r")[2]
        mean_field.get_hcore = lambda *_, core=core: core
        mean_field.conv_tol = 1e-12
        nuclei = sign * field * water.atom_charges() @ water.atom_coords()[:, 2]
        energies.append(mean_field.kernel() - nuclei)
    slope = -(energies[0] - energies[1]) / (2 * field) * Bohr
    assert found.dipole[2] == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("method", ["GFN2-xTB", "HF/sto-3g"])
@pytest.mark.parametrize("charge", [0, 1])
def test_charges_sum_to_the_total_charge(method, charge):
    if "/" in method:
        pytest.importorskip("pyscf", reason="PySCF is not installed (extra dft)")
    found = labels(method, prepared(molecule("H2O"), charge, 1 + charge))
    assert found.charges.sum() == pytest.approx(charge, abs=1e-6)
    assert found.charges[0] < found.charges[1]  # oxygen takes electrons


@pytest.mark.parametrize("method", ["GFN2-xTB", DFT])
def test_labels_are_a_function_of_the_positions_alone(method):
    """A start from the last solution serves dynamics only."""
    if "/" in method:
        pytest.importorskip("pyscf", reason="PySCF is not installed (extra dft)")
    atoms = prepared(molecule("H2O"))
    calculation = make_method(method).calculation(atoms)
    fresh = calculation.labels(atoms.positions)
    calculation.energy_and_forces(1.05 * atoms.positions)
    warm, forces = calculation.energy_and_forces(atoms.positions)
    again = calculation.labels(atoms.positions)
    assert again.energy == fresh.energy
    np.testing.assert_array_equal(again.forces, fresh.forces)
    assert warm == pytest.approx(fresh.energy, abs=1e-4)
    np.testing.assert_allclose(forces, fresh.forces, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("GFN2-xBT", "'GFN2-xBT' is no method; nearest are GFN2-xTB"),
        ("gfn2", "nearest are GFN2-xTB"),
        ("GFN2-xTB/def2-SVP", "GFN2-xTB takes no basis set: leave '/def2-SVP' away"),
        ("PBE", "'PBE' lacks its basis set: write PBE/def2-SVP"),
        ("foo", "nearest are GFN2-xTB and PBE/def2-SVP"),
        ("", "'' is no method"),
    ],
)
def test_wrong_names_are_answered(name, said):
    with pytest.raises(ValueError, match=said):
        make_method(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("PBEE/def2-SVP", "'PBEE' is no density functional .* nearest are PBE,"),
        ("wB97X-D/def2-SVP", "'wB97X-D' is no density functional .* wB97X"),
        ("PBE/def2-SVVP", "'def2-SVVP' is no basis set that PySCF has; nearest are def2-SVP"),
    ],
)
def test_wrong_functionals_and_bases_are_answered(pyscf, name, said):
    with pytest.raises(ValueError, match=said):
        make_method(name)


@pytest.mark.parametrize(
    ("method", "module", "said"),
    [
        ("GFN2-xTB", "tblite.interface", r"tblite: pip install \"dreibein\[label\]\""),
        ("PBE/def2-SVP", "pyscf.gto", r"PySCF: pip install \"dreibein\[dft\]\""),
        ("PBE-D3BJ/def2-SVP", "pyscf.dispersion", "pip install pyscf-dispersion"),
    ],
)
def test_a_missing_package_names_its_extra(monkeypatch, method, module, said):
    if module == "pyscf.dispersion":
        pytest.importorskip("pyscf", reason="PySCF is not installed (extra dft)")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=said):
        make_method(method)


@pytest.mark.parametrize(
    ("atoms", "method", "said"),
    [
        (prepared(molecule("OH")), "GFN2-xTB", "HO with a charge of .0 has 9 electrons"),
        (prepared(molecule("H2"), charge=0.5), "GFN2-xTB", "0.5 e is no whole number"),
        (prepared(Atoms("UF", [[0, 0, 0], [0, 0, 2]]), spin=2), "GFN2-xTB", "H to Rn"),
        (
            prepared(Atoms("H2", [[0, 0, 0], [0, 0, 1]], cell=[5, 5, 5], pbc=[1, 1, 0])),
            "GFN2-xTB",
            "periodic in 2; set pbc to all or none",
        ),
    ],
)
def test_structures_that_a_method_cannot_treat(atoms, method, said):
    with pytest.raises(ValueError, match=said):
        make_method(method).check(atoms)


def test_dft_refuses_cells_and_elements_without_functions(pyscf):
    with pytest.raises(ValueError, match="PBE/def2-SVP is for molecules and the structure is peri"):
        make_method("PBE/def2-SVP").check(prepared(bulk("Si")))
    uranium = prepared(Atoms("UF", [[0, 0, 0], [0, 0, 2]]), spin=2)
    with pytest.raises(ValueError, match="the basis def2-SVP has no functions for U"):
        make_method("PBE/def2-SVP").check(uranium)
