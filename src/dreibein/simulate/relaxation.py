"""Relaxation: downhill to the next minimum, of the positions or of the cell as well."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE, LBFGS

from dreibein.simulate.calculator import Calculator
from dreibein.simulate.evaluator import DEFAULT_SKIN, Evaluator
from dreibein.simulate.guards import BlowUpError, Bounds, find_bad_motion, find_clash
from dreibein.simulate.records import AppendedFile, frame_text, with_results

if TYPE_CHECKING:
    from dreibein.nn.frozen import FrozenPotential
    from dreibein.nn.potential import Potential

# A rise of the energy (eV) above its lowest value that ends a stretch of L-BFGS, and the length of
# the stretch of FIRE that follows.
_RISE = 1e-3
_FALL_STEPS = 25
_BOUNDS = Bounds(temperature=np.inf, force=np.inf, distance=0.4)


@dataclass(frozen=True)
class RelaxationResult:
    """Where a relaxation ended.

    Attributes:
        atoms: The final structure with energy, forces (and stress) attached.
        converged: Whether `fmax` was reached.
        steps: Optimizer steps taken.
        energy_before: Energy at the start in eV.
        energy_after: Energy at the end in eV.
        max_force: Longest force at the end in eV/Å.
        stress_error_gpa: Largest component of stress + pressure in GPa; None for a fixed cell.
        seconds: Wall time.
    """

    atoms: Atoms
    converged: bool
    steps: int
    energy_before: float
    energy_after: float
    max_force: float
    stress_error_gpa: float | None
    seconds: float


def relax_structure(
    atoms: Atoms,
    potential: "Potential | FrozenPotential | Evaluator",
    *,
    fmax: float = 0.01,
    steps: int = 500,
    cell: bool = False,
    pressure_gpa: float = 0.0,
    trajectory: str | Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> RelaxationResult:
    """Relax to the nearest minimum of the energy, or with `cell` of the enthalpy E + p V.

    Uses L-BFGS: one evaluation a step, about half as many as FIRE needs, and memory linear in the
    number of atoms. Left alone it climbs to a maximum from where the curvature is negative, so
    when the energy rises it goes back to the lowest point and lets FIRE, which only falls, take
    the next steps. The cell moves through the logarithm of its deformation (Fréchet filter), with
    gradients that fit the enthalpy.

    Args:
        atoms: Where to start; not changed.
        potential: Energies, forces, stress; an `Evaluator` where it is one in a field.
        fmax: Longest force at convergence in eV/Å; with `cell` also bounds the virial per atom
            (eV).
        steps: Most steps to take.
        cell: Whether the cell relaxes too.
        pressure_gpa: External pressure in GPa; only with `cell`.
        trajectory: An extended XYZ file to write every step to, replaced if there.
        progress: Called with steps done, most steps, and a note.

    Raises:
        ValueError: A cell to relax that is not periodic in three dimensions, a pressure without
            `cell`, or an unknown element.
        BlowUpError: A force is not a number, or atoms ended on top of each other.
    """
    if cell and not atoms.pbc.all():
        raise ValueError(
            "relaxing the cell needs a structure periodic in three dimensions, and pbc is "
            f"{atoms.pbc.tolist()}; relax the positions alone"
        )
    if pressure_gpa and not cell:
        raise ValueError("a pressure acts on the cell: ask for the cell to be relaxed too")
    began = time.perf_counter()
    atoms = atoms.copy()
    calculator = atoms.calc = Calculator(potential, skin=DEFAULT_SKIN)
    calculator.always = ("forces", "stress") if cell else ("forces",)
    energy_before = atoms.get_potential_energy()
    pressure = pressure_gpa * units.GPa
    target: Any = FrechetCellFilter(atoms, scalar_pressure=pressure) if cell else atoms
    path = _Path(trajectory)
    done, converged = 0, False
    try:
        for now in _descend(target, atoms, fmax, steps):
            done, converged = now
            forces = atoms.get_forces()
            _refuse(find_bad_motion(0.0, forces, _BOUNDS), done)
            path.add(atoms, calculator, done)
            if progress:
                progress(done, steps, f"{_longest(forces):.3g} eV/Å")
    finally:
        path.close()
    _refuse(find_clash(atoms, calculator.evaluator.pairs, _BOUNDS), done)
    stress_error = None
    if cell:
        off = atoms.get_stress() + pressure * np.array([1, 1, 1, 0, 0, 0])
        stress_error = float(np.abs(off).max() / units.GPa)
    return RelaxationResult(
        atoms=with_results(atoms, calculator.results),
        converged=converged,
        steps=done,
        energy_before=energy_before,
        energy_after=atoms.get_potential_energy(),
        max_force=_longest(atoms.get_forces()),
        stress_error_gpa=stress_error,
        seconds=time.perf_counter() - began,
    )


def _descend(target: Any, atoms: Atoms, fmax: float, steps: int) -> Iterator[tuple[int, bool]]:
    """Yield (steps done, converged) at the start and after every step downhill.

    Args:
        target: The atoms, or the filter that moves them with their cell.
        atoms: The atoms themselves.
        fmax: Longest generalized force at convergence.
        steps: Most steps.
    """
    done, lowest, best = 0, np.inf, (atoms.positions.copy(), atoms.cell.copy())
    falling = False
    while True:
        kind = FIRE if falling else LBFGS
        optimizer: Any = kind(target, logfile=None)  # type: ignore[arg-type]
        allowed = min(steps - done, _FALL_STEPS) if falling else steps - done
        rose = converged = False
        for reached in optimizer.irun(fmax=fmax, steps=allowed):
            converged = bool(reached)
            energy = target.get_potential_energy()
            rose = not falling and energy > lowest + _RISE
            if energy < lowest:
                lowest, best = energy, (atoms.positions.copy(), atoms.cell.copy())
            if optimizer.nsteps or not done:
                done += bool(optimizer.nsteps)
                yield done, converged and not rose
            if rose:
                break
        if done >= steps or (converged and not rose):
            return
        if rose:
            atoms.set_cell(best[1])
            atoms.set_positions(best[0])
        falling = rose


class _Path:
    """The way down, written to a file where one is wanted."""

    def __init__(self, path: str | Path | None) -> None:
        self._file = AppendedFile(Path(path)) if path is not None else None

    def add(self, atoms: Atoms, calculator: Calculator, step: int) -> None:
        if self._file is not None:
            self._file.append(frame_text(with_results(atoms, calculator.results, step=step)))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _refuse(reason: str | None, step: int) -> None:
    if reason is not None:
        message = (
            f"the relaxation left the potential's domain at step {step}: {reason}; start nearer "
            "to a minimum or train the potential on such structures"
        )
        raise BlowUpError(step, reason, message)


def _longest(forces: np.ndarray) -> float:
    return float(np.sqrt(np.square(forces).sum(1).max(initial=0.0)))
