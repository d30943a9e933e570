"""A virtual environment per peer, made once in a cache folder with pip from whatever it uses."""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TORCH = "torch==2.13.0"
PEERS = {
    "torchmd-net": ("torchmd-net==3.1.*",),
    "matgl": ("matgl>=4",),
    "mace-torch": ("mace-torch",),
}


def python_of(peer: str, cache: Path) -> Path:
    """Interpreter of the peer's environment, which is made when it is not there."""
    folder = cache.resolve() / peer
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    stamp = folder / "installed.stamp"
    if stamp.exists():
        return python
    print(f"making an environment for {peer} (once; some minutes)", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*pip, TORCH], check=True)
    # one call: what the peer pins and what dreibein needs must fit together
    subprocess.run([*pip, TORCH, *PEERS[peer], "--editable", str(ROOT)], check=True)
    stamp.touch()
    return python


def versions(python: Path, *names: str) -> dict[str, str]:
    """Installed versions of packages."""
    code = (
        "import importlib.metadata as m, json, sys;"
        "print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    )
    import json

    done = subprocess.run(
        [str(python), "-c", code, *names], capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))
