"""LAMMPS gives the numbers of the ASE calculator, virial included, on one rank and on two."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ase.build
import ase.io
import ase.units
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from dreibein.models import TensorNetConfig, build_potential, save_model
from dreibein.simulate import Calculator
from dreibein.simulate.lammps_fix import lammps_fix, lammps_system, open_lammps
from dreibein.systems.units import conversion_factor

SKEWED = [[2.6, 0.0, 0.0], [0.9, 2.7, 0.0], [0.4, 0.7, 2.9]]  # Å, smaller than the cutoff
QUIET = ("-log", "none", "-screen", "none")


@pytest.fixture(autouse=True)
def _engine():
    pytest.importorskip("lammps", reason='needs LAMMPS: pip install "dreibein[lammps]"')


@pytest.fixture
def start():
    """`lammps_system`, closed in the end."""
    running = []

    def start(*args, **kwargs):
        running.append(lammps_system(*args, **kwargs))
        return running[-1]

    yield start
    for lmp in running:
        lmp.close()


def forces_of(lmp):
    return np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)


def pressure_of(lmp):
    """Tensor xx yy zz yz xz xy in bar, kinetic part included."""
    return np.array([lmp.get_thermo(k) for k in ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")])


@pytest.mark.parametrize("kind", ["cluster", "crystal", "skewed", "charged", "slab"])
def test_energy_forces_and_virial_are_those_of_ase(start, potential, cluster, crystal, kind):
    skewed = Atoms("CuAg", [[0.1, 0.0, 0.0], [1.3, 1.4, 1.2]], cell=SKEWED, pbc=True)
    charged = cluster.copy()
    charged.info["charge"] = 1
    slab = crystal.copy()
    slab.pbc = [True, True, False]
    atoms = {
        "cluster": cluster,
        "crystal": crystal,
        "skewed": skewed,
        "charged": charged,
        "slab": slab,
    }[kind]
    atoms.positions[0] -= atoms.cell.array[0]  # outside the box, for those that have one
    lmp = start(potential, atoms)
    lmp.command("run 0")
    atoms.calc = Calculator(potential)
    assert lmp.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    assert np.abs(forces_of(lmp)).max() > 1e-3
    np.testing.assert_allclose(forces_of(lmp), atoms.get_forces(), atol=1e-10)
    if atoms.pbc.all():
        expected = -atoms.get_stress() * conversion_factor("eV/Å^3", "bar")
        assert np.abs(expected).max() > 1e3
        np.testing.assert_allclose(pressure_of(lmp), expected, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize(("units", "energy"), [("real", "kcal/mol"), ("electron", "Ha")])
def test_other_units(potential, cluster, units, energy):
    length = conversion_factor("Å", {"real": "Å", "electron": "Bohr"}[units])
    lmp = open_lammps(*QUIET)
    lmp.commands_list(
        [
            *(f"units {units}", "atom_style atomic", "boundary s s s", "pair_style none"),
            *("region b block -20 20 -20 20 -20 20 units box", "create_box 2 b", "mass * 60"),
        ]
    )
    types = [1 if s == "Cu" else 2 for s in cluster.get_chemical_symbols()]
    x = (cluster.positions * length).ravel().tolist()
    lmp.create_atoms(13, list(range(1, 14)), types, x)
    lammps_fix(lmp, potential, ["Cu", "Ag"], fix="model")
    lmp.command("run 0")
    cluster.calc = Calculator(potential)
    factor = conversion_factor("eV", energy)
    expected = cluster.get_forces() * factor / length
    assert lmp.get_thermo("pe") == pytest.approx(cluster.get_potential_energy() * factor, rel=1e-10)
    np.testing.assert_allclose(forces_of(lmp), expected, rtol=1e-8, atol=1e-9)
    lmp.close()


def test_nve_is_the_trajectory_of_ase_and_conserves_energy(start, potential, crystal):
    crystal.calc = Calculator(potential)
    MaxwellBoltzmannDistribution(crystal, temperature_K=300, rng=np.random.default_rng(0))
    lmp = start(potential, crystal)
    lmp.commands_list(["timestep 0.002", "fix nve all nve", "thermo 10", "run 0"])
    before = lmp.get_thermo("etotal")
    lmp.command("run 100")
    VelocityVerlet(crystal, 2 * ase.units.fs).run(100)
    velocities = np.array(lmp.gather_atoms("v", 1, 3)).reshape(-1, 3)  # Å/ps
    expected = crystal.get_velocities() * 1e3 * ase.units.fs
    np.testing.assert_allclose(velocities, expected, atol=1e-5)
    energies = []
    for _ in range(10):
        lmp.command("run 20")
        energies.append(lmp.get_thermo("etotal"))
    assert np.abs(np.array(energies) - before).max() / len(crystal) < 2e-4


def test_a_barostat_sees_the_virial(start, potential, crystal):
    """A crystal compressed by 10% expands when the barostat holds no pressure."""
    crystal.set_cell(crystal.cell.array * 0.9, scale_atoms=True)
    MaxwellBoltzmannDistribution(crystal, temperature_K=200, rng=np.random.default_rng(0))
    lmp = start(potential, crystal)
    lmp.commands_list(["timestep 0.002", "fix npt all npt temp 200 200 0.1 iso 0 0 0.5", "run 200"])
    assert lmp.get_thermo("vol") > 1.05 * crystal.get_volume()


RANKS = """
import json, sys
import ase.io
from dreibein.simulate.lammps_fix import lammps_system
lmp = lammps_system("model.safetensors", ase.io.read("start.xyz"))
lmp.commands_list(["fix nve all nve", "timestep 0.002", "run 5"])
found = {name: list(lmp.gather_atoms(name, 1, 3)) for name in "xf"}
found["pressure"] = [lmp.get_thermo(k) for k in ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")]
found |= {"energy": lmp.get_thermo("etotal"), "ranks": lmp.extract_setting("world_size")}
found["local"] = lmp.extract_setting("nlocal")
if lmp.extract_setting("world_rank") == 0:
    json.dump(found, open("two.json", "w"))
lmp.close()
"""


def test_two_ranks_are_one(start, tmp_path):
    mpirun = shutil.which("mpirun", path=Path(sys.executable).parent) or shutil.which("mpirun")
    if mpirun is None:
        pytest.skip('needs mpirun: pip install "dreibein[lammps]"')
    torch.manual_seed(0)
    config = TensorNetConfig(channels=8, layers=2, num_radial=6, cutoff=4.0)
    model = build_potential(config, elements=(29,), scale=3.0, dtype=torch.float64)
    save_model(model, tmp_path / "model.safetensors")
    atoms = ase.build.bulk("Cu", "fcc", a=3.6, cubic=True).repeat((3, 2, 2))
    atoms.rattle(0.1, seed=0)
    atoms.write(tmp_path / "start.xyz")
    done = subprocess.run(
        [mpirun, "-n", "2", sys.executable, "-c", RANKS],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-1000:]
    two = json.loads((tmp_path / "two.json").read_text())
    lmp = start(model, ase.io.read(tmp_path / "start.xyz"))
    lmp.commands_list(["fix nve all nve", "timestep 0.002", "run 5"])
    assert two["ranks"] == 2
    assert 0 < two["local"] < len(atoms)
    assert two["energy"] == pytest.approx(lmp.get_thermo("etotal"), rel=1e-10)
    assert np.abs(forces_of(lmp)).max() > 1e-3
    for name in "xf":
        np.testing.assert_allclose(two[name], list(lmp.gather_atoms(name, 1, 3)), atol=1e-9)
    np.testing.assert_allclose(two["pressure"], pressure_of(lmp), rtol=1e-8)


def test_a_failure_stops_the_run_and_is_raised(start, potential, cluster):
    lmp = start(potential, cluster)
    lmp.commands_list(["fix nve all nve", "run 5"])
    lmp.commands_list(["group one id 5", "delete_atoms group one compress no"])
    with pytest.raises(ValueError, match="'reset_atoms id'"):
        lmp.command("run 1000")
    assert lmp.extract_global("ntimestep") < 100
    lmp.commands_list(["reset_atoms id", "run 0"])


def test_errors_are_one_sentence(potential, cluster, crystal):
    with pytest.raises(ValueError, match="Au"):
        lammps_system(potential, Atoms("Au"))
    lmp = open_lammps(*QUIET)
    with pytest.raises(ValueError, match="begin the input with 'units metal'"):
        lammps_fix(lmp, potential, ["Cu"])
    lmp.command("units metal")
    with pytest.raises(ValueError, match="no box yet"):
        lammps_fix(lmp, potential, ["Cu"])
    lmp.commands_list(["region b block 0 1 0 1 0 1", "create_box 2 b"])
    with pytest.raises(ValueError, match="1 elements are named for 2 LAMMPS atom types"):
        lammps_fix(lmp, potential, ["Cu"])
    with pytest.raises(ValueError, match="'Xy' is no chemical symbol"):
        lammps_fix(lmp, potential, ["Cu", "Xy"])
    lmp.close()
    cluster.pbc = True
    with pytest.raises(ValueError, match="0 of 3 cell vectors"):
        lammps_system(potential, cluster)
    cluster.pbc = [False, True, False]
    with pytest.raises(ValueError, match="cell vector b is missing"):
        lammps_system(potential, cluster)
    crystal.rotate(10, "x", rotate_cell=True)
    with pytest.raises(ValueError, match="standard_box"):
        lammps_system(potential, crystal)


def test_without_lammps_the_extra_is_named(potential, cluster, monkeypatch):
    monkeypatch.setitem(sys.modules, "lammps", None)
    with pytest.raises(ImportError, match=r'pip install "dreibein\[lammps\]"'):
        lammps_system(potential, cluster)
