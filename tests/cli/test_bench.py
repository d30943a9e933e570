import json

import ase.build
import ase.io
import pytest
import torch
import typer
from typer.testing import CliRunner

from dreibein.cli.bench import bench, parse_bytes, show, summary
from dreibein.models import TensorNetConfig, build_potential, save_model
from dreibein.simulate import Memory, Speed

app = typer.Typer()
app.command()(bench)


@pytest.fixture(scope="module")
def potential():
    torch.manual_seed(0)
    return build_potential(TensorNetConfig(channels=8, layers=1), elements=(1, 8))


@pytest.fixture(scope="module")
def model(potential, tmp_path_factory):
    return save_model(potential, tmp_path_factory.mktemp("model") / "model.safetensors")


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_table(model, tmp_path):
    start = tmp_path / "water.xyz"
    ase.io.write(start, ase.build.molecule("H2O"))
    result = call(model, start, "--repeat", 2, "--threads", 1, "--memory", 0)
    assert result.exit_code == 0
    for text in ("H2O, 3 atoms, cpu", "atoms/s", "ns/day at 0.5 fs", "best number of threads"):
        assert text in result.output
    assert "stress" not in result.output
    assert "copies" not in result.output


def test_json(model, tmp_path):
    start = tmp_path / "box.extxyz"
    ase.io.write(start, ase.build.molecule("H2O", cell=[6.0] * 3, pbc=True))
    asked = ("--repeat", 2, "--threads", 1, "--threads", 2, "--memory", 0, "--time-step", 2)
    rows = json.loads(call(model, start, *asked, "--json").stdout)
    row = rows[0]
    assert row["backend"] == "reference"
    assert set(row["ms_by_threads"]) == {"1", "2"}
    assert row["ns_per_day"] == pytest.approx(86.4 * 2 / row["ms"])
    assert row["atoms_per_second"] == pytest.approx(3000 / row["ms"])
    assert row["ms_with_stress"] > 0


def test_memory_is_turned_into_copies(potential, capsys):
    memory = Memory(fixed=2.0**29, per_atom=2.0**20, measured={300: 2**29 + 300 * 2**20})
    speed = Speed("reference", 3, 1, 0.01, {1: 0.01}, memory=memory)
    row = summary(speed, 0.5, 8 * 2.0**30)
    assert row["atoms_that_fit"] == 7680
    assert row["copies_that_fit"] == 2560
    show([row], ase.build.molecule("H2O"), potential)
    output = capsys.readouterr().out
    for text in ("515 MiB", "1 MiB", "copies in 8 GiB", "2,560"):
        assert text in output


@pytest.mark.parametrize(
    ("text", "size"), [("8GiB", 2**33), ("500 MB", 500 * 2**20), ("1.5g", 1.5 * 2**30), ("0", 0)]
)
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--memory", "lots"), "'lots' is no size"),
        (("--time-step", 0), "expected more than 0"),
        (("--backend", "quick", "--threads", 1), "no backend 'quick'"),
    ],
)
def test_user_errors(model, options, message):
    with pytest.raises(ValueError, match=message):
        call(model, "O", *options)
