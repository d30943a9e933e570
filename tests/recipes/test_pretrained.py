"""Public models by name: download that breaks off, checksums, folders without a network."""

import json
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import ase.build
import numpy as np
import pytest
from ase.data import atomic_numbers
from foreign_files import write_folder

from dreibein.cli.main import main
from dreibein.models import load_model
from dreibein.recipes.pretrained import (
    CHECKSUMS_NAME,
    MODELS,
    Pretrained,
    fetch_pretrained,
    find_pretrained,
)
from dreibein.simulate import Calculator

DATA = Path(__file__).parents[1] / "models" / "data" / "matgl.json"
RECORD = json.loads(DATA.read_text())["models"]["gaussian"]
SYMBOLS = RECORD["description"]["kwargs"]["model"]["init_args"]["element_types"]
ELEMENTS = tuple(atomic_numbers[symbol] for symbol in SYMBOLS)


class Handler(BaseHTTPRequestHandler):
    """Serves a folder, with ranges; breaks off the first answers after so many bytes."""

    def do_GET(self):
        owner = type(self)
        owner.asked.append((self.path.rpartition("/")[2], self.headers.get("Range")))
        body = (owner.folder / self.path.rpartition("/")[2]).read_bytes()
        wanted = self.headers.get("Range")
        start = int(wanted[6:-1]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        stop = start + owner.break_after.pop(0) if owner.break_after else len(body)
        self.wfile.write(body[start:stop])

    def log_message(self, *args):
        pass


@pytest.fixture
def upstream(tmp_path):
    """A model folder of matgl as its owners offer it."""
    return write_folder(RECORD, tmp_path / "upstream")


@pytest.fixture
def server(upstream):
    facts = {"folder": upstream, "break_after": [], "asked": []}
    handler = type("Fresh", (Handler,), facts)
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    handler.url = f"http://127.0.0.1:{http.server_port}/"
    yield handler
    http.shutdown()
    http.server_close()
    thread.join()


def entry(url, **more):
    facts = {
        "name": "small",
        "family": "matgl",
        "level_of_theory": "PBE",
        "elements": ELEMENTS,
        "page": "https://example.org",
        "files": {"model.json": None, "state.pt": None},
        "url": url,
        "license": "MIT",
    }
    return Pretrained(**(facts | more))


def test_an_interrupted_download_goes_on_and_the_model_runs(server, tmp_path):
    server.break_after[:] = [10**9, 300]  # the second file breaks off
    potential = fetch_pretrained(entry(server.url), tmp_path / "a.safetensors", folder=tmp_path)
    assert server.asked == [
        ("model.json", None), ("state.pt", None), ("state.pt", "bytes=300-"),
    ]  # fmt: skip
    assert potential.card["license"] == "MIT"
    assert potential.card["level_of_theory"] == "PBE"
    notes = potential.card["imported"]["notes"]
    assert "no checksum of state.pt is published: kept that of this download" in notes
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.card["name"] == "small"
    atoms = ase.build.molecule("CH3OH")
    atoms.calc = Calculator(loaded)
    assert np.isfinite(atoms.get_potential_energy())


def test_the_first_checksum_holds_from_there_on(server, upstream, tmp_path):
    small = entry(server.url)
    fetch_pretrained(small, tmp_path / "a.safetensors", folder=tmp_path)
    known = json.loads((tmp_path / "small" / CHECKSUMS_NAME).read_text())
    assert set(known) == {"model.json", "state.pt"}
    count = len(server.asked)
    found = fetch_pretrained(small, tmp_path / "b.safetensors", folder=tmp_path, offline=True)
    assert len(server.asked) == count  # from the folder
    assert found.card["imported"]["notes"] == ["units: eV and Å, as documented by matgl"]
    with open(tmp_path / "small" / "state.pt", "ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"of the first download is .*: delete the file"):
        fetch_pretrained(small, tmp_path / "c.safetensors", folder=tmp_path)
    assert not (tmp_path / "c.safetensors").exists()


def test_a_published_checksum_is_compared(server, tmp_path):
    wrong = entry(server.url, files={"model.json": None, "state.pt": "0" * 64})
    with pytest.raises(ValueError, match=r"the one published is 0000000000000000…"):
        fetch_pretrained(wrong, tmp_path / "a.safetensors", folder=tmp_path)


def test_without_a_network_a_folder_will_do(upstream, tmp_path):
    gone = entry(None)
    with pytest.raises(FileNotFoundError, match=r"no longer offered .* put model.json and state"):
        fetch_pretrained(gone, tmp_path / "a.safetensors", folder=tmp_path)
    there = entry("http://nowhere/")
    with pytest.raises(FileNotFoundError, match=r"put http://nowhere/model.json there by hand"):
        fetch_pretrained(there, tmp_path / "a.safetensors", folder=tmp_path, offline=True)
    shutil.copytree(upstream, tmp_path / "by_hand" / "small")
    fetch_pretrained(gone, tmp_path / "a.safetensors", folder=tmp_path / "by_hand")
    fetch_pretrained(gone, tmp_path / "b.safetensors", folder=upstream)
    with pytest.raises(FileExistsError, match="exists"):
        fetch_pretrained(gone, tmp_path / "b.safetensors", folder=upstream)


def test_another_model_under_the_name_is_refused(upstream, tmp_path):
    other = entry(None, elements=(1, 6))
    with pytest.raises(ValueError, match="it is another model"):
        fetch_pretrained(other, tmp_path / "a.safetensors", folder=upstream)


def test_the_command(shared, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dreibein", "pretrained", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, *capsys.readouterr()

    status, said, _ = run("list")
    assert status == 0
    assert all(model.name in said for model in MODELS)
    name = "TensorNet-MatPES-PBE-v2025.1-PES"
    target = tmp_path / "m.safetensors"
    folder = shared / "data" / "matgl_tensornet"
    status, said, _ = run("fetch", name.lower(), "-o", target, "--folder", folder)
    assert status == 0
    assert "license BSD-3-Clause" in said
    assert load_model(target).card["name"] == name
    assert run("fetch")[0] == run("fetch", "nothing")[0] == 2


def test_names():
    names = [model.name for model in MODELS]
    assert len(set(names)) == len(names)
    assert find_pretrained("aceff-1.0").name == "AceFF-1.0"
    with pytest.raises(ValueError, match=r"did you mean 'AceFF-2.0'\?"):
        find_pretrained("AceFF2")
    for model in MODELS:
        assert model.url is None or model.url.startswith("https://huggingface.co/")
