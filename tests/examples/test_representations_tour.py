"""The tour runs as it stands on a small budget, and what it says of symmetry is so."""

import os
import re
import subprocess
import sys

import pytest

from house.tree import ROOT


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tour")
    small = {"OMP_NUM_THREADS": "1", "TOUR_STEPS": "2", "TOUR_OUTPUT": str(folder)}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "representations_tour.py"],
        cwd=folder,
        env=os.environ | small,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, folder


def test_figures(tour):
    _, folder = tour
    names = {"frames_scan", "representations_turn", "transfer_costs", "tour_training"}
    found = {path.stem: path for path in folder.iterdir()}
    assert found.keys() == names
    for path in found.values():
        assert path.read_text().rstrip().endswith("</svg>")
        assert path.stat().st_size < 40_000


def test_figures_in_the_documents_are_those_of_the_tour(tour):
    _, folder = tour
    for name in ("frames_scan", "representations_turn", "transfer_costs"):
        words = re.findall(r"<text[^>]*>([^<]+)", (folder / f"{name}.svg").read_text())
        kept = (ROOT / "docs" / "figures" / f"{name}.svg").read_text()
        assert words
        assert words == re.findall(r"<text[^>]*>([^<]+)", kept)


def test_both_forms_of_every_network_are_equivariant(tour):
    errors = re.findall(r"^(\w+) in (tensors|frames) .* rotation (\S+)$", tour[0], re.MULTILINE)
    networks = {"NequIP", "MACE", "Equiformer", "PaiNN", "EGNN", "TensorNet"}
    assert {(name, form) for name, form, _ in errors} == {
        (name, form) for name in networks for form in ("tensors", "frames")
    }
    assert all(float(error) < 1e-12 for _, _, error in errors)


def test_soft_frames_do_not_jump(tour):
    steps = dict(re.findall(r"^(\w+) frames change by at most (\S+)", tour[0], re.MULTILINE))
    assert float(steps["orthonormal"]) > 1.9
    assert float(steps["soft"]) < 0.1


def test_transport_and_transfer_are_exact(tour):
    assert float(re.search(r"arrives changes by (\S+)", tour[0]).group(1)) < 1e-13
    found = re.search(r"differs from e3nn by (\S+)", tour[0])
    if found is None:
        pytest.skip("needs e3nn to compare with")
    assert float(found.group(1)) < 1e-6
