"""Many relaxations at once: a batch of structures walks downhill together."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from torch_geometric.data import Data

from dreibein.neighbors import attach_neighbors
from dreibein.nn.committee import freeze
from dreibein.nn.frozen import FrozenPotential
from dreibein.simulate.predictions import BATCH_ATOMS, Output, Progress, read_frames
from dreibein.simulate.records import with_results
from dreibein.systems import from_ase, join

if TYPE_CHECKING:
    from dreibein.nn.potential import Potential

# FIRE (Bitzek et al., PRL 97, 170201 (2006)) with ASE's parameters; time in units of its own.
_START, _LONGEST = 0.1, 1.0
_GROW, _SHRINK, _MIX, _LESS_MIX, _PATIENCE = 1.1, 0.5, 0.1, 0.99, 5
_MAX_STEP = 0.2  # Å that an atom moves at once, at most


@dataclass
class _Walker:
    """One structure on its way down."""

    index: int
    name: str
    atoms: Atoms
    structure: Data
    velocity: np.ndarray
    steps: int = 0
    time_step: float = _START
    mix: float = _MIX
    downhill: int = 0
    energy_before: float = field(default=float("nan"))

    def move(self, forces: np.ndarray) -> None:
        """One step of FIRE along the forces."""
        if float((forces * self.velocity).sum()) > 0.0:
            ahead = np.linalg.norm(self.velocity) / np.linalg.norm(forces) * forces
            self.velocity = (1.0 - self.mix) * self.velocity + self.mix * ahead
            if self.downhill > _PATIENCE:
                self.time_step = min(_GROW * self.time_step, _LONGEST)
                self.mix *= _LESS_MIX
            self.downhill += 1
        else:
            self.velocity[:] = 0.0
            self.time_step, self.mix, self.downhill = self.time_step * _SHRINK, _MIX, 0
        self.velocity += self.time_step * forces
        shift = self.time_step * self.velocity
        longest = float(np.sqrt(np.square(shift).sum(1).max(initial=0.0)))
        if longest > _MAX_STEP:
            shift *= _MAX_STEP / longest
        self.structure.pos = self.structure.pos + torch.from_numpy(shift)
        self.steps += 1


def relax_structures(
    sources: Sequence[str | Path],
    potential: "Potential | FrozenPotential",
    output: str | Path,
    *,
    fmax: float = 0.01,
    steps: int = 500,
    batch_atoms: int = BATCH_ATOMS,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Relax the positions of every frame of some files, many at once, and write extended XYZ.

    A batch holds as many structures as have `batch_atoms` atoms together; whoever has arrived makes
    room for the next. Frames are written in the order given, with energy, forces, `source`, `steps`
    and `converged`. A call that is interrupted goes on when it is given again, as
    `predict_structures` does; only structures that were under way start anew.

    Args:
        sources: Files that ASE reads, all their frames.
        potential: Frozen with a backend where one is to be chosen.
        output: An extxyz file.
        fmax: Longest force at convergence in eV/Å.
        steps: Most steps of one structure.
        batch_atoms: Atoms of a batch at most; a larger structure is a batch of its own.
        overwrite: Replace an output that is there.
        progress: Called with frames written, 0 (the total is not known) and a note.

    Returns:
        Frames in the output, and how many of them (of this call) did not converge.

    Raises:
        ValueError: An unknown element (naming the frame), constraints, an output that is there
            already, or one that was begun otherwise.
    """
    if not isinstance(potential, FrozenPotential):
        potential = freeze(potential)
    settings = {"choices": [fmax, steps]}
    failed = 0
    with Output(sources, potential, output, settings, overwrite) as file:
        waiting: dict[int, Atoms] = {}
        for index, frame in _relaxed(
            read_frames(sources, file.done), potential, fmax, steps, batch_atoms
        ):
            waiting[index] = frame
            ready: list[Atoms] = []
            while file.done + len(ready) in waiting:
                ready.append(waiting.pop(file.done + len(ready)))
            if ready:
                failed += sum(not frame.info["converged"] for frame in ready)
                file.write(ready)
                if progress is not None:
                    progress(file.done, 0, f"{ready[-1].info['source']}")
        return file.done, failed


def _relaxed(
    frames: Iterator[tuple[int, str, Atoms]],
    potential: FrozenPotential,
    fmax: float,
    steps: int,
    most: int,
) -> Iterator[tuple[int, Atoms]]:
    """(index, relaxed frame), in the order of arrival."""
    walkers: list[_Walker] = []
    queue: deque[_Walker] = deque()
    more = True
    while True:
        while more:
            if not queue:
                found = next(frames, None)
                if found is None:
                    more = False
                    break
                queue.append(_walker(*found, potential))
            size = sum(len(w.atoms) for w in walkers) + len(queue[0].atoms)
            if walkers and size > most:
                break
            walkers.append(queue.popleft())
        if not walkers:
            return
        near = [attach_neighbors(w.structure, potential.potential.cutoff) for w in walkers]
        batch = join(near).to(potential.potential.device)
        values = potential(batch, compute=("energy", "forces"))
        energies = values["energy"].cpu().numpy()
        sizes = [len(w.atoms) for w in walkers]
        forces = values["forces"].cpu().split(sizes)
        going = []
        for walker, energy, pull in zip(walkers, energies, forces, strict=True):
            if walker.steps == 0:
                walker.energy_before = float(energy)
            longest = float(pull.norm(dim=1).max()) if len(pull) else 0.0
            if longest < fmax or walker.steps >= steps or not np.isfinite(longest):
                yield walker.index, _arrived(walker, float(energy), pull.numpy(), longest < fmax)
            else:
                walker.move(pull.numpy())
                going.append(walker)
        walkers = going


def _walker(index: int, name: str, atoms: Atoms, potential: FrozenPotential) -> _Walker:
    """A structure at the start of its way."""
    if atoms.constraints:
        raise ValueError(
            f"{name} has constraints, which many relaxations at once cannot keep: relax it alone"
        )
    structure = from_ase(atoms)
    try:
        potential.potential.check(structure)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return _Walker(index, name, atoms, structure, np.zeros((len(atoms), 3)))


def _arrived(walker: _Walker, energy: float, forces: np.ndarray, converged: bool) -> Atoms:
    """The last structure with its results."""
    atoms = walker.atoms.copy()
    atoms.positions = walker.structure.pos.numpy()
    results: dict[str, Any] = {"energy": energy, "forces": forces}
    return with_results(
        atoms,
        results,
        source=walker.name,
        steps=walker.steps,
        converged=converged,
        energy_before=walker.energy_before,
    )
