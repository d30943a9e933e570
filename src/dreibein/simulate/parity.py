"""The same frame through every engine, backend and precision: do the numbers agree?"""

import copy
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from pydantic import BaseModel, ConfigDict

from dreibein.nn.frozen import FrozenPotential, backends_of
from dreibein.nn.potential import Potential
from dreibein.simulate.engines import standard_box
from dreibein.simulate.evaluator import Evaluator
from dreibein.simulate.parity_engines import ENGINES, Frame, ParityEngine

PARITY_NAME = "parity.json"
PRECISIONS = {"float64": torch.float64, "float32": torch.float32}

# Largest difference that counts as agreement, relative to the largest force (at least 1 eV/Å),
# the energy an atom (1 eV) and the largest stress (0.01 eV/Å³). Exact means the same arithmetic,
# up to constants of nature that engines know to eight digits.
EXACT, ROUNDED = 3e-7, 1e-4
_FORCE, _ENERGY, _STRESS = 1.0, 1.0, 0.01  # eV/Å, eV, eV/Å³

Progress = Callable[[int, int, str], None]


class ParityRow(BaseModel):
    """One way of evaluating the frame, against autograd in float64 by ASE.

    Attributes:
        engine: Name.
        backend: "reference" or "fused".
        precision: "float64" or "float32".
        energy: eV; None where the engine did not run.
        energy_error: Absolute difference in eV.
        forces_error: Largest difference of a component in eV/Å.
        stress_error: Largest difference of a component in eV/Å³, where there is a stress.
        milliseconds: Median of a call for all of that.
        agrees: Whether all differences are within the tolerance.
        note: Why it did not run.
    """

    model_config = ConfigDict(extra="forbid")

    engine: str
    backend: str | None = None
    precision: str | None = None
    energy: float | None = None
    energy_error: float | None = None
    forces_error: float | None = None
    stress_error: float | None = None
    milliseconds: float | None = None
    agrees: bool | None = None
    note: str | None = None


class ParityReport(BaseModel):
    """A certificate: every row of one frame, and what was run.

    Attributes:
        formula: Chemical formula.
        atoms: Their number.
        largest_force: Of the reference, in eV/Å.
        largest_stress: Of the reference, in eV/Å³.
        elements: That the potential knows.
        versions: Package -> version.
        rows: The first is the reference.
    """

    model_config = ConfigDict(extra="forbid")

    formula: str
    atoms: int
    largest_force: float
    largest_stress: float | None
    elements: tuple[int, ...]
    versions: dict[str, str]
    rows: list[ParityRow]

    @property
    def agrees(self) -> bool:
        """Whether everything that ran agrees."""
        return all(row.agrees is not False for row in self.rows)


@dataclass(frozen=True)
class _Way:
    """A potential in one precision by one backend."""

    potential: FrozenPotential
    precision: str

    @property
    def exact(self) -> bool:
        return self.precision == "float64" and self.potential.backend == "reference"

    @property
    def tolerance(self) -> float:
        return EXACT if self.exact else ROUNDED


def measure_parity(
    potential: Potential,
    atoms: Atoms,
    *,
    repeat: int = 5,
    progress: Progress | None = None,
) -> ParityReport:
    """Evaluate a frame by every engine, backend and precision there is.

    Args:
        potential: Left as it is; copies are evaluated.
        atoms: The frame; charge and spin from `info`. A periodic cell is turned into the standard
            one of its lattice, which some engines want.
        repeat: Calls that are timed, after one that is not.
        progress: Called with (done, total, note).

    Raises:
        ValueError: An element the potential does not know.
    """
    Evaluator(potential).check(atoms.numbers)
    if atoms.pbc.all():
        atoms = standard_box(atoms)
    ways = list(_ways(potential))
    rows: list[ParityRow] = []
    reference: Frame | None = None
    total = len(ENGINES) * len(ways)
    for engine in ENGINES:
        if not engine.installed:
            rows.append(ParityRow(engine=engine.name, note="not installed"))
            continue
        for way in ways:
            if engine.exact_only and not way.exact:
                continue
            if progress:
                progress(len(rows), total, engine.name)
            try:
                frame, seconds = _timed(engine, way.potential, atoms, repeat)
            except (ValueError, ImportError) as error:  # what this engine cannot take
                rows.append(ParityRow(engine=engine.name, note=str(error)))
                break
            reference = reference or frame
            rows.append(_row(engine, way, frame, seconds, reference))
    if progress:
        progress(total, total, "")
    assert reference is not None, "ASE is always there and comes first"
    return _report(potential, atoms, reference, rows)


def _ways(potential: Potential) -> Iterator[_Way]:
    """Precisions and backends, the reference first."""
    for name, dtype in PRECISIONS.items():
        copied = copy.deepcopy(potential).to(dtype=dtype)
        for backend in backends_of(copied):
            yield _Way(FrozenPotential(copied, backend), name)


def _timed(
    engine: ParityEngine, potential: FrozenPotential, atoms: Atoms, repeat: int
) -> tuple[Frame, float]:
    """The frame, and the median seconds of a call."""
    with engine.open(potential, atoms) as evaluate:
        frame = evaluate()
        times = []
        for _ in range(repeat):
            start = time.perf_counter()
            evaluate()
            times.append(time.perf_counter() - start)
    return frame, statistics.median(times) if times else float("nan")


def _row(
    engine: ParityEngine, way: _Way, frame: Frame, seconds: float, reference: Frame
) -> ParityRow:
    """One line of the table."""
    energy = abs(frame.energy - reference.energy)
    forces = _largest(frame.forces - reference.forces)
    stress, agrees = None, True
    if frame.stress is not None and reference.stress is not None:
        stress = _largest(frame.stress - reference.stress)
        agrees = stress <= way.tolerance * max(_STRESS, _largest(reference.stress))
    agrees &= energy <= way.tolerance * _ENERGY * len(frame.forces)
    agrees &= forces <= way.tolerance * max(_FORCE, _largest(reference.forces))
    return ParityRow(
        engine=engine.name,
        backend=way.potential.backend,
        precision=way.precision,
        energy=frame.energy,
        energy_error=energy,
        forces_error=forces,
        stress_error=stress,
        milliseconds=1e3 * seconds,
        agrees=bool(agrees),
    )


def _report(
    potential: Potential, atoms: Atoms, reference: Frame, rows: Sequence[ParityRow]
) -> ParityReport:
    """All rows with what they were measured on."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for engine in ENGINES:
        if engine.installed and engine.version:
            versions[engine.package] = engine.version
    return ParityReport(
        formula=atoms.get_chemical_formula(),
        atoms=len(atoms),
        largest_force=_largest(reference.forces),
        largest_stress=None if reference.stress is None else _largest(reference.stress),
        elements=potential.elements,
        versions=versions,
        rows=list(rows),
    )


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))
