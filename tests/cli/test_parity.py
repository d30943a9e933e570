import json

import ase.build
import pytest
import torch
import typer
from typer.testing import CliRunner

from dreibein.cli.parity import parity
from dreibein.models import TensorNetConfig, build_potential, save_model
from dreibein.simulate import ParityReport, ParityRow
from dreibein.simulate import parity as measured

app = typer.Typer()
app.command()(parity)


@pytest.fixture
def run(tmp_path):
    """A folder with a model and a start, and only the engine that is always there."""
    torch.manual_seed(0)
    potential = build_potential(TensorNetConfig(channels=8, layers=1), elements=(1, 8))
    save_model(potential, tmp_path / "model.safetensors")
    ase.build.molecule("H2O").write(tmp_path / "water.xyz")
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_table_and_json(run, monkeypatch):
    monkeypatch.setattr(measured, "ENGINES", measured.ENGINES[:1])
    result = call(run, run / "water.xyz", "--repeat", 1)
    assert result.exit_code == 0
    for text in ("H2O, 3 atoms", "Δforces", "agrees", "ASE", "fused       32"):
        assert text in result.stdout
    assert "stress 0" not in result.stdout
    record = json.loads((run / "parity.json").read_text())
    assert record["model"] == "model.safetensors"
    assert len(record["rows"]) == 4
    assert record["rows"][0]["forces_error"] == 0.0
    assert record["versions"]["ase"] == ase.__version__


def test_a_difference_is_exit_status_1(run, monkeypatch):
    row = {"backend": "fused", "precision": "float32", "energy": 1.0, "milliseconds": 1.0}
    errors = {"energy_error": 0.5, "forces_error": 0.5, "stress_error": None}
    rows = [
        ParityRow(engine="wrong", agrees=False, **row, **errors),
        ParityRow(engine="absent", note="not installed"),
    ]
    report = ParityReport(
        formula="H2O", atoms=3, largest_force=1, largest_stress=0.1, elements=(1, 8),
        versions={}, rows=rows,
    )  # fmt: skip
    monkeypatch.setattr("dreibein.simulate.measure_parity", lambda *args, **kwargs: report)
    result = call(run / "model.safetensors", run / "water.xyz", "-o", run / "there.json")
    assert result.exit_code == 1
    assert "DIFFERS" in result.stdout
    assert "not installed" in result.stdout
    assert "stress 0.1 eV/Å³" in result.stdout
    assert (run / "there.json").is_file()
    assert not (run / "parity.json").exists()
