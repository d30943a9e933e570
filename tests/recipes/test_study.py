"""A study of representations: what it compares, how it goes on, what it writes."""

import csv

import pytest
import torch
from torch_geometric.data import Data

from dreibein.data import DataConfig
from dreibein.data.orientation import examine_orientation
from dreibein.o3 import parse_reps, random_rotations
from dreibein.recipes.study import StudyConfig, run_study, transport_cost
from dreibein.recipes.study.config import REPRESENTATIONS
from dreibein.recipes.study.poses import turn

SMALL = {"channels": 8, "width": 16, "layers": 1, "steps": 2, "batch_size": 2, "cutoff": 3.0}


def test_representations_have_about_equal_width():
    study = StudyConfig(data=DataConfig(sources=["x"]))
    for name in REPRESENTATIONS:
        assert 56 <= parse_reps(study.reps_of(name)).dim <= 72, name


def test_pieces_are_trainings_of_their_own():
    study = StudyConfig(data=DataConfig(sources=["x"]), sizes=(10, 20), seeds=2)
    pieces = study.pieces(40)
    assert len(set(pieces)) == len(pieces) == 2 * (9 + 5 + 3 * 2)
    assert {piece.seed for piece in pieces[:20]} == {0}


@pytest.mark.parametrize(
    ("reps", "multiply_adds"), [("4x0e+1x3o", 49), ("1x3n", 3 * 81), ("m4", 4 * 13 + 16)]
)
def test_costs_are_counted(reps, multiply_adds):
    assert transport_cost(parse_reps(reps))[0] == multiply_adds


def test_aligned_poses_are_told_from_random_ones():
    pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [0, 0.3, 0]], dtype=torch.float64)
    turns = random_rotations(200, generator=torch.Generator().manual_seed(0))
    aligned = [Data(pos=pos) for _ in range(200)]
    assert examine_orientation(aligned).is_aligned
    random = examine_orientation(Data(pos=pos @ turn.mT) for turn in turns)
    assert not random.is_aligned
    assert random.frames == 200


def test_tensors_turn_with_the_structure():
    rotation = random_rotations(1, generator=torch.Generator().manual_seed(1))[0]
    v = torch.eye(3, dtype=torch.float64)
    turned = turn(Data(pos=v, forces=2 * v, stress=v[None] + 1, energy=torch.ones(1)), rotation)
    assert torch.dist(turned.forces, 2 * turned.pos) < 1e-14
    assert torch.dist(turned.stress[0], rotation @ (v + 1) @ rotation.mT) < 1e-14
    assert turned.energy == 1


def test_a_study_goes_on_and_writes_its_tables(clusters, tmp_path):
    data = DataConfig(sources=[str(clusters(20))], train=12, validation=None, test=4)
    study = StudyConfig(
        data=data, representations=("scalars", "irreps-1"), frames=("identity",),
        representation="irreps-1", seeds=1, **SMALL,
    )  # fmt: skip
    folder = tmp_path / "study"
    run_study(study, folder, max_seconds=0)  # costs and poses, but no training
    assert not (folder / "pieces").exists()
    page = run_study(study, folder)
    with open(folder / "table.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["representation"], row["frames"]) for row in rows] == [
        ("scalars", "soft"), ("irreps-1", "soft"), ("irreps-1", "identity"),
    ]  # fmt: skip
    assert all(float(row["forces_mae_mev_per_a"]) > 0 for row in rows)
    assert float(rows[1]["multiply_adds"]) > 0 == float(rows[0]["multiply_adds"])
    text = page.read_text(encoding="utf-8")
    assert "3 of 3 trainings are finished" in text
    models = sorted(folder.glob("pieces/*/model.safetensors"))
    before = [model.stat().st_mtime_ns for model in models]
    run_study(study, folder)
    assert [model.stat().st_mtime_ns for model in models] == before
    with pytest.raises(ValueError, match="other choices"):
        run_study(study.model_copy(update={"steps": 3}), folder)


def test_a_failed_training_is_named(clusters, tmp_path):
    data = DataConfig(sources=[str(clusters(20))], train=12, validation=None, test=4)
    study = StudyConfig(data=data, representations=("scalars",), frames=(), seeds=1, **SMALL)
    folder = tmp_path / "study"
    run_study(study, folder, max_seconds=0)
    (folder / "train.extxyz").write_text("nonsense", encoding="utf-8")
    with pytest.raises(ValueError, match="scalars_soft_12_seed0 failed"):
        run_study(study, folder)
