"""Results of an unfinished run, kept in a folder beside its output until the output stands."""

import fcntl
import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from dreibein.label.calculations import Labels
from dreibein.label.sampling import Trajectory

_SETTINGS = "settings.json"
_STRUCTURE = "structure_sha256"  # differs with the seed of conformers, too: named only if alone
_LABEL_NAMES = tuple(f.name for f in fields(Labels))


class PartialResults:
    """Folder `<output>.partial`: settings, one file a trajectory, one file a group of labels.

    Every file is whole or absent, so the folder is valid after any kind of death.

    Args:
        output: The file that the run will write.
        settings: What fixes the result; a folder begun with others is refused.
        overwrite: Empty a folder begun with other settings instead.

    Raises:
        ValueError: The folder was begun with other settings.
        BlockingIOError: Another process is at work in it.
    """

    def __init__(self, output: Path, settings: dict[str, Any], *, overwrite: bool = False) -> None:
        self.folder = partial_folder(output)
        self.folder.mkdir(exist_ok=True)
        self._lock = open(self.folder / "lock", "w")  # noqa: SIM115 (held until `close`)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise BlockingIOError(
                f"another process is writing {output}; wait for it, or name another output"
            ) from None
        try:
            self._settle(output, settings, overwrite)
        except BaseException:
            self.close()
            raise

    def _settle(self, output: Path, settings: dict[str, Any], overwrite: bool) -> None:
        """Go on in a folder of these settings, or begin one."""
        stored = _stored_settings(self.folder)
        if stored is not None and not _equal(stored, settings):
            if not overwrite:
                refuse_other_settings(f"{output} was begun", stored, settings)
            self._empty()
            stored = None
        if stored is None:
            from dreibein.systems.files import atomic_path

            with atomic_path(self.folder / _SETTINGS) as side:
                side.write_text(json.dumps(settings, indent=1), encoding="utf-8")

    def close(self) -> None:
        """Let others at the folder."""
        self._lock.close()

    def remove(self) -> None:
        """Delete the folder: its results stand in the output."""
        self._empty()
        shutil.rmtree(self.folder)

    def _empty(self) -> None:
        """Delete the results, and the settings last: what is left always knows whose it is."""
        for path in self.folder.glob("*.npz"):
            path.unlink()
        (self.folder / _SETTINGS).unlink(missing_ok=True)

    def save_trajectory(self, trajectory: Trajectory) -> None:
        """Keep a trajectory as far as it has come."""
        whole = {
            name: getattr(trajectory, name)
            for name in (
                "wanted", "restarts", "interval", "random", "times_fs", "breaks", "broken_frames",
                "futile",
            )
        }  # fmt: skip
        arrays = {f"frame.{k}": frame for k, frame in enumerate(trajectory.frames)}
        arrays |= {f"energies.{k}": e for k, e in enumerate(trajectory.energies)}
        self._write_arrays(
            f"trajectory-{trajectory.index:05d}",
            whole,
            positions=trajectory.positions,
            velocities=trajectory.velocities,
            **arrays,
        )

    def load_trajectory(self, index: int, atoms: Atoms) -> Trajectory | None:
        """A trajectory as far as it has come, None before its first part is done."""
        stored = self._read_arrays(f"trajectory-{index:05d}")
        if stored is None:
            return None
        whole, arrays = stored
        return Trajectory(
            index=index,
            atoms=atoms,
            positions=arrays["positions"],
            velocities=arrays["velocities"],
            frames=_numbered(arrays, "frame"),
            energies=_numbered(arrays, "energies"),
            **whole,
        )

    def save_labels(self, group: int, labels: list[Labels | str]) -> None:
        """Keep the labels of a group of frames, or the reason why one has none."""
        failures = {k: found for k, found in enumerate(labels) if isinstance(found, str)}
        arrays = {
            f"{name}.{k}": np.asarray(getattr(found, name))
            for k, found in enumerate(labels)
            if isinstance(found, Labels)
            for name in _LABEL_NAMES
            if getattr(found, name) is not None
        }
        self._write_arrays(
            f"labels-{group:07d}", {"n": len(labels), "failures": failures}, **arrays
        )

    def load_labels(self, group: int) -> list[Labels | str] | None:
        """The labels of a group of frames, None before they are done."""
        stored = self._read_arrays(f"labels-{group:07d}")
        if stored is None:
            return None
        whole, arrays = stored
        found: list[Labels | str] = []
        for k in range(whole["n"]):
            if str(k) in whole["failures"]:
                found.append(whole["failures"][str(k)])
                continue
            values: dict[str, Any] = {name: arrays.get(f"{name}.{k}") for name in _LABEL_NAMES}
            found.append(Labels(**{**values, "energy": float(arrays[f"energy.{k}"])}))
        return found

    def _write_arrays(self, name: str, whole: dict[str, Any], **arrays: Any) -> None:
        from dreibein.systems.files import atomic_path

        with atomic_path(self.folder / f"{name}.npz") as side, open(side, "wb") as file:
            np.savez(file, whole=np.array(json.dumps(whole)), **arrays)

    def _read_arrays(self, name: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        path = self.folder / f"{name}.npz"
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        return json.loads(str(arrays.pop("whole"))), arrays


def partial_folder(output: Path) -> Path:
    """Folder beside `output` that holds its unfinished results."""
    return output.with_name(f"{output.name}.partial")


def discard_partial(output: Path, settings: dict[str, Any]) -> None:
    """Delete what a run left that was killed after its output stood."""
    folder = partial_folder(output)
    if not folder.exists():
        return
    stored = _stored_settings(folder)
    if stored is None or _equal(stored, settings):
        partial = PartialResults(output, settings)
        partial.remove()
        partial.close()


def _stored_settings(folder: Path) -> dict[str, Any] | None:
    path = folder / _SETTINGS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _equal(stored: dict[str, Any], settings: dict[str, Any]) -> bool:
    return stored == json.loads(json.dumps(settings))


def refuse_other_settings(what: str, stored: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuse to go on with a file made with other settings.

    Args:
        what: Opening of the sentence, as in "ethanol.extxyz was begun".
        stored: Settings it was made with.
        settings: Settings now.

    Raises:
        ValueError: They differ; names how.
    """
    old, new = _flat(stored), _flat(settings)
    differing = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    named = [key for key in differing if key != _STRUCTURE]
    if differing:
        changes = [f"{key} {old.get(key)} (now {new.get(key)})" for key in named]
        raise ValueError(
            f"{what} with {', '.join(changes) or 'another geometry in the structure file'}; use "
            "the same settings, name another output, or overwrite it"
        )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back, versions beside the rest."""
    plain = dict(json.loads(json.dumps(settings)))
    return plain | {f"version of {k}": v for k, v in plain.pop("versions", {}).items()}


def _numbered(arrays: dict[str, Any], name: str) -> list[Any]:
    count = sum(key.startswith(f"{name}.") for key in arrays)
    return [arrays[f"{name}.{k}"] for k in range(count)]
