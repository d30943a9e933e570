"""Files that are either whole or absent: written to the side, then renamed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it is removed.

    Whatever stood at `path` survives every error, a full disk included.

    Args:
        path: The final file name; its folder must exist.

    Yields:
        A path in the same folder (same file system, same suffix) to write to.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    side = Path(name)
    try:
        yield side
        with open(side, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(side, 0o666 & ~_umask())
        os.replace(side, path)
    finally:
        side.unlink(missing_ok=True)


def _umask() -> int:
    """The process's umask, which mkstemp ignores and users expect to hold."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
