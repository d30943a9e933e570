import ase.build
import ase.io
import numpy as np
import pytest
import torch
import typer
from ase import units
from typer.testing import CliRunner

from dreibein.cli.relax import relax
from dreibein.models import TensorNetConfig, build_potential, save_model
from dreibein.simulate import Calculator

app = typer.Typer()
app.command()(relax)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(1)
    potential = build_potential(
        TensorNetConfig(channels=8, layers=1, cutoff=3.0),
        elements=(1, 8, 29),
        scale=10.0,
        dtype=torch.float64,
    )
    return save_model(potential, tmp_path_factory.mktemp("model") / "model.safetensors")


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_a_limit_of_memory_is_kept_or_refused(model, water, tmp_path):
    done = call(model, water, "-o", tmp_path / "free.xyz")
    kept = call(model, water, "-o", tmp_path / "kept.xyz", "--memory", "1GiB")
    assert done.exit_code == kept.exit_code == 0
    with pytest.raises(ValueError, match=r"a single atom .* raise it"):
        call(model, water, "-o", tmp_path / "refused.xyz", "--memory", "1KiB")
    with pytest.raises(ValueError, match="--memory 'much' is no size"):
        call(model, water, "-o", tmp_path / "refused.xyz", "--memory", "much")


@pytest.fixture
def water(tmp_path):
    path = tmp_path / "water.xyz"
    ase.io.write(path, ase.build.molecule("H2O"))
    return path


def test_positions(model, water, tmp_path):
    out = tmp_path / "relaxed.extxyz"
    result = call(model, water, "-o", out, "--fmax", 0.05, "--trajectory", tmp_path / "path.extxyz")
    assert result.exit_code == 0
    assert "converged" in result.output
    relaxed = ase.io.read(out)
    stored = relaxed.get_forces()
    assert np.linalg.norm(stored, axis=1).max() < 0.05
    relaxed.calc = Calculator(model)
    np.testing.assert_allclose(relaxed.get_forces(), stored, atol=1e-6)
    assert len(ase.io.read(tmp_path / "path.extxyz", ":")) > 1


def test_cell_under_pressure(model, tmp_path):
    crystal = ase.build.bulk("Cu", "fcc", a=3.6)
    ase.io.write(tmp_path / "cu.extxyz", crystal)
    out = tmp_path / "relaxed.extxyz"
    result = call(
        model, tmp_path / "cu.extxyz", "-o", out, "--cell", "--pressure", 0.2, "--fmax", 0.001
    )
    assert result.exit_code == 0
    pressure = -ase.io.read(out).get_stress()[:3] / units.GPa
    np.testing.assert_allclose(pressure, 0.2, atol=0.02)
    assert "GPa at most" in result.output


def test_not_converged_is_said_with_status_1(model, water, tmp_path):
    out = tmp_path / "relaxed.extxyz"
    result = call(model, water, "-o", out, "--steps", 1, "--fmax", 1e-6)
    assert result.exit_code == 1
    assert "not converged after 1 steps" in result.output
    assert out.is_file()


def test_refusals(model, water, tmp_path):
    with pytest.raises(ValueError, match="periodic in three dimensions"):
        call(model, water, "-o", tmp_path / "out.extxyz", "--cell")
    with pytest.raises(ValueError, match="does not exist; make it first"):
        call(model, water, "-o", tmp_path / "no" / "out.extxyz")
    with pytest.raises(ValueError, match=r"ASE knows no format for 'out\.what'"):
        call(model, water, "-o", tmp_path / "out.what", "--fmax", 1.0)
    assert not (tmp_path / "out.what").exists()
