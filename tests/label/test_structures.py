"""Where a run starts."""

from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from dreibein.label import LabelConfig
from dreibein.label.frames import frames_of_trajectory
from dreibein.label.sampling import begin
from dreibein.label.structures import frames_of_file, starting_structures


def test_both_wells_of_ethanol_are_starts():
    """At 500 K the O-H leaves its well too seldom for a few ps to find the other."""
    pytest.importorskip("rdkit", reason="rdkit is not installed (extra label)")
    starts = starting_structures(LabelConfig(structure="CCO"))
    torsions = sorted(min(t, 360 - t) for t in (a.get_dihedral(0, 1, 2, 8) for a in starts))
    np.testing.assert_allclose(torsions, [60, 180], atol=10)


def test_a_file_gives_its_last_frame_with_its_cell(tmp_path):
    path = tmp_path / "frames.extxyz"
    crystal = bulk("Si", cubic=True)
    crystal.info |= {"config_type": "crystal", "energy": -1.0}
    ase.io.write(path, [molecule("H2O"), crystal])
    (start,) = starting_structures(LabelConfig(structure=str(path)))
    np.testing.assert_allclose(start.cell.array, crystal.cell.array)
    assert start.pbc.all()
    assert start.info == {"charge": 0, "spin": 1, "config_type": "crystal"}


def test_a_slice_of_a_file_gives_its_frames_spread_evenly(tmp_path):
    path = tmp_path / "frames.extxyz"
    frames = [Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7 + 0.01 * k]]) for k in range(10)]
    ase.io.write(path, frames)

    def lengths(where: str, trajectories: int) -> list[float]:
        config = LabelConfig(structure=f"{path}{where}", trajectories=trajectories)
        return [round(atoms.get_distance(0, 1), 2) for atoms in starting_structures(config)]

    assert lengths("@:3", 20) == [0.7, 0.71, 0.72]
    assert lengths("@:", 4) == [0.7, 0.72, 0.75, 0.77]
    assert lengths("@3", 20) == [0.73]
    assert lengths("", 20) == [0.79]


def test_colons_in_the_name_of_a_file_are_no_slice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("a:3.xyz", [molecule("H2O"), molecule("CH4")], format="extxyz")
    (start,) = starting_structures(LabelConfig(structure="./a:3.xyz"))
    assert start.get_chemical_formula() == "CH4"


def test_frames_keep_the_config_type_of_their_start():
    config = LabelConfig(structure="O", frames=1, trajectories=1)
    kinds = []
    for info in ({}, {"config_type": "crystal"}):
        atoms = molecule("H2O")
        atoms.info |= {"charge": 0, "spin": 1, **info}
        done = replace(begin(0, atoms, config), frames=[atoms.positions], times_fs=[50.0])
        (frame,) = frames_of_trajectory(done, 4, config, "GFN2-xTB", "GFN2-xTB")
        kinds.append(frame.info["config_type"])
    assert kinds == ["conformer4", "crystal"]


def test_charge_and_spin_of_the_options_win(tmp_path):
    path = tmp_path / "oh.xyz"
    ase.io.write(path, molecule("OH"))
    (start,) = starting_structures(LabelConfig(structure=str(path), charge=-1, spin=3))
    assert start.info == {"charge": -1, "spin": 3}


def test_charges_are_found_under_their_usual_names(tmp_path):
    path = tmp_path / "frames.extxyz"
    frames = [molecule("OH"), molecule("OH")]
    frames[0].info["total_charge"] = -1
    frames[1].info["multiplicity"] = 2
    ase.io.write(path, frames)
    first, second = frames_of_file(LabelConfig(structure=str(path), single_points=True))
    assert first.info == {"charge": -1, "spin": 1}
    assert second.info == {"charge": 0, "spin": 2}


def test_a_file_may_name_its_frames(tmp_path):
    path = tmp_path / "frames.extxyz"
    ase.io.write(path, [molecule(name) for name in ("H2O", "CH4", "NH3", "H2")])
    found = frames_of_file(LabelConfig(structure=f"{path}@1:3", single_points=True))
    assert [atoms.get_chemical_formula() for atoms in found] == ["CH4", "H3N"]


def test_a_file_that_breaks_off_names_the_frame(tmp_path):
    path = tmp_path / "frames.extxyz"
    ase.io.write(path, [molecule("H2O")] * 3)
    path.write_text("\n".join(path.read_text().splitlines()[:-2]))
    with pytest.raises(ValueError, match=r"frames.extxyz: frame \d cannot be read"):
        frames_of_file(LabelConfig(structure=str(path), single_points=True))
