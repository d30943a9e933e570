import json
import subprocess
import sys

import ase.build
import ase.io
import pytest
import torch
import typer
from typer.testing import CliRunner

from dreibein.cli.md import md
from dreibein.models import TensorNetConfig, build_potential, save_model
from dreibein.simulate import read_thermo

app = typer.Typer()
app.command()(md)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file whose forces are weak: what is tested here is the command, not the physics."""
    torch.manual_seed(0)
    potential = build_potential(
        TensorNetConfig(channels=8, layers=1), elements=(1, 6, 8), scale=0.01, dtype=torch.float64
    )
    return save_model(potential, tmp_path_factory.mktemp("model") / "model.safetensors")


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_from_a_file_with_a_restart_and_a_table(model, tmp_path):
    start = tmp_path / "water.xyz"
    ase.io.write(start, ase.build.molecule("H2O"))
    folder = tmp_path / "md"
    short = ("--temperature", 20, "--log-interval", 5)
    result = call(model, start, "-o", folder, "--steps", 20, "--timestep", 0.25, *short)
    assert result.exit_code == 0
    for text in ("0.005 ps of nve, 3 atoms", "meV/atom/ps", "ns/day", "cpu, float64", "0.5 Å"):
        assert text in result.output
    assert call(model, "-o", folder, "--restart", "--steps", 40).exit_code == 0
    assert read_thermo(folder / "thermo.csv")["step"].tolist() == list(range(0, 41, 5))
    stored = json.loads((folder / "dynamics.json").read_text())
    assert stored["config"]["timestep_fs"] == 0.25
    assert stored["steps_done"] == 40


def test_from_smiles_in_single_precision(model, tmp_path):
    pytest.importorskip("rdkit")
    arguments = (model, "O", "--temperature", 20, "--dtype", "float32")
    result = call(*arguments, "-o", tmp_path / "md", "--ps", 0.002, "--ensemble", "langevin")
    assert result.exit_code == 0
    assert "cpu, float32" in result.output
    assert "drift" not in result.output
    assert len(ase.io.read(tmp_path / "md" / "trajectory.extxyz")) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ensemble", "nvt"], "ensemble: Input should be 'nve', 'langevin' or 'npt', got 'nvt'"),
        (["--timestep", -1], "timestep_fs: Input should be greater than 0, got -1.0"),
        (["--steps", 5, "--ps", 1], "give either steps or duration_ps; both was given"),
        (["--dtype", "double"], "--dtype is float32 or float64, got 'double'"),
        (["--device", "gpu"], "--device 'gpu' is no device"),
        (["--restart"], "restart.npz to continue from"),
    ],
)
def test_bad_options_are_one_sentence(options, message, model, tmp_path):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refusal:
        call(model, "O", "-o", tmp_path / "md", *options)
    assert message in str(refusal.value)
    assert not (tmp_path / "md").exists()


def test_a_restart_with_another_structure_is_refused(model, tmp_path):
    start = tmp_path / "water.xyz"
    ase.io.write(start, ase.build.molecule("H2O"))
    call(model, start, "-o", tmp_path / "md", "--steps", 2, "--temperature", 20)
    with pytest.raises(ValueError, match="leave out STRUCTURE"):
        call(model, start, "-o", tmp_path / "md", "--restart", "--steps", 4)
    with pytest.raises(ValueError, match=r"temperature_k 20\.0 and the restart asks for 30\.0"):
        call(model, "-o", tmp_path / "md", "--restart", "--steps", 4, "--temperature", 30)


def test_a_charge_that_the_file_contradicts_is_refused(model, tmp_path):
    start = tmp_path / "water.extxyz"
    ase.io.write(start, ase.Atoms("H2O", ase.build.molecule("H2O").positions, info={"charge": 1}))
    with pytest.raises(ValueError, match="charge of 1"):
        call(model, start, "-o", tmp_path / "md", "--charge", 0)


def test_unknown_element_ends_with_status_2_and_one_line(model, tmp_path):
    start = tmp_path / "gold.xyz"
    ase.io.write(start, ase.Atoms("Au2", [[0, 0, 0], [0, 0, 2.5]]))
    done = subprocess.run(
        [sys.executable, "-m", "dreibein", "md", model, start, "-o", tmp_path / "md"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "dreibein: the potential does not know Au; it was trained on H, C, O"
    )
    assert not (tmp_path / "md").exists()
