"""A file is whole or absent, and what stood there before survives every failure."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dreibein.systems import atomic_path, files


def test_success_replaces(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")
    with atomic_path(path) as side:
        assert side.parent == path.parent
        assert side.suffix == path.suffix
        side.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")

    def fail():
        with atomic_path(path) as side:
            side.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_leaves_no_file_where_there_was_none(tmp_path):
    def fail():
        with atomic_path(tmp_path / "x") as side:
            side.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
def test_the_umask_holds(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_path(tmp_path / "x") as side:
            side.write_text("x")
        assert os.umask(mask) == mask, "the umask itself must come back"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~mask


def test_a_missing_folder_is_the_callers_error(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="nowhere"),
        atomic_path(tmp_path / "nowhere" / "x"),
    ):
        pass


def test_paths_may_be_text(tmp_path):
    with atomic_path(str(tmp_path / "x.txt")) as side:
        side.write_text("text")
    assert (tmp_path / "x.txt").read_text() == "text"


def run_alone(code, path):
    """Run code in another process where `atomic_path` is known, without importing torch."""
    source = Path(files.__file__).read_text(encoding="utf-8")
    command = [sys.executable, "-c", f"{source}\nimport sys\n{code}", str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    """Killed by the system between writing and renaming: the old file is whole."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")
    code = (
        "import signal\n"
        "with atomic_path(sys.argv[1]) as side:\n"
        "    side.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert run_alone(code, path).returncode == -9
    assert path.read_bytes() == b"old"


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """A limit on the size of files stands for a full disk."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")
    code = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with atomic_path(sys.argv[1]) as side:\n"
        "        side.write_bytes(b'x' * 100_000)\n"
        "except OSError as error:\n"
        "    print('refused', error.errno)\n"
    )
    done = run_alone(code, path)
    assert done.stdout.startswith("refused"), done.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
