"""A study of representations: what it compares, how it goes on, what it writes."""

import csv
import re

import ase.io
import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from typer.testing import CliRunner

from dreibein.cli.main import app
from dreibein.data import DataConfig
from dreibein.data.orientation import examine_orientation
from dreibein.nn.targets import Target
from dreibein.o3 import parse_reps, random_rotations
from dreibein.recipes.study import StudyConfig, run_study, transport_cost
from dreibein.recipes.study.costs import read_costs
from dreibein.recipes.study.figures import Panel, curves, dots, scatter
from dreibein.recipes.study.names import REPRESENTATIONS
from dreibein.recipes.study.poses import turn, write_poses
from dreibein.systems import make_structure

SMALL = {"channels": 8, "width": 16, "layers": 1, "steps": 2, "batch_size": 2, "cutoff": 3.0}


def test_representations_have_about_equal_width():
    study = StudyConfig(data=DataConfig(sources=["x"]))
    for name in REPRESENTATIONS:
        assert 56 <= parse_reps(study.reps_of(name)).dim <= 72, name


def test_pieces_are_trainings_of_their_own():
    study = StudyConfig(data=DataConfig(sources=["x"]), sizes=(10, 20), seeds=2)
    pieces = study.pieces(40)
    names = {piece.name for piece in pieces}
    assert len(names) == len(set(pieces)) == len(pieces) == 2 * (9 + 5 + 4 + 1 + 3 * 2)
    assert {piece.seed for piece in pieces[:25]} == {0}
    assert {
        "scalars_soft_40_seed0",
        "cartesian-2_soft_expnorm_40_seed1",
        "tensornet_40_seed0",
    } < names
    assert all(re.fullmatch(r"[\w-]+", name) for name in names)


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


def table_of(**labels):
    """Two frames of two atoms."""
    structures = [make_structure([1, 8], torch.eye(3)[:2] + k) for k in range(2)]
    from dreibein.data.table import Column, Table

    return Table(
        offsets=np.array([0, 2, 4]),
        z=np.array([1, 8, 1, 8], dtype=np.uint8),
        pos=torch.cat([s.pos for s in structures]).numpy(),
        cell=np.zeros((2, 3, 3)),
        pbc=np.zeros((2, 3), dtype=bool),
        charge=np.zeros(2),
        spin=np.ones(2, dtype=np.int64),
        config=np.zeros(2, dtype=np.int32),
        columns={n: Column(v, np.ones(len(v), dtype=bool), len(v) == 4) for n, v in labels.items()},
    )


def test_tensors_turn_with_their_structure():
    rotations = random_rotations(2, generator=torch.Generator().manual_seed(1)).double().numpy()
    rng = np.random.default_rng(0)
    forces, dipole = rng.normal(size=(4, 3)), rng.normal(size=(2, 3))
    alpha, mine, spin = rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 9)), rng.normal(size=(2, 3))
    table = table_of(
        forces=forces, dipole=dipole, polarizability=alpha, mine=mine, axial=spin, mu=dipole[:, 0]
    )
    targets = {
        "mine": Target(rank=2, scope="structure"),
        "axial": Target(irreps="1x1e", scope="structure"),
        "mu": Target(rank=1, scope="structure", reduce="norm"),
    }
    found = turn(table, rotations, targets)
    column = {name: c.values for name, c in found.columns.items()}
    for k, q in enumerate(rotations):
        assert np.allclose(found.pos[2 * k : 2 * k + 2], table.pos[2 * k : 2 * k + 2] @ q.T)
        assert np.allclose(column["forces"][2 * k + 1], q @ forces[2 * k + 1])
        assert np.allclose(column["dipole"][k], q @ dipole[k])
        assert np.allclose(column["polarizability"][k], q @ alpha[k] @ q.T)
        assert np.allclose(column["mine"][k].reshape(3, 3), q @ mine[k].reshape(3, 3) @ q.T)
        assert np.linalg.norm(column["axial"][k]) == pytest.approx(np.linalg.norm(spin[k]))
    assert np.array_equal(column["mu"], dipole[:, 0])


def test_a_study_goes_on_and_writes_its_tables(clusters, tmp_path):
    data = DataConfig(sources=[str(clusters(20))], train=12, validation=None, test=4)
    study = StudyConfig(
        data=data, representations=("scalars", "irreps-1"), frames=("identity",),
        embeddings=("expnorm", "vector"), representation="irreps-1", sizes=(6,),
        curves=("scalars",), seeds=1, **SMALL,
    )  # fmt: skip
    folder = tmp_path / "study"
    run_study(study, folder, max_seconds=0)  # costs and poses, but no training
    assert not (folder / "pieces").exists()
    page = run_study(study, folder)
    with open(folder / "table.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = ["scalars", "irreps-1", "irreps-1, identity", "irreps-1, expnorm", "irreps-1, vector"]
    assert [row["label"] for row in rows] == [*labels, "tensornet"]
    assert all(float(row["forces_mae_mev_per_a"]) > 0 < float(row["saved_mib"]) for row in rows)
    assert float(rows[1]["multiply_adds"]) > 0 == float(rows[0]["multiply_adds"])
    assert rows[5]["multiply_adds"] == ""
    assert rows[5]["features"] == "16x(0e+1o+2e)"  # what the compiled step takes
    with open(folder / "learning-curves.csv", encoding="utf-8") as file:
        assert [row["size"] for row in csv.DictReader(file)] == ["12", "6"]
    text = page.read_text(encoding="utf-8")
    assert "7 of 7 trainings are finished" in text
    assert len(text) < 2e5, "the page draws by itself"
    for name in ("representations", "frames", "embeddings", "networks", "cost", "learning-curves"):
        assert (folder / "figures" / f"{name}.svg").read_text(encoding="utf-8").startswith("<svg")
    models = sorted(folder.glob("pieces/*/model.safetensors"))
    before = [model.stat().st_mtime_ns for model in models]
    run_study(study, folder)
    assert [model.stat().st_mtime_ns for model in models] == before
    kept = study.model_copy(update={"seeds": 2})  # more seeds are no other study
    run_study(kept, folder, max_seconds=0)
    with pytest.raises(ValueError, match="other choices"):
        run_study(study.model_copy(update={"steps": 3}), folder)


def test_a_failed_training_is_named(clusters, tmp_path):
    data = DataConfig(sources=[str(clusters(20))], train=12, validation=None, test=4)
    study = StudyConfig(
        data=data, representations=("scalars",), frames=(), embeddings=(), networks=(), seeds=1,
        **SMALL,
    )  # fmt: skip
    folder = tmp_path / "study"
    run_study(study, folder, max_seconds=0)
    broken = read_costs(folder / "costs.csv")[0]
    rows = (folder / "costs.csv").read_text(encoding="utf-8").rsplit(",", 1)[0]
    assert broken.steps == SMALL["steps"]
    (folder / "costs.csv").write_text(rows + ",-1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="scalars_soft_12_seed0 failed"):
        run_study(study, folder)


def write_labels(clusters, path):
    """Clusters with a dipole, a number and a matrix of one's own."""
    rng, frames = np.random.default_rng(0), ase.io.read(clusters(20), ":")
    for atoms in frames:
        atoms.info |= {"dipole": rng.normal(size=3), "mu": rng.random()}
        atoms.info["alpha"] = rng.random() + len(atoms)
        atoms.info["mine"] = rng.normal(size=(3, 3))
    ase.io.write(path, frames)
    return str(path)


def test_heads_are_trained_together(clusters, tmp_path):
    source = write_labels(clusters, tmp_path / "labels.xyz")
    data = DataConfig(sources=[source], train=12, validation=None, test=4)
    study = StudyConfig(
        data=data, target=("U0", "mu", "dipole", "mine"), representations=("irreps-1",), frames=(),
        embeddings=(), representation="irreps-1", seeds=1,
        typed={"mine": {"rank": 2, "scope": "structure"}}, **SMALL,
    )  # fmt: skip
    assert study.of_energy == ()
    assert [head.rank for head in study.heads().values()] == [0, 1, 1, 2]
    assert [head.shape for head in study.heads().values()] == [(), (), (3,), (3, 3)]
    folder = tmp_path / "study"
    run_study(study, folder)
    with open(folder / "table.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["irreps-1", "tensornet"]
    for row in rows:
        relative = [float(row[f"{name}_rmse_relative"]) for name in ("u0", "mu", "dipole", "mine")]
        assert float(row["mean_relative"]) == pytest.approx(np.mean(relative))
        assert float(row["u0_mae_ev"]) > 0 < float(row["dipole_mae_e_a"])


def test_equal_budgets(clusters, tmp_path):
    source = write_labels(clusters, tmp_path / "labels.xyz")
    data = DataConfig(sources=[source], train=12, validation=None, test=4)
    small = SMALL | {"width": 32, "steps": 40}
    kinds = {"data": data, "representations": ("scalars", "learned"), "frames": ("random",)}
    kinds["target"] = ("energy", "alpha")  # two heads
    for budget, network in (("time", "tensor_field"), ("parameters", "tensornet")):
        study = StudyConfig(
            **kinds, embeddings=(), networks=(network,), representation="irreps-1", budget=budget,
            **small,
        )  # fmt: skip
        run_study(study, tmp_path / budget, max_seconds=0)
        costs = {cost.choice.label: cost for cost in read_costs(tmp_path / budget / "costs.csv")}
        usual = costs["irreps-1"]
        assert usual.steps == 40
        for cost in costs.values():
            if budget == "time":
                time = cost.steps * cost.step_ms
                assert time == pytest.approx(40 * usual.step_ms, abs=cost.step_ms)
            else:
                assert cost.steps == 40
                assert cost.parameters == pytest.approx(usual.parameters, rel=0.03), cost


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--target", "energy,dipol", "unknown target 'dipol': did you mean 'dipole'?"),
        ("--representations", "cartesian-9", "unknown representation 'cartesian-9'"),
        ("--frames", "softly", "did you mean 'soft'?"),
        ("--embeddings", "besel", "unknown embedding 'besel': did you mean 'bessel'?"),
        ("--networks", "tensornets", "unknown network 'tensornets': did you mean 'tensornet'?"),
        ("--budget", "stepps", "budget"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(option, value, words):
    arguments = ["study", "representations", "--data", "qm9", option, value]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code != 0
    assert words in f"{result.output} {result.exception}"


def test_scales_are_what_counting_atoms_leaves(clusters, tmp_path):
    source = write_labels(clusters, tmp_path / "labels.xyz")
    data = DataConfig(sources=[source], train=12, validation=None, test=4)
    study = StudyConfig(data=data, target=("U0", "alpha"), **SMALL)
    folder = tmp_path / "study"
    folder.mkdir()
    assert write_poses(study, folder) == {"train": 12, "test": 4}
    from dreibein.recipes.study.poses import label_scales

    assert label_scales(folder)["alpha"] < 0.5  # of numbers from 3 to 6


def test_figures_are_drawings_of_the_numbers():
    point = (1.0, 0.5, 2.0)
    svg = dots(["a<b", "c"], [Panel("x", [point, None])])
    assert svg.count("<circle") == 1
    assert "a&lt;b" in svg
    lines = {"x": {"a": [(10.0, point), (100.0, point)], "b": [(10.0, point)]}}
    assert curves(lines, "n").count("<polyline") == 2
    assert scatter({"g": [("a", 3.0, point), ("b", 3.0, point)]}, "t", "y").count("<circle") == 3
