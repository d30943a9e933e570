"""The train verb as a user meets it."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import typer
import yaml
from ase import Atoms
from ase.calculators.morse import MorsePotential
from ase.io import write
from typer.testing import CliRunner

from dreibein.cli.train import train

app = typer.Typer()
app.command()(train)

TINY = {
    "model.channels": 8,
    "model.layers": 1,
    "model.num_radial": 8,
    "training.epochs": 2,
    "training.lr": 3e-3,
}
SMALL = [text for key, value in TINY.items() for text in ("--set", f"{key}={value}")]


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def frames(tmp_path):
    """Thirty Morse clusters in extended XYZ."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(30):
        pos = np.arange(4)[:, None] * [1.1, 0.0, 0.0] + generator.normal(0, 0.1, (4, 3))
        atoms = Atoms("OHHH", pos)
        atoms.calc = MorsePotential(epsilon=0.5, r0=1.1, rho0=4.0)
        atoms.get_forces()
        found.append(atoms)
    path = tmp_path / "frames.xyz"
    write(path, found)
    return path


def command(*arguments):
    """The installed program, in a process of its own."""
    return [sys.executable, "-m", "dreibein", "train", *(str(a) for a in arguments)]


def test_no_argument_prints_help():
    result = call()
    assert result.exit_code == 0
    assert "Usage" in result.output
    assert "--preset" in result.output


def test_schema_is_json():
    result = call("--schema")
    schema = json.loads(result.output)
    assert set(schema["properties"]) == {"name", "data", "model", "finetune", "training"}


def test_the_shown_configuration_is_read_again(tmp_path):
    shown = call("--preset", "paper-qm9", "--set", "training.lr=1e-4", "--show-config").output
    path = tmp_path / "qm9.yaml"
    path.write_text(shown, encoding="utf-8")
    again = call(path, "--show-config").output
    assert again == shown
    assert yaml.safe_load(shown)["training"]["lr"] == 1e-4


def test_options_win_over_the_file(tmp_path):
    path = tmp_path / "my run.yaml"
    path.write_text("data: {sources: a.xyz, validation: 3}\n", encoding="utf-8")
    options = ("--data", "b.xyz", "--test", "0.2", "--key", "energy=E", "--unit", "length=Bohr")
    values = yaml.safe_load(
        call(path, *options, "--stress-sign", "compression", "--show-config").output
    )
    assert values["name"] == "my-run"
    assert values["data"]["sources"] == ["b.xyz"]
    assert values["data"]["validation"] == 3
    assert values["data"]["test"] == 0.2
    assert values["data"]["keys"] == {"energy": "E"}
    assert values["data"]["units"] == {"length": "Bohr"}
    assert values["data"]["stress_convention"]["sign"] == "compression"


def test_trains_and_shows_errors(tmp_path, frames):
    folder = tmp_path / "run"
    result = call("-p", "small", "-d", frames, "--test", 5, *SMALL, "-o", folder)
    assert result.exit_code == 0, result.output
    text = result.output
    assert len(re.findall(r"^epoch \d/2 \| step \d+ \| lr ", text, re.MULTILINE)) == 2
    for said in ("loss: 1 energy", "runs on cpu", "22 train, 3 validation, 5 test", "meV/Å"):
        assert said in text, said
    assert f"dreibein report {folder}" in text
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "smal"], "unknown preset 'smal': did you mean 'small'?"),
        (["--preset", "small"], "preset small: data.sources is missing"),
        (["--data", "a.xyz", "--set", "training.lrr=1"], "did you mean 'lr'?"),
        (["--data", "a.xyz", "--set", "training.lr=x"], "training.lr is 'x': expected a number"),
        (["--data", "a.xyz", "--key", "energy"], "is not of the form energy=REF_energy"),
        (["--data", "absent.xyz"], "there is no file 'absent.xyz'"),
        (["none.yaml"], "none.yaml: No such file or directory"),
        (["--resume", "nowhere"], "No such file or directory"),
        (["--resume", "nowhere", "--preset", "small"], "--resume takes everything from the run"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(tmp_path, arguments, said, monkeypatch, capsys):
    from dreibein.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dreibein", "train", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.splitlines()[-1].startswith("dreibein: ")
    assert len(error.splitlines()) == 1


def wait_for(path, seconds=120.0):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} never appeared"
        time.sleep(0.05)


def test_ctrl_c_on_a_terminal_saves_and_says_how_to_go_on(tmp_path, frames):
    """A real terminal: a bar instead of lines, Ctrl-C typed at it, and --resume after it."""
    folder = tmp_path / "run"
    arguments = ("-p", "small", "-d", frames, *SMALL, "--set", "training.epochs=100000")
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        command(*arguments, "-o", folder),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    os.set_blocking(main, False)
    wait_for(folder / "checkpoints" / "last.ckpt")
    process.send_signal(signal.SIGINT)
    text = b""
    while process.poll() is None:
        text += drained(main)
        time.sleep(0.05)
    text = (text + drained(main)).decode(errors="replace")
    os.close(main)
    assert process.returncode == 130
    assert "Traceback" not in text
    assert "epoch" in text
    assert not re.search(r"^epoch \d+/100000 \| step", text, re.MULTILINE)  # the bar shows it
    joined = text.replace("\r\n", "").replace("\n", "")
    assert f"dreibein train --resume {folder}" in joined
    done = len((folder / "metrics.csv").read_text().splitlines()) - 1
    result = call("--resume", folder, "--set", f"training.epochs={done + 2}")
    assert result.exit_code == 0, result.output
    assert "continuing after epoch" in result.output
    rows = (folder / "metrics.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, done + 3))


def drained(descriptor):
    """What a terminal has shown since it was last asked."""
    found = b""
    while True:
        try:
            part = os.read(descriptor, 65536)
        except (BlockingIOError, OSError):
            return found
        if not part:
            return found
        found += part
