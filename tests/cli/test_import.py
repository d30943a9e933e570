"""`dreibein import` writes a model file, says what it assumed, and refuses in one sentence."""

import json
import sys
from pathlib import Path

import pytest
from foreign_files import write_checkpoint, write_folder

from dreibein.cli.import_ import atomic_numbers_of
from dreibein.cli.main import main
from dreibein.models import load_model, read_header

DATA = Path(__file__).parents[1] / "models" / "data"


@pytest.fixture
def dreibein(monkeypatch, capsys):
    """`dreibein(*arguments) -> exit status, output, errors`, in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dreibein", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, *capsys.readouterr()

    return run


def test_a_checkpoint_becomes_a_model_file(dreibein, tmp_path):
    record = json.loads((DATA / "torchmdnet.json").read_text())["models"]["plain"]
    source, target = write_checkpoint(record, tmp_path / "a.ckpt"), tmp_path / "a.safetensors"
    options = ("--elements", "H,C,N,O", "--energy-unit", "kcal/mol")
    status, said, _ = dreibein("import", "torchmd-net", source, "-o", target, *options)
    assert status == 0
    assert "unit of energy: kcal/mol (stated)" in said
    assert "unit of length: Å (assumed" in said
    assert load_model(target).elements == (1, 6, 7, 8)
    assert read_header(target)["card"]["imported"]["from"] == "torchmd-net"
    status, _, error = dreibein("import", "torchmd-net", source, "-o", target)
    assert (status, "exists" in error) == (2, True)


def test_a_folder_of_matgl_becomes_a_model_file(dreibein, tmp_path):
    record = json.loads((DATA / "matgl.json").read_text())["models"]["gaussian"]
    source, target = write_folder(record, tmp_path / "pes"), tmp_path / "pes.safetensors"
    license = ("--license", "BSD-3-Clause")
    status, said, _ = dreibein("import", "matgl", source, "-o", target, *license)
    assert status == 0
    assert "4 elements" in said
    assert read_header(target)["card"]["license"] == "BSD-3-Clause"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mace", "x", "-o", "y.safetensors"), "unknown family 'mace'"),
        (("matgl", "absent", "-o", "y.safetensors"), "give a folder saved by matgl"),
        (("matgl", "absent", "-o", "y.pt"), "must end in .safetensors"),
    ],
)
def test_errors_are_one_sentence(dreibein, arguments, said):
    status, _, error = dreibein("import", *arguments)
    assert status == 2
    assert said in error
    assert error.count("\n") == 1


def test_elements_are_symbols():
    assert atomic_numbers_of(None) is None
    assert atomic_numbers_of("C H") == (6, 1)
    with pytest.raises(ValueError, match="'Xx' is no element"):
        atomic_numbers_of("H,Xx")
