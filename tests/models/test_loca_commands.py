"""Models on local frames through the commands: train, evaluate, md, relax, report, info."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.morse import MorsePotential
from ase.io import read, write
from typer.testing import CliRunner

from dreibein.cli.main import app

SIZES = {"channels": 8, "layers": 1, "num_radial": 6, "cutoff": 3.0, "reps": "4x0n+2x1n+1x2e"}
CORNER = np.array([[0.0, 0.0, 0.0], [1.1, 0.0, 0.0], [0.0, 1.1, 0.0]])
MODELS = {
    "locaformer": {"architecture": "locaformer", "heads": 2},
    "localized": {"architecture": "localized", "convolution": "GATv2Conv", "options.heads": 3},
}


def call(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Morse clusters of one oxygen and two hydrogens."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(24):
        pos = CORNER + generator.normal(0, 0.1, (3, 3))
        atoms = Atoms("OHH", pos)
        atoms.calc = MorsePotential(epsilon=0.5, r0=1.1, rho0=4.0)
        atoms.get_forces()
        found.append(atoms)
    path = tmp_path_factory.mktemp("frames") / "frames.xyz"
    write(path, found)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_every_command(name, frames, tmp_path):
    run, relaxed = tmp_path / "run", tmp_path / "relaxed.xyz"
    settings = {f"model.{key}": value for key, value in (SIZES | MODELS[name]).items()}
    settings["training.epochs"] = 2
    overrides = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    data = ("--data", frames, "--validation", 4, "--test", 4)
    assert "meV/Å" in call("train", *data, *overrides, "-o", run)
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["counts"]["frames"] == 4
    assert not [c for c in evaluation["checks"]["checks"] if c["status"] == "failed"]
    call("evaluate", run, frames)
    assert "meV/atom/ps" in call(
        "md", run, frames, "-o", run / "md", "--steps", 8, "--log-interval", 1
    )
    call("relax", run, frames, "-o", relaxed, "--fmax", 5)
    assert len(read(relaxed)) == 3
    shown = call("info", run)
    assert f"architecture     {name}" in shown
    assert "reps 4x0n+2x1n+1x2e" in shown
    call("report", run)
    page = (run / "report.html").read_text()
    assert {"locaformer": "LoCaFormer", "localized": "GATv2Conv"}[name] in page


@pytest.mark.parametrize("name", MODELS)
def test_presets(name):
    shown = call("train", "--preset", name, "--data", "x.xyz", "--show-config")
    assert f"architecture: {name}" in shown


def test_a_misspelt_option_of_a_convolution_is_found(frames):
    model = ("--set", "model.architecture=localized", "--set", "model.options.head=4")
    with pytest.raises(ValueError, match=r"no option 'head': did you mean 'heads'\?"):
        call("train", "--data", frames, *model, "--show-config")
