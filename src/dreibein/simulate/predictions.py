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
from dreibein.nn.frozen import FrozenPotential
from dreibein.simulate.records import AppendedFile, frame_text, with_results
from dreibein.systems import atomic_path, from_ase, join
from dreibein.systems.cells import to_voigt

if TYPE_CHECKING:
    from dreibein.nn.potential import Potential

Progress = Callable[[int, int, str], None]

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

    Frames keep their order, cell, charge and spin, and get `source` ("file, frame 17"). The output
    grows by whole batches; beside it stands OUTPUT.progress.json until all is done, with which a
    call with the same sources and potential goes on where the last one ended, so nothing is lost
    or computed twice.

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
        potential = FrozenPotential(potential)
    if batch_atoms < 1:
        raise ValueError(f"a batch has at least 1 atom, not {batch_atoms}")
    output = Path(output)
    record = output.with_name(f"{output.name}.progress.json")
    origin = {
        "sources": [[str(path), Path(path).stat().st_size] for path in sources],
        "potential": _fingerprint(potential.potential),
    }
    done, size = _begun(output, record, origin, overwrite)
    file = AppendedFile(output, size)
    try:
        rest = itertools.islice(_frames(sources), done, None)
        for batch in _batches(rest, batch_atoms):
            file.append("".join(frame_text(frame) for frame in _evaluated(batch, potential)))
            file.sync()
            done += len(batch)
            with atomic_path(record) as side:
                Path(side).write_text(json.dumps(origin | {"frames": done, "bytes": file.size}))
            if progress is not None:
                progress(done, 0, batch[-1][0])
    finally:
        file.close()
    record.unlink(missing_ok=True)
    return done


def _begun(output: Path, record: Path, origin: dict[str, Any], overwrite: bool) -> tuple[int, int]:
    """Frames and bytes of an output that can go on; zeros for a new one."""
    if overwrite or not output.exists():
        record.unlink(missing_ok=True)
        return 0, 0
    if not record.exists():
        raise ValueError(f"{output} is there already; name another output, or overwrite it")
    before = json.loads(record.read_text())
    for name, value in origin.items():
        if before[name] != value:
            raise ValueError(
                f"{output} was begun with another {name.removesuffix('s')}; name another output, "
                "or overwrite it"
            )
    return int(before["frames"]), int(before["bytes"])


def _frames(sources: Sequence[str | Path]) -> Iterator[tuple[str, Atoms]]:
    """Every frame with its name."""
    for path in sources:
        try:
            for k, atoms in enumerate(ase.io.iread(path, index=":")):
                yield f"{Path(path).name}, frame {k}", atoms
        except (ase.io.formats.UnknownFileTypeError, StopIteration) as error:
            raise ValueError(f"ASE reads no structures from {path}") from error


def _batches(frames: Iterator[tuple[str, Atoms]], most: int) -> Iterator[list[tuple[str, Atoms]]]:
    """Frames in order, as many at once as have `most` atoms together."""
    batch: list[tuple[str, Atoms]] = []
    atoms = 0
    for name, frame in frames:
        if batch and atoms + len(frame) > most:
            yield batch
            batch, atoms = [], 0
        batch.append((name, frame))
        atoms += len(frame)
    if batch:
        yield batch


def _evaluated(batch: list[tuple[str, Atoms]], potential: FrozenPotential) -> list[Atoms]:
    """The frames of a batch with their results."""
    structures = []
    for name, atoms in batch:
        structure = from_ase(atoms)
        try:
            potential.potential.check(structure)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        structures.append(attach_neighbors(structure, potential.potential.cutoff))
    together = join(structures).to(potential.potential.device)
    found = potential(together, compute=("energy", "forces", "stress"))
    values = {name: value.cpu() for name, value in found.items()}
    ends = np.cumsum([len(atoms) for _, atoms in batch])
    return [
        with_results(atoms, _results(values, k, slice(end - len(atoms), end)), source=name)
        for k, ((name, atoms), end) in enumerate(zip(batch, ends, strict=True))
    ]


def _results(values: dict[str, Tensor], k: int, rows: slice) -> dict[str, Any]:
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
