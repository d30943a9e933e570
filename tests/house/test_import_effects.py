"""Nothing happens on import: no file, device, setting, handler or heavy optional package."""

import json
import os
import subprocess
import sys

import pytest

from house.tree import module_name, sources

HEAVY = (
    "rdkit",
    "tblite",
    "pyscf",
    "geometric",
    "qm9pack",
    "e3nn",
    "plotly",
    "matplotlib",
    "wandb",
    "tensorboard",
    "pytest",
    "hypothesis",
    "openmm",
)
CPU_SECONDS_HELP = 1.5  # about 0.3 s alone; the margin is for a busy machine
CPU_SECONDS_IMPORT = 0.3

PROBE = """
import importlib, json, logging, os, sys, threading
import {first}
heavy = {heavy!r}
def state():
    torch = sys.modules.get("torch")
    return {{
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "files": sorted(os.listdir()),
        "handlers": [repr(h) for h in logging.getLogger().handlers]
        + [repr(h) for n in list(logging.root.manager.loggerDict) if n.startswith("dreibein")
           for h in logging.getLogger(n).handlers],
        "umask": (os.umask(0o22), os.umask(0o22))[0],
        "dtype": torch and str(torch.get_default_dtype()),
        "seed": torch and torch.initial_seed(),
        "cuda": torch and torch.cuda.is_initialized(),
        "heavy": sorted(n for n in heavy if n in sys.modules),
    }}
before = state()
report = {{}}
for name in {modules!r}:
    importlib.import_module(name)
    now = state()
    changed = {{k: [before[k], now[k]] for k in now if now[k] != before[k]}}
    if "environment" in changed:
        old, new = (set(x["environment"].items()) for x in (before, now))
        changed["environment"] = sorted(old ^ new)
    if changed:
        report[name] = changed
    before = now
print(json.dumps(report))
"""


def clean_run(arguments, folder, **extra):
    """Run Python in an empty folder that is also its home; return the process and its CPU time."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    environment |= {"HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **extra}
    before = os.times()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    after = os.times()
    cpu = after.children_user + after.children_system
    return done, cpu - before.children_user - before.children_system


# libraries that every module may use are loaded first, so that only our own effects are counted
THIRD = "torch, torch_geometric, ase, numpy, lightning, pydantic, scipy, h5py, rich, typer"


def effects(modules, folder, first=THIRD):
    code = PROBE.format(first=first, heavy=HEAVY, modules=modules)
    done, _ = clean_run(["-c", code], folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_every_module_does_nothing(tmp_path):
    modules = [module_name(path) for path in sources() if path.stem != "__main__"]
    assert effects(modules, tmp_path) == {}


def test_effects_are_noticed(tmp_path, monkeypatch):
    """Mutant: a module that sets the environment, adds a handler and loads a heavy package."""
    place = tmp_path / "path"
    place.mkdir()
    (place / "mutant.py").write_text(
        "import os, logging, torch\nos.environ['X_MUTANT'] = '1'\nlogging.basicConfig()\n"
        "torch.set_default_dtype(torch.float64)\nimport hypothesis\nopen('left', 'w').close()\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(place))
    report = effects(["mutant"], home, first="torch")["mutant"]
    assert {"environment", "handlers", "dtype", "heavy", "files"} <= set(report)


def test_import_dreibein_is_fast_and_light(tmp_path):
    code = "import sys, dreibein; print(sorted({'torch', 'ase', 'lightning'} & set(sys.modules)))"
    bare, floor = clean_run(["-c", "pass"], tmp_path)
    done, cpu = clean_run(["-c", code], tmp_path)
    assert bare.returncode == done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert cpu - floor < CPU_SECONDS_IMPORT


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_is_fast_and_does_not_import_torch(tmp_path, arguments):
    code = (
        f"import sys\nfrom dreibein.cli.main import main\nsys.argv[1:] = {arguments!r}\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "heavy = {'torch', 'ase', 'lightning', 'numpy', 'torch_geometric'} & set(sys.modules)\n"
        "print('LOADED', sorted(heavy))\n"
    )
    done, cpu = clean_run(["-c", code], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "LOADED []"
    assert cpu < CPU_SECONDS_HELP, f"{cpu:.2f} s of CPU"
    assert list(tmp_path.iterdir()) == []


def test_the_package_runs_as_a_module(tmp_path):
    done, _ = clean_run(["-m", "dreibein"], tmp_path)
    assert "Usage" in done.stdout + done.stderr
