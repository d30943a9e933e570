"""Labeled files: the same bytes whatever happens, and a sentence where nothing can happen."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from dreibein.label import LabelConfig, Labels, generate_labels, make_method
from dreibein.label.methods import Level
from dreibein.label.partial import PartialResults, partial_folder
from dreibein.label.workers import label_frames

WATER = {
    "structure": "O",
    "frames": 45,
    "trajectories": 4,
    "interval_fs": 10,
    "equilibration_fs": 20,
    "seed": 3,
}
# The parts of a trajectory are short, so that death comes in the middle of many.
PROGRAM = """
import sys
from dreibein.label import LabelConfig, generate, generate_labels
if __name__ == "__main__":
    generate._PART_S = 0.0
    generate_labels(LabelConfig({choices}), sys.argv[1], workers=2)
"""


@pytest.fixture(scope="module", autouse=True)
def programs():
    pytest.importorskip("tblite", reason="tblite is not installed (extra label)")
    pytest.importorskip("rdkit", reason="rdkit is not installed (extra label)")


@pytest.fixture(scope="module")
def water(tmp_path_factory):
    """A finished run of one worker: its output, its summary, and the progress it reported."""
    said = []
    output = tmp_path_factory.mktemp("label") / "water.extxyz"
    summary = generate_labels(
        LabelConfig(**WATER), output, workers=1, progress=lambda *args: said.append(args)
    )
    return output, summary, said


def test_the_file_reads_as_calculator_results(water):
    output, summary, _ = water
    frames = ase.io.read(output, ":")
    assert len(frames) == summary.frames == 45
    for atoms in frames:
        assert {"energy", "forces", "dipole", "charges"} <= set(atoms.calc.results)
    info = frames[-1].info
    assert (info["charge"], info["spin"], info["seed"]) == (0, 1, 3)
    assert (info["config_type"], info["trajectory"]) == ("conformer0", 3)
    assert (info["level_of_theory"], info["temperature"]) == ("GFN2-xTB", 500.0)
    assert info["time_fs"] == 20 + 11 * 10
    assert "Langevin" in info["sampling"]
    assert "interval 10 fs" in info["sampling"]


def test_labels_belong_to_the_positions_as_written(water):
    for atoms in ase.io.read(water[0], "::20"):
        found = make_method("GFN2-xTB").calculation(atoms).labels(atoms.positions)
        assert atoms.get_potential_energy() == pytest.approx(found.energy, abs=1e-9)
        np.testing.assert_allclose(atoms.get_forces(), found.forces, atol=1e-8)
        np.testing.assert_allclose(atoms.get_dipole_moment(), found.dipole, atol=1e-8)
        np.testing.assert_allclose(atoms.get_charges(), found.charges, atol=1e-8)


def test_progress_runs_to_its_end(water):
    _, _, said = water
    done = [done for done, _, _ in said]
    assert done == sorted(done)
    assert said[-1] == (90, 90, "GFN2-xTB")


def test_the_sidecar_tells_how_the_file_was_made(water):
    output, summary, _ = water
    stored = json.loads(output.with_name("water.extxyz.json").read_text())
    assert stored["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert stored["settings"]["seed"] == 3
    assert stored["settings"]["versions"]["tblite"]
    assert stored["summary"]["energy_autocorrelation"] == summary.energy_autocorrelation
    assert -1 < summary.energy_autocorrelation < 1
    assert summary.restarts_bonds == summary.restarts_convergence == summary.broken_frames == 0
    assert not partial_folder(output).exists()


def children(pid):
    """Process ids of all that descend from a process."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *children(child)]
    return found


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def killed_when(ready, script, output):
    """Run the script, kill -9 its process alone once `ready()`; returns its workers' ids."""
    with open(output.with_suffix(".log"), "w") as log:
        process = subprocess.Popen(
            [sys.executable, script, output],
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    try:
        until = time.monotonic() + 120
        while not ready():
            assert process.poll() is None, output.with_suffix(".log").read_text()
            assert time.monotonic() < until
            time.sleep(0.002)
        workers = children(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    return workers


def test_killed_twice_and_taken_up_with_two_workers_it_is_the_same_file(water, tmp_path):
    """kill -9 in the dynamics, kill -9 later in it, then to the end with another worker count."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(choices=", ".join(f"{k}={v!r}" for k, v in WATER.items())))
    output = tmp_path / "water.extxyz"
    folder = partial_folder(output)
    workers = killed_when(lambda: any(folder.glob("trajectory-*.npz")), script, output)
    first = [read_intervals(path) for path in sorted(folder.glob("trajectory-*.npz"))]
    assert 0 < sum(first) < 50
    workers += killed_when(
        lambda: sum(read_intervals(path) for path in folder.glob("trajectory-*.npz")) > sum(first),
        script,
        output,
    )
    assert not output.exists()
    until = time.monotonic() + 20
    while not all(map(gone, workers)):  # workers of a killed parent do not stay
        assert time.monotonic() < until
        time.sleep(0.05)
    assert len(workers) >= 2

    with pytest.raises(ValueError, match=r"begun with seed 3 \(now 4\); use the same settings"):
        generate_labels(LabelConfig(**WATER | {"seed": 4}), output)
    generate_labels(LabelConfig(**WATER), output, workers=2)
    assert output.read_bytes() == water[0].read_bytes()
    ours, theirs = (p.with_name("water.extxyz.json").read_bytes() for p in (output, water[0]))
    assert ours == theirs
    assert not folder.exists()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"program.py", "water.log", "water.extxyz", "water.extxyz.json"}


def read_intervals(path):
    with np.load(path) as stored:
        return json.loads(str(stored["whole"]))["interval"]


def test_a_finished_run_is_not_repeated(water):
    output, summary, _ = water
    before = output.stat().st_mtime_ns
    again = generate_labels(LabelConfig(**WATER), output, progress=lambda *_: pytest.fail("works"))
    assert again.model_dump(exclude={"seconds"}) == summary.model_dump(exclude={"seconds"})
    assert output.stat().st_mtime_ns == before


def test_a_finished_file_of_other_settings_is_not_replaced(water):
    output, _, _ = water
    content = output.read_bytes()
    with pytest.raises(ValueError, match=r"was made with temperature_k 500.0 \(now 300.0\)"):
        generate_labels(LabelConfig(**WATER, temperature_k=300), output)
    assert output.read_bytes() == content
    assert not partial_folder(output).exists()


def test_files_of_others_are_not_replaced(tmp_path):
    output = tmp_path / "mine.extxyz"
    output.write_text("precious")
    with pytest.raises(ValueError, match=r"mine.extxyz exists already: name another output"):
        generate_labels(LabelConfig(structure="O"), output)
    assert output.read_text() == "precious"


def test_two_processes_do_not_write_one_file(tmp_path):
    output = tmp_path / "water.extxyz"
    frames = tmp_path / "frames.xyz"
    ase.io.write(frames, molecule("H2O"))
    held = PartialResults(output, {})
    with pytest.raises(BlockingIOError, match=r"another process is writing .*water.extxyz"):
        generate_labels(LabelConfig(structure=str(frames), single_points=True), output)
    held.close()


def test_a_changed_structure_file_is_noticed(tmp_path):
    path, output = tmp_path / "water.xyz", tmp_path / "labels.extxyz"
    settings = LabelConfig(structure=str(path), frames=1)
    for shift in (0.0, 0.1):
        water = molecule("H2O")
        water.positions[0] += shift
        ase.io.write(path, water)
        if shift == 0.0:
            generate_labels(settings, output, workers=1)
    with pytest.raises(ValueError, match="was made with another geometry in the structure file"):
        generate_labels(settings, output)


def test_labels_are_kept_to_the_last_bit(tmp_path):
    random = np.random.default_rng(0)
    whole = Labels(1 / 3, random.normal(size=(2, 3)), random.normal(size=2), random.normal(size=3))
    crystal = Labels(-1e9 / 7, whole.forces, whole.charges, stress=random.normal(size=(3, 3)))
    partial = PartialResults(tmp_path / "out.extxyz", {"seed": 1})
    partial.save_labels(4, [whole, "no convergence", crystal])
    partial.close()
    taken_up = PartialResults(tmp_path / "out.extxyz", {"seed": 1})
    first, failure, last = taken_up.load_labels(4)
    assert failure == "no convergence"
    assert (first.energy, last.energy) == (whole.energy, crystal.energy)
    for name in ("forces", "charges", "dipole"):
        np.testing.assert_array_equal(getattr(first, name), getattr(whole, name))
    np.testing.assert_array_equal(last.stress, crystal.stress)
    assert first.stress is None
    assert last.dipole is None
    assert taken_up.load_labels(5) is None
    taken_up.close()
    emptied = PartialResults(tmp_path / "out.extxyz", {"seed": 2}, overwrite=True)
    assert emptied.load_labels(4) is None
    emptied.close()


def test_single_points_of_mixed_frames(tmp_path):
    """Molecules, an ion and a crystal in one file; a frame that cannot be labeled is left out."""
    hydroxide = molecule("OH")
    hydroxide.info |= {"charge": -1, "config_type": "ions", "REF_energy": -1.0, "energy": 5.0}
    ruined = Atoms("H2", np.zeros((2, 3)))
    crystal = bulk("C", cubic=True)
    crystal.rattle(0.03, seed=0)
    water = molecule("H2O")
    water.positions += [1.0, 2.0, 3.123456789]
    path, output = tmp_path / "frames.extxyz", tmp_path / "labels.extxyz"
    ase.io.write(path, [water, hydroxide, ruined, crystal], format="extxyz")
    settings = LabelConfig(structure=str(path), method="GFN1-xTB", single_points=True)
    summary = generate_labels(settings, output, workers=1)
    assert summary.failed == [2]
    assert (summary.frames, summary.sampler, summary.energy_autocorrelation) == (3, None, None)
    first, second, last = ase.io.read(output, ":")
    np.testing.assert_allclose(first.positions, water.positions, atol=1e-8)
    assert second.info["charge"] == -1
    assert second.info["config_type"] == "ions"
    assert "REF_energy" not in second.info
    assert second.get_charges().sum() == pytest.approx(-1.0, abs=1e-6)
    found = make_method("GFN1-xTB").calculation(last).labels(last.positions)
    voigt = last.get_stress()
    np.testing.assert_allclose(last.get_stress(voigt=False), found.stress, atol=1e-9)
    np.testing.assert_allclose(voigt[3], found.stress[1, 2], atol=1e-9)
    assert "dipole" not in last.calc.results


def test_overwrite_replaces_a_file_once_the_new_one_stands(tmp_path):
    path, output = tmp_path / "frames.xyz", tmp_path / "labels.extxyz"
    ase.io.write(path, molecule("H2O"))
    output.write_text("old")
    settings = LabelConfig(structure=str(path), single_points=True)
    generate_labels(settings, output, workers=1, overwrite=True)
    assert ase.io.read(output).get_chemical_formula() == "H2O"
    output.write_text(output.read_text() + "\n")
    with pytest.raises(ValueError, match=r"was changed after it was made"):
        generate_labels(settings, output)


def test_labels_that_are_no_numbers_count_as_failures(monkeypatch):
    water = molecule("H2O")
    water.info |= {"charge": 0, "spin": 1}
    spoilt = water.positions.copy()
    spoilt[0, 0] = np.nan
    good, bad = label_frames([(water, water.positions), (water, spoilt)], Level("GFN2-xTB"))
    assert np.isfinite(good.energy)
    assert isinstance(bad, str)


@pytest.mark.parametrize(
    ("choices", "error", "said"),
    [
        ({"structure": "C(C"}, ValueError, r"'C\(C' is neither a file .* nor a SMILES"),
        ({"structure": "no.xyz"}, OSError, "no file 'no.xyz'"),
        ({"structure": "O", "method": "GFN3-xTB"}, ValueError, "nearest are GFN2-xTB"),
        ({"structure": "O", "sampler": "GFN9"}, ValueError, "'GFN9' is no method"),
        ({"structure": "[NH4+]", "charge": 0}, ValueError, r"charge of \+1, not \+0; write"),
        ({"structure": "O", "spin": 2}, ValueError, "O: H2O .* multiplicity of 2 does not fit"),
        ({"structure": "O", "single_points": True}, OSError, "no file 'O'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(tmp_path, choices, error, said):
    with pytest.raises(error, match=said):
        generate_labels(LabelConfig(**choices), tmp_path / "out.extxyz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing/out.extxyz", "missing is no folder; make it"),
        ("a_file/out.extxyz", "a_file is no folder"),
        ("folder.extxyz", "folder.extxyz is a folder; name a file in it"),
        ("out.npz", "out.npz: labels are written as extxyz"),
    ],
)
def test_outputs_that_cannot_be_written(tmp_path, name, said):
    (tmp_path / "a_file").write_text("")
    (tmp_path / "folder.extxyz").mkdir()
    with pytest.raises((OSError, ValueError), match=said):
        generate_labels(LabelConfig(structure="O"), tmp_path / name)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"single_points": True, "temperature_k": 300}, "leave out temperature_k"),
        ({"interval_fs": 0.5}, "shorter than the time step"),
        ({"temprature_k": 300}, "temprature_k"),
        ({"frames": 0}, "frames"),
    ],
)
def test_choices_that_make_no_sense(choices, said):
    with pytest.raises(ValueError, match=said):
        LabelConfig(structure="O", **choices)


def test_frames_are_shared_out_whole():
    settings = LabelConfig(structure="O", frames=45, trajectories=20)
    assert sum(settings.frames_of(k) for k in range(20)) == 45
    assert LabelConfig(structure="O", frames=3).num_trajectories == 3
