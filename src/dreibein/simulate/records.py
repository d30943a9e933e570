"""Text files that grow while a run is under way, and what a frame looks like in them."""

import os
from io import StringIO
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

# Results that a frame carries; energies per atom would double its size.
_IN_FRAMES = ("energy", "forces", "stress")


class AppendedFile:
    """A text file that grows by whole pieces: what is there can always be read.

    Args:
        path: The file.
        keep: Bytes to keep of what is there; the rest is cut off.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        self.path = path
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.ftruncate(self._handle, keep)
        self.size = keep

    def append(self, text: str) -> None:
        """Write `text` in one call; on failure (a full disk) nothing of it stays."""
        data = text.encode()
        try:
            written = os.write(self._handle, data)
            while written < len(data):
                written += os.write(self._handle, data[written:])
        except OSError as error:
            os.ftruncate(self._handle, self.size)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self.size += len(data)

    def sync(self) -> None:
        """Wait until the disk has everything."""
        os.fsync(self._handle)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def with_results(atoms: Atoms, results: dict[str, Any], **info: Any) -> Atoms:
    """Copy `atoms` with results fixed to it; of `info` only charge and spin stay.

    Args:
        atoms: The structure.
        results: A calculator's results for it.
        **info: Further entries of the copy's `info`.
    """
    frame = atoms.copy()
    frame.info = {key: frame.info[key] for key in ("charge", "spin") if key in frame.info} | info
    kept = {name: value for name, value in results.items() if name in _IN_FRAMES}
    frame.calc = SinglePointCalculator(frame, **kept)
    return frame


def frame_text(frame: Atoms) -> str:
    """One frame in extended XYZ, with momenta and results."""
    text = StringIO()
    ase.io.write(text, frame, format="extxyz")
    return text.getvalue()
