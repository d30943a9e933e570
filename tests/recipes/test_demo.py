"""The whole way from a molecule to a report, on a small budget."""

from contextlib import contextmanager

import pytest

from dreibein.recipes.demo import DemoConfig, demo_run
from dreibein.simulate import read_thermo

pytest.importorskip("tblite", reason="labels need tblite (extra: label)")
pytest.importorskip("rdkit", reason="SMILES need rdkit (extra: label)")

SMALL = {"molecule": "O", "frames": 50, "epochs": 2, "channels": 8, "duration_ps": 0.02}


class Stages:
    """Remembers which stages were opened and how far each came."""

    def __init__(self):
        self.reached = {}

    @contextmanager
    def __call__(self, title):
        def report(done, total, note):
            self.reached[title] = (done, total)

        self.reached[title] = None
        yield report


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "run"
    stages = Stages()
    return demo_run(DemoConfig(**SMALL), folder, stage=stages), stages, folder


def test_everything_is_there(finished):
    result, stages, _ = finished
    assert list(stages.reached) == ["label", "train", "NVE dynamics"]
    assert all(done == total for done, total in stages.reached.values())
    for name in ("model.safetensors", "metrics.csv", "config.yaml", "splits.json", "report.html"):
        assert (result.folder / name).is_file(), name
    assert result.evaluation.counts["frames"] == 5
    assert not result.evaluation.checks.failed
    assert len(read_thermo(result.folder / "md" / "thermo.csv")["time_fs"]) == 5  # 40 steps
    assert result.dynamics.steps_done == 40


def test_the_same_command_finds_everything_done(finished):
    result, _, folder = finished
    written = (result.folder / "model.safetensors").stat().st_mtime_ns
    stages = Stages()
    again = demo_run(DemoConfig(**SMALL), folder, stage=stages)
    assert "train" not in stages.reached
    assert (result.folder / "model.safetensors").stat().st_mtime_ns == written
    assert again.evaluation.metrics == result.evaluation.metrics


def test_the_same_seed_gives_the_same_numbers(finished, tmp_path):
    result, _, _ = finished
    again = demo_run(DemoConfig(**SMALL), tmp_path / "again", stage=Stages())
    assert again.evaluation.metrics == result.evaluation.metrics
    log = (result.folder / "md" / "thermo.csv").read_text()
    assert (again.folder / "md" / "thermo.csv").read_text() == log


def test_other_settings_are_refused(finished):
    _, _, folder = finished
    with pytest.raises(ValueError, match="a demonstration with other settings"):
        demo_run(DemoConfig(**SMALL | {"epochs": 3}), folder, stage=Stages())


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty; choose another folder"):
        demo_run(DemoConfig(**SMALL), tmp_path, stage=Stages())
