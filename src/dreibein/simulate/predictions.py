"""One potential over many structures: batches of a fitting size, an output that can go on."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from dreibein.neighbors import attach_neighbors
from dreibein.nn.bonds import partners
from dreibein.nn.committee import freeze
from dreibein.nn.frozen import FrozenPotential
from dreibein.nn.uncertainty import ENERGY_UNCERTAINTY, FORCES_UNCERTAINTY
from dreibein.simulate.records import AppendedFile, frame_text, with_results
from dreibein.systems import atomic_path, from_ase, join
from dreibein.systems.cells import to_voigt
from dreibein.systems.fields import BONDS

if TYPE_CHECKING:
    from dreibein.nn.potential import Potential

Progress = Callable[[int, int, str], None]
NamedFrame = tuple[int, str, Atoms]  # index among all frames, "file, frame 17", structure

BATCH_ATOMS = 2000
"""Atoms evaluated at once: enough to fill the cores of a small machine, little memory."""


def predict_structures(
    sources: Sequence[str | Path],
    potential: "Potential | FrozenPotential",
    output: str | Path,
    *,
    batch_atoms: int = BATCH_ATOMS,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write energy, forces and (where there is a volume) stress of every frame to extended XYZ.

    Targets and calibrated uncertainties of the potential as well. Frames keep their order, cell,
    charge and spin, and get `source` ("file, frame 17"). The output grows by whole batches; beside
    it stands OUTPUT.progress.json until all is done, with which a call with the same sources and
    potential goes on where the last one ended, so nothing is lost or computed twice.

    Args:
        sources: Files that ASE reads, all their frames.
        potential: Frozen with a backend where one is to be chosen.
        output: An extxyz file.
        batch_atoms: Atoms of a batch at most; a larger structure is a batch of its own.
        overwrite: Replace an output that is there.
        progress: Called with frames done, 0 (the total is not known) and a note.

    Returns:
        Number of frames in the output.

    Raises:
        ValueError: An unknown element (naming the frame), an output that is there already, or one
            that was begun with other sources or another potential.
    """
    if not isinstance(potential, FrozenPotential):
        potential = freeze(potential)
    with Output(sources, potential, output, {}, overwrite) as file:
        for batch in batches(read_frames(sources, file.done), batch_atoms):
            file.write(evaluate_batch(batch, potential))
            if progress is not None:
                progress(file.done, 0, batch[-1][1])
        return file.done


class Output:
    """An extxyz file that grows by whole pieces, and beside it how far it came.

    A context manager; left without an error, the frames are complete and the record goes.

    Args:
        sources: Files of structures.
        potential: What evaluates them.
        path: The file.
        settings: What else must be the same for a run to go on.
        overwrite: Replace what is there.

    Attributes:
        done: Frames in the file.

    Raises:
        ValueError: A finished output is there, or one that was begun otherwise.
    """

    def __init__(
        self,
        sources: Sequence[str | Path],
        potential: FrozenPotential,
        path: str | Path,
        settings: dict[str, Any],
        overwrite: bool,
    ) -> None:
        self._path = Path(path)
        self._record = self._path.with_name(f"{self._path.name}.progress.json")
        self._origin: dict[str, Any] = {
            "sources": [[str(source), Path(source).stat().st_size] for source in sources],
            "potential": _fingerprint(potential.potential),
            **settings,
        }
        self.done, self._size = _begun(self._path, self._record, self._origin, overwrite)

    def __enter__(self) -> "Output":
        self._file = AppendedFile(self._path, self._size)
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self._file.close()
        if kind is None:
            self._record.unlink(missing_ok=True)

    def write(self, frames: Sequence[Atoms]) -> None:
        """Append frames, and say so on disk."""
        self._file.append("".join(frame_text(frame) for frame in frames))
        self._file.sync()
        self.done += len(frames)
        with atomic_path(self._record) as side:
            place = {"frames": self.done, "bytes": self._file.size}
            Path(side).write_text(json.dumps(self._origin | place))


def _begun(output: Path, record: Path, origin: dict[str, Any], overwrite: bool) -> tuple[int, int]:
    """Frames and bytes of an output that can go on; zeros for a new one."""
    if overwrite or not output.exists():
        record.unlink(missing_ok=True)
        return 0, 0
    if not record.exists():
        raise ValueError(f"{output} is there already; name another output, or overwrite it")
    before = json.loads(record.read_text())
    for name, value in origin.items():
        if before.get(name) != value:
            raise ValueError(
                f"{output} was begun with another {name.removesuffix('s')}; name another output, "
                "or overwrite it"
            )
    return int(before["frames"]), int(before["bytes"])


def read_frames(sources: Sequence[str | Path], skip: int = 0) -> Iterator[NamedFrame]:
    """Every frame of some files but the first ones: (index, "file, frame 17", frame)."""
    return itertools.islice(_all_frames(sources), skip, None)


def _all_frames(sources: Sequence[str | Path]) -> Iterator[NamedFrame]:
    index = 0
    for path in sources:
        try:
            for k, atoms in enumerate(ase.io.iread(path, index=":")):
                yield index, f"{Path(path).name}, frame {k}", atoms
                index += 1
        except (ase.io.formats.UnknownFileTypeError, StopIteration) as error:
            raise ValueError(f"ASE reads no structures from {path}") from error


def batches(frames: Iterator[NamedFrame], most: int) -> Iterator[list[NamedFrame]]:
    """Frames in order, as many at once as have `most` atoms together.

    Raises:
        ValueError: `most` below 1.
    """
    if most < 1:
        raise ValueError(f"a batch has at least 1 atom, not {most}")
    batch: list[NamedFrame] = []
    atoms = 0
    for index, name, frame in frames:
        if batch and atoms + len(frame) > most:
            yield batch
            batch, atoms = [], 0
        batch.append((index, name, frame))
        atoms += len(frame)
    if batch:
        yield batch


def evaluate_batch(batch: list[NamedFrame], potential: FrozenPotential) -> list[Atoms]:
    """The frames of a batch with their results.

    Raises:
        ValueError: An unknown element, naming the frame.
    """
    structures = []
    for _, name, atoms in batch:
        structure = from_ase(atoms)
        try:
            potential.potential.check(structure)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        structures.append(attach_neighbors(structure, potential.potential.cutoff))
    together = join(structures).to(potential.potential.device)
    model = potential.potential
    derived = ("energy", "forces", "stress") if model.has_energy else ()
    unsure = tuple(model.uncertainties.values())
    found = potential(together, compute=(*derived, *model.targets, *unsure))
    values = {name: value.cpu() for name, value in found.items()}
    ends = np.cumsum([len(atoms) for *_, atoms in batch])
    frames = [
        with_results(atoms, _results(values, k, slice(end - len(atoms), end)), source=name)
        for k, ((_, name, atoms), end) in enumerate(zip(batch, ends, strict=True))
    ]
    for target, head in model.targets.items():
        whole = head.target.scope == "structure"
        for k, (frame, end) in enumerate(zip(frames, ends, strict=True)):
            value = values[target][k] if whole else values[target][end - len(frame) : end]
            if head.target.scope == "bond":  # as training files hold them: columns of slots
                rows = slice(end - len(frame), end)
                frame.arrays[BONDS] = partners(together, head.target.cutoff).cpu()[rows].numpy()
                value = value.flatten(1)
            (frame.info if whole else frame.arrays)[target] = value.numpy()
    for k, (frame, end) in enumerate(zip(frames, ends, strict=True)):
        if ENERGY_UNCERTAINTY in values:
            frame.info[ENERGY_UNCERTAINTY] = float(values[ENERGY_UNCERTAINTY][k])
        if FORCES_UNCERTAINTY in values:
            rows = slice(end - len(frame), end)
            frame.arrays[FORCES_UNCERTAINTY] = values[FORCES_UNCERTAINTY][rows].numpy()
    return frames


def _results(values: dict[str, Tensor], k: int, rows: slice) -> dict[str, Any]:
    if "energy" not in values:  # a model of targets alone
        return {}
    results = {"energy": float(values["energy"][k]), "forces": values["forces"][rows].numpy()}
    stress = to_voigt(values["stress"][k])
    if bool(torch.isfinite(stress).all()):
        results["stress"] = stress.numpy()
    return results


def _fingerprint(potential: "Potential") -> str:
    """Hash of all weights and constants."""
    digest = hashlib.sha256()
    for name, value in sorted(potential.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
