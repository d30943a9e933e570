"""A small run made by the package's own writers, and a headless browser to look at its report."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch
import yaml
from ase import Atoms

from dreibein.data import DataConfig, load_splits
from dreibein.evaluate import evaluate_potential, run_checks
from dreibein.models import TensorNetConfig, build_potential, save_model
from dreibein.neighbors import attach_neighbors
from dreibein.nn import Potential
from dreibein.recipes.uncertainty import calibrate
from dreibein.simulate import DynamicsConfig, run_dynamics
from dreibein.systems import make_structure, to_ase
from dreibein.testing import sample_crystal, sample_molecule
from dreibein.train.metrics import MetricsFile

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# What a browser says about its own drawing speed is no fault of the page.
BENIGN = ("GPU stall due to ReadPixels", "willReadFrequently")


class Browser:
    """One page in headless Chromium, through the DevTools protocol on a pipe.

    Attributes:
        errors: Console errors, uncaught exceptions, refused loads.
        requests: Addresses asked for, except the page itself and data it carries.
    """

    def __init__(self, program: str, profile: Path, width: int = 1440, height: int = 900) -> None:
        here_read, there_write = os.pipe()
        there_read, here_write = os.pipe()

        def take_pipes() -> None:  # the protocol is spoken on descriptors 3 and 4
            first, second = os.dup(there_read), os.dup(there_write)
            os.dup2(first, 3)
            os.dup2(second, 4)

        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"],
            preexec_fn=take_pipes,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there_read)
        os.close(there_write)
        self._read, self._write = here_read, here_write
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._target: str | None = None
        self.errors: list[str] = []
        self.requests: list[str] = []

    def open(self, path: Path, *, timeout: float = 60.0) -> None:
        """Load a file and wait until its script says that it is ready."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + timeout
        while self.value("document.documentElement.dataset.ready") != "yes":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path.name} was not ready after {timeout} s: {self.errors}")
            time.sleep(0.1)

    def new_page(self) -> None:
        """An empty page in place of the last one; what that one said is forgotten."""
        last, self._session = self._target, None
        self._target = self.call("Target.createTarget", url="about:blank")["targetId"]
        if last is not None:
            self.call("Target.closeTarget", targetId=last)
        attached = self.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.errors, self.requests = [], []

    def value(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page; promises are awaited."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        return found.get("result", {}).get("value")

    def screenshot(self, path: Path, clip: tuple[float, float, float, float] | None = None) -> None:
        """Write a PNG of the page, or of x, y, width, height of it."""
        options: dict[str, Any] = {"captureBeyondViewport": True}
        if clip is not None:
            options["clip"] = dict(zip(("x", "y", "width", "height"), clip, strict=True), scale=1)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **options)["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _receive(self, timeout: float = 60.0) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], timeout)[0]:
                raise TimeoutError("the browser does not answer")
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise RuntimeError("the browser has closed its pipe")
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        method, found = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled" and found["type"] in ("error", "assert"):
            values = [str(a.get("value", a.get("description", ""))) for a in found["args"]]
            self.errors.append(" ".join(values))
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(found["exceptionDetails"].get("exception", found)))
        elif method == "Log.entryAdded" and found["entry"]["level"] == "error":
            text = found["entry"]["text"]
            if not any(words in text for words in BENIGN):
                self.errors.append(text)
        elif method == "Network.requestWillBeSent":
            url = found["request"]["url"]
            own = url == found.get("documentURL") or url.startswith(("data:", "blob:", "about:"))
            if not own:
                self.requests.append(url)

    def close(self) -> None:
        """End the browser."""
        try:
            self._session = None
            self.call("Browser.close")
            self.process.wait(10)
        except (OSError, RuntimeError, TimeoutError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self._read)
        os.close(self._write)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium; tests that need it are skipped without it."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser in PATH (looked for {', '.join(NAMES)})")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        opened = Browser(program, Path(profile))
        try:
            yield opened
        finally:
            opened.close()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """The browser with an empty page."""
    chromium.new_page()
    return chromium


# ---- a small run, made by the package's own writers ------------------------------------------

SYMBOLS = (1, 6, 8)
NOISE = 0.05  # eV/Å on the labels of the forces


def make_potential(**choices: Any) -> Potential:
    """A tiny TensorNet with random weights."""
    torch.manual_seed(3)
    config = TensorNetConfig(
        **{"channels": 8, "layers": 1, "cutoff": 4.0, "num_radial": 8} | choices
    )
    return build_potential(
        config,
        elements=SYMBOLS,
        reference_energies={1: -13.6, 6: -1028.0, 8: -2041.0},
        scale=5.0,
        dtype=torch.float32,
    )


def labeled_frames(potential: Potential, count: int, *, periodic: bool = False) -> list[Atoms]:
    """Frames with the potential's own labels and some noise, in two groups."""
    generator = torch.Generator().manual_seed(7)
    frames = []
    for k in range(count):
        if periodic:
            structure = sample_crystal(SYMBOLS, 4, seed=k)
        else:
            structure = sample_molecule(SYMBOLS, 6 + k % 2, seed=k)
        compute = ("energy", "forces", "stress")[: 3 if periodic else 2]
        found = potential(attach_neighbors(structure, potential.cutoff), compute=compute)
        noise = NOISE * torch.randn(found["forces"].shape, dtype=torch.float64, generator=generator)
        labels = {"energy": found["energy"] + 0.01, "forces": found["forces"] + noise}
        if periodic:
            labels["stress"] = found["stress"] + 1e-3
        atoms = to_ase(
            make_structure(
                structure.z, structure.pos, cell=structure.cell[0], pbc=structure.pbc[0], **labels
            )
        )
        atoms.info["config_type"] = "warm <b>" if k % 2 else "cold"
        frames.append(atoms)
    return frames


def write_run(folder: Path, *, periodic: bool = False) -> Path:
    """A complete run folder: data, splits, metrics, model, evaluation, dynamics, configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    potential = make_potential()
    potential.card = {"level_of_theory": "a <script>alert(1)</script> method", "seed": 3}
    source = folder / "frames.extxyz"
    ase.io.write(source, labeled_frames(potential, 24, periodic=periodic))
    config = DataConfig(sources=[str(source)], validation=4, test=12)
    splits = load_splits(config)
    assert splits.test is not None
    assert splits.validation is not None
    calibrate(potential, splits.train, splits.validation)
    save_model(potential, folder / "model.safetensors")
    (folder / "splits.json").write_text(json.dumps(splits.record()))
    (folder / "provenance.json").write_text(json.dumps(splits.train.provenance))
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"data": config.model_dump(mode="json"), "note": "</pre><b>"})
    )
    evaluation = evaluate_potential(
        potential, splits.test, predictions_path=folder / "predictions.npz"
    )
    evaluation.checks = run_checks(potential, [splits.test[0]])
    evaluation.save(folder / "evaluation.json")
    write_metrics(folder / "metrics.csv", evaluation.metrics)
    run_dynamics(
        ase.io.read(source, index=0),
        potential,
        DynamicsConfig(
            steps=40,
            timestep_fs=0.1,
            temperature_k=50,
            log_interval=2,
            max_force=1e4,
            max_temperature_k=1e6,
            min_distance=0.1,
        ),
        folder / "md",
    )
    return folder


def write_metrics(path: Path, metrics: dict[str, float]) -> None:
    """Twelve epochs whose errors fall to the ones given."""
    file = MetricsFile(path, 0)
    for epoch in range(1, 13):
        more = 1.0 + 4.0 / epoch**2
        row: dict[str, float | None] = {"epoch": epoch, "step": 20 * epoch, "lr": 1e-3 / epoch}
        row |= {"seconds": 1.5, "train_loss": more, "train_energy_loss": 0.1 * more}
        row |= {"train_forces_loss": 0.9 * more, "train_stress_loss": None}
        file.append(row | {f"val_{name}": more * value for name, value in metrics.items()})


@pytest.fixture(scope="session")
def small_potential() -> Callable[..., Potential]:
    """Makes a tiny TensorNet; keyword arguments are hyperparameters."""
    return make_potential


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A molecular run; copy it before changing it."""
    return write_run(tmp_path_factory.mktemp("runs") / "small run")


@pytest.fixture(scope="session")
def crystal_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A periodic run, with stress."""
    return write_run(tmp_path_factory.mktemp("runs") / "crystal", periodic=True)
