"""`dreibein import` writes a model file, says what it assumed, and refuses in one sentence."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from foreign_files import write_checkpoint, write_folder

from dreibein.cli.import_ import atomic_numbers_of
from dreibein.models import load_model, read_header

DATA = Path(__file__).parents[1] / "models" / "data"


def dreibein(*arguments):
    command = [sys.executable, "-m", "dreibein.cli.main", *map(str, arguments)]
    program = "import sys; from dreibein.cli.main import main; sys.argv[0] = 'dreibein'; main()"
    command[1:3] = ["-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_checkpoint_becomes_a_model_file(tmp_path):
    record = json.loads((DATA / "torchmdnet.json").read_text())["models"]["plain"]
    source, target = write_checkpoint(record, tmp_path / "a.ckpt"), tmp_path / "a.safetensors"
    options = ("--elements", "H,C,N,O", "--energy-unit", "kcal/mol")
    done = dreibein("import", "torchmd-net", source, "-o", target, *options)
    assert done.returncode == 0, done.stderr
    assert "unit of energy: kcal/mol (stated)" in done.stdout
    assert "unit of length: Å (assumed" in done.stdout
    assert load_model(target).elements == (1, 6, 7, 8)
    assert read_header(target)["card"]["imported"]["from"] == "torchmd-net"
    again = dreibein("import", "torchmd-net", source, "-o", target)
    assert (again.returncode, "exists" in again.stderr) == (2, True)


def test_a_folder_of_matgl_becomes_a_model_file(tmp_path):
    record = json.loads((DATA / "matgl.json").read_text())["models"]["gaussian"]
    source, target = write_folder(record, tmp_path / "pes"), tmp_path / "pes.safetensors"
    done = dreibein("import", "matgl", source, "-o", target, "--license", "BSD-3-Clause")
    assert done.returncode == 0, done.stderr
    assert "4 elements" in done.stdout
    assert read_header(target)["card"]["license"] == "BSD-3-Clause"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mace", "x", "-o", "y.safetensors"), "unknown family 'mace'"),
        (("matgl", "absent", "-o", "y.safetensors"), "give a folder saved by matgl"),
        (("matgl", "absent", "-o", "y.pt"), "must end in .safetensors"),
    ],
)
def test_errors_are_one_sentence(arguments, said):
    done = dreibein("import", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_elements_are_symbols():
    assert atomic_numbers_of(None) is None
    assert atomic_numbers_of("C H") == (6, 1)
    with pytest.raises(ValueError, match="'Xx' is no element"):
        atomic_numbers_of("H,Xx")
