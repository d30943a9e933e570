"""The example on normals runs as it stands, and its data are what it says."""

import csv
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from house.tree import ROOT

SCRIPT = ROOT / "examples" / "point_cloud_normals.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("point_cloud_normals", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_it_runs_as_it_stands(tmp_path):
    small = {"epochs": 2, "shapes": 12, "test-shapes": 8, "points": 48, "batch-size": 3}
    options = [f"--{name}={value}" for name, value in small.items()]
    done = subprocess.run(
        [sys.executable, SCRIPT, "--output", tmp_path / "normals", *options],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "laboratory" in done.stdout
    with (tmp_path / "normals" / "errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    pairs = {(row["frames"], row["pose"]): row for row in rows}
    assert len(pairs) == len(rows) == 6
    for (frames, _), row in pairs.items():
        assert 0 < float(row["known_kinds_deg"]) < 90
        error = float(row["equivariance_error"])
        assert error > 1e-2 if frames == "laboratory" else error < 1e-9
    assert "angle to the outward normal" in (tmp_path / "normals" / "errors.html").read_text()


def test_meshes_are_closed_and_face_outward(example):
    rng = np.random.default_rng(0)
    for kind in (*example.KNOWN, *example.NEW):
        mesh = example.make_mesh(kind, rng)
        assert mesh.is_watertight, kind
        assert mesh.is_winding_consistent, kind
        assert mesh.volume > 0, kind


def test_test_shapes_differ_from_training_shapes(example):
    first, second = (example.sample_clouds(["box", "torus"], 64, seed) for seed in (0, 1))
    assert not torch.allclose(first.pos, second.pos, atol=0.1)
    assert torch.equal(first.pos, example.sample_clouds(["box", "torus"], 64, 0).pos)


def test_normals_turn_with_the_points(example):
    clouds = example.sample_clouds(["ellipsoid"], 200, 0)
    # on a star-shaped surface outward is away from the center, wherever it stands
    for g in (torch.eye(3).double()[None], -example.poses(1, 3)):
        posed = clouds.posed(g)
        assert ((posed.pos * posed.normals).sum(-1) > 0).all()


def test_angles(example):
    x, y = torch.eye(3)[:1], torch.tensor([[1.0, 1e-3, 0.0]])
    assert example.angles(x, -x).item() == pytest.approx(180)
    assert example.angles(x, torch.eye(3)[1:2]).item() == pytest.approx(90)
    small = example.angles(x, torch.nn.functional.normalize(y, dim=-1)).item()
    assert small == pytest.approx(np.rad2deg(1e-3), rel=1e-4)


def test_without_trimesh_the_extra_is_named(example, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(ImportError, match=r'pip install "dreibein\[points\]"'):
        example.make_mesh("box", np.random.default_rng(0))


def test_unknown_frames_are_named(example):
    with pytest.raises(ValueError, match="got 'lab'"):
        example.Normals("lab")
