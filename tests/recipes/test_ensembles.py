"""An ensemble: members with seeds of their own in one folder, which is a model everywhere."""

import json
import shutil
import sys

import ase.build
import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT

from dreibein.cli.main import main
from dreibein.models import load_model, model_file
from dreibein.nn import Committee
from dreibein.simulate import Calculator, Evaluator

FAST = (
    "model.channels=4", "model.layers=1", "model.num_radial=4", "model.cutoff=3.5",
    "training.epochs=2", "training.batch_size=4", "training.precision=float64",
)  # fmt: skip


@pytest.fixture
def frames(tmp_path):
    """Copper, displaced, with forces of EMT."""
    found = []
    for k in range(16):
        atoms = ase.build.bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=k)
        atoms.calc = EMT()
        atoms.get_forces()
        found.append(atoms)
    ase.io.write(tmp_path / "frames.extxyz", found)
    return tmp_path / "frames.extxyz"


@pytest.fixture
def dreibein(monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dreibein", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0

    return run


@pytest.fixture
def train(frames, dreibein):
    options = [word for setting in FAST for word in ("--set", setting)]
    start = ["train", "-p", "small", "-d", frames, "--validation", "4"]
    return lambda *arguments: dreibein(*start, *options, *arguments)


def test_members_differ_and_go_on(train, tmp_path, frames):
    folder = tmp_path / "ensemble"
    assert train("--ensemble", "2", "-o", folder) == 0
    committee = load_model(folder)
    assert isinstance(committee, Committee)
    record = json.loads((folder / "ensemble.json").read_text())
    assert record["members"] == 2
    assert record["frames"] == "4 of validation"
    assert committee.card["disagreement"] == record["disagreement_ev_per_a"] > 0
    atoms = ase.io.read(frames, index=3)
    atoms.calc = Calculator(committee)
    assert np.isfinite(atoms.get_forces()).all()
    assert atoms.calc.results["forces_spread"].max() > 0
    domain = committee.card["domain"]
    assert domain["frames"] == 12
    assert 1.8 < domain["shortest"]["Cu-Cu"] < 2.5
    evaluator = Evaluator(committee, alarms="record")
    atoms.set_cell(0.8 * atoms.cell.array, scale_atoms=True)
    evaluator(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    assert evaluator.alarms.counts["distance"] == 1
    with pytest.raises(FileNotFoundError, match=r"holds an ensemble of 2 models"):
        model_file(folder)
    # a third member: the first two stay as they are
    before = [(folder / f"member_{k}" / "model.safetensors").read_bytes() for k in (1, 2)]
    shutil.rmtree(folder / "member_2")
    assert train("--ensemble", "2", "-o", folder) == 0
    after = [(folder / f"member_{k}" / "model.safetensors").read_bytes() for k in (1, 2)]
    assert before[0] == after[0] != after[1]
    assert train("--ensemble", "2", "--resume", folder) == 2


def test_its_errors_are_those_of_the_mean(train, dreibein, tmp_path, frames):
    folder, judged = tmp_path / "ensemble", tmp_path / "judged"
    assert train("--ensemble", "2", "-o", folder) == 0
    assert dreibein("evaluate", folder, frames, "--no-checks", "-o", judged) == 0
    record = json.loads((judged / "evaluation.json").read_text())
    members = [load_model(folder / f"member_{k}") for k in (1, 2)]
    assert record["model"]["file"] == str(folder)
    assert record["model"]["parameters"] == sum(
        weight.numel() for member in members for weight in member.parameters()
    )
    errors = []
    for atoms in ase.io.read(frames, ":"):
        mean = np.zeros((len(atoms), 3))
        for member in members:
            copy = atoms.copy()
            copy.calc = Calculator(member)
            mean += copy.get_forces() / 2
        errors.append(np.abs(mean - atoms.get_forces()))
    assert record["metrics"]["forces_mae_mev_per_a"] == pytest.approx(1e3 * np.mean(errors))
