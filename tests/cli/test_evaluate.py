import json

import ase.build
import ase.io
import pytest
import torch
import typer
from ase.calculators.emt import EMT
from typer.testing import CliRunner

from dreibein.cli.evaluate import evaluate
from dreibein.cli.info import info
from dreibein.cli.report import report
from dreibein.models import TensorNetConfig, build_potential, save_model

app = typer.Typer()
for verb in (evaluate, info, report):
    app.command()(verb)

EV_PER_KCAL = 0.0433641153087705


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a model file."""
    torch.manual_seed(1)
    config = TensorNetConfig(channels=8, layers=1, cutoff=3.0, num_radial=8)
    potential = build_potential(
        config,
        elements=(13, 29),
        reference_energies={29: -0.5},
        card={"level_of_theory": "EMT", "errors": {"validation": {"forces_mae_mev_per_a": 1.5}}},
    )
    folder = tmp_path_factory.mktemp("run")
    save_model(potential, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight cells of copper with labels of an empirical potential."""
    frames = []
    for seed in range(8):
        atoms = ase.build.bulk("Cu", "fcc", a=3.6, cubic=True)
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EMT()
        atoms.get_stress()
        frames.append(atoms)
    path = tmp_path_factory.mktemp("data") / "cu.extxyz"
    ase.io.write(path, frames)
    return path


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def as_json(*arguments):
    """The JSON that a call prints after its progress."""
    return json.loads(call(*arguments, "--json").stdout)


def test_tables_and_files(run, data, tmp_path):
    out = tmp_path / "out"
    result = call("evaluate", run, data, "-o", out)
    assert result.exit_code == 0
    for words in (
        "tensornet",
        "cpu, 1 thread" if torch.get_num_threads() == 1 else "cpu, ",
        "float32",
        "8 frames, 32 atoms",
        "'forces' in calculator results; eV/Å",
        "meV/Å³",
        "GPa",
        "Physical laws, on frames 0, 4, 7",
        "curvature jump at the cutoff",
        f"dreibein report {out}",
    ):
        assert words in result.output, words
    assert "failed" not in result.output
    assert {path.name for path in out.iterdir()} == {"evaluation.json", "predictions.npz"}
    page = call("report", out)
    assert page.stdout.strip() == str(out / "report.html")
    assert (out / "report.html").is_file()


def test_json_and_units(run, data, tmp_path):
    found = as_json("evaluate", run, data, "--no-checks")
    assert found["checks"] is None
    assert found["model"]["file"] == str(run / "model.safetensors")
    frames = ase.io.read(data, ":")
    for atoms in frames:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        atoms.info["REF_e"] = energy / EV_PER_KCAL
        atoms.arrays["REF_f"] = forces / EV_PER_KCAL
    ase.io.write(tmp_path / "kcal.extxyz", frames)
    units = ["--key", "energy=REF_e", "--key", "forces=REF_f", "--unit", "energy=kcal/mol"]
    other = as_json("evaluate", run, tmp_path / "kcal.extxyz", "--no-checks", *units)
    for name in ("energy_mae_mev", "forces_rmse_mev_per_a"):
        assert other["metrics"][name] == pytest.approx(found["metrics"][name], rel=1e-5)


def test_float64_has_no_second_precision(run, data):
    found = as_json("evaluate", run / "model.safetensors", data, "--dtype", "float64")
    assert {check["precision"] for check in found["checks"]["checks"]} == {"float64"}
    assert found["timing"]["precision"] == "float64"


def test_unknown_element_and_missing_model(run, tmp_path):
    atoms = ase.build.bulk("Au", "fcc", a=4.1)
    atoms.calc = EMT()
    atoms.get_forces()
    ase.io.write(tmp_path / "au.extxyz", atoms)
    with pytest.raises(ValueError, match=r"au\.extxyz, frame 0: .*does not know Au"):
        call("evaluate", run, tmp_path / "au.extxyz")
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors"):
        call("evaluate", tmp_path, tmp_path / "au.extxyz")


def test_info(run):
    result = call("info", run)
    for words in (
        "format 1",
        "tensornet",
        "channels 8",
        "Al Cu",
        "3 Å",
        "float32",
        "Cu -0.5",
        "level_of_theory: EMT",
        "forces_mae_mev_per_a: 1.5",
        "reference (autograd, float32); fused (radial tables of",
    ):
        assert words in result.stdout, words
    found = as_json("info", run / "model.safetensors")
    assert found["reference_energies"] == {"Al": 0.0, "Cu": -0.5}
    assert found["parameters"] > 1000
    assert len(found["sha256"]) == 64
    assert found["simulates with"] == "fused"


def test_info_of_what_is_no_model(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="not a whole model file"):
        call("info", path)
    with pytest.raises(FileNotFoundError, match="no model file"):
        call("info", tmp_path / "absent")
