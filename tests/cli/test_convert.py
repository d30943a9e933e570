"""`dreibein convert`: files to a store or extxyz."""

import ase.io
import numpy as np
import pytest
import typer
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from dreibein.cli.convert import convert
from dreibein.data import DataConfig, load_data


@pytest.fixture
def run():
    """`run(*arguments) -> result` of the verb."""
    app = typer.Typer()
    app.command()(convert)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def files(tmp_path):
    """Two files of three molecules each, energies in kcal/mol."""
    names = []
    for k, formula in enumerate(("H2O", "CH4")):
        frames = []
        for n in range(3):
            atoms = molecule(formula)
            forces = np.full((len(atoms), 3), 0.1 * n)
            atoms.calc = SinglePointCalculator(atoms, energy=-100.0 * (k + 1) - n, forces=forces)
            frames.append(atoms)
        names.append(tmp_path / f"{formula}.extxyz")
        ase.io.write(names[-1], frames)
    return names


@pytest.mark.parametrize("suffix", ["h5", "extxyz"])
def test_files_to_one(run, files, tmp_path, suffix):
    out = tmp_path / f"all.{suffix}"
    result = run(*files, out, "--unit", "energy=kcal/mol", "--level-of-theory", "B3LYP")
    assert result.exit_code == 0, result.exception
    assert f"{out}: 6 frames, energy, forces" in result.stdout
    data = load_data(DataConfig(sources=str(out)))
    assert float(data[4].energy) == pytest.approx(-201.0 * 0.0433641, rel=1e-6)
    assert data.provenance["level_of_theory"] == "B3LYP"


def test_nothing_is_overwritten_unasked(run, files, tmp_path):
    out = tmp_path / "all.h5"
    out.write_text("precious")
    error = run(*files, out).exception
    assert f"'{out}' exists; give another name or --overwrite" in str(error)
    assert out.read_text() == "precious"
    assert run(*files, out, "--overwrite").exit_code == 0


def test_names_are_checked(run, files, tmp_path):
    error = run(*files, tmp_path / "all.csv").exception
    assert "the output must end in one of .h5, .hdf5, .extxyz, .xyz" in str(error)
    error = run(*files, tmp_path / "no" / "all.h5").exception
    assert "there is no folder" in str(error)
