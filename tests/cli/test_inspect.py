"""`dreibein inspect`: tables, JSON, exit status."""

import json

import ase.io
import numpy as np
import pytest
import typer
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from dreibein.cli.inspect import inspect


@pytest.fixture
def run(monkeypatch):
    """`run(*arguments) -> result` of the verb, in a terminal of 100 columns."""
    from dreibein.cli import console

    monkeypatch.setattr(console.out, "width", 100)
    app = typer.Typer()
    app.command()(inspect)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def water(tmp_path):
    """File of 12 water molecules with energy and forces."""
    random = np.random.default_rng(0)
    frames = []
    for _ in range(12):
        atoms = molecule("H2O")
        atoms.positions += random.normal(0, 0.03, (3, 3))
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    path = tmp_path / "water.extxyz"
    ase.io.write(path, frames)
    return path


def test_tables(run, water):
    result = run(water)
    assert result.exit_code == 0
    for text in ("water.extxyz", "ASE extxyz, 12 frames", "H2O 12", "calculator results: forces"):
        assert text in result.stdout
    assert "ready for training" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()[2:]) <= 100


def test_json(run, water):
    result = run(water, "--json")
    data = json.loads(result.stdout)
    assert data["frames"] == 12
    assert data["refused"] is False
    assert data["labels"]["energy"]["found"] == ["calculator results: energy"]


def test_refused_is_status_one(run, water, tmp_path):
    result = run(water, "--label", "stress")
    assert result.exit_code == 1
    assert "the required label 'stress' is in none of the 12 frames" in " ".join(
        result.stdout.split()
    )
    assert "training would be refused: 1 refusal, no warnings" in result.stdout
    bare = tmp_path / "bare.extxyz"
    ase.io.write(bare, Atoms("He"))
    assert run(bare).exit_code == 1


def test_options_reach_the_reader(run, water):
    result = run(water, "--unit", "energy=kcal/mol", "--key", "forces=forces", "--json")
    data = json.loads(result.stdout)
    assert data["labels"]["energy"]["unit"] == "kcal/mol → eV"
    assert data["labels"]["forces"]["reason"] == "from the energy unit declared"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.xyz"], "there is no file 'gone.xyz'"),
        (["WATER", "--key", "energy"], "--key: 'energy' is not of the form energy=REF_energy"),
        (["WATER", "--key", "energy=nope"], "the key 'nope' asked for label 'energy' is in no fr"),
        (["WATER", "--unit", "energy=cats"], "unit of energy: unknown unit 'cats'"),
        (["WATER", "--stress-sign", "up"], "--stress-sign: Input should be 'tension' or 'compres"),
        (["WATER", "--stress-order", "xx yy"], "--stress-order: the stress order 'xx yy' must na"),
    ],
)
def test_bad_input_is_one_sentence(run, water, arguments, message):
    result = run(*[water if a == "WATER" else a for a in arguments])
    assert isinstance(result.exception, ValueError | OSError)
    assert message in str(result.exception)


def test_messages_are_not_read_as_markup(run, water, tmp_path):
    """Rich would swallow a path in square brackets."""
    path = tmp_path / "[bold]odd.extxyz"
    path.write_bytes(water.read_bytes())
    assert "[bold]odd.extxyz" in run(path).stdout
