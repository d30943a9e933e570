"""Physical laws measured on a trained potential and real frames, each against a stated limit."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict
from torch_geometric.data import Data

from dreibein.evaluate.consistency import force_error, stress_error
from dreibein.evaluate.probes import Probe, has_stress
from dreibein.evaluate.smoothness import find_crossings, measure_jumps, scan_crossing
from dreibein.evaluate.symmetry import (
    SYMMETRIES,
    measure_extensivity,
    measure_symmetry,
    relative_error,
)

if TYPE_CHECKING:
    from dreibein.nn import Potential

Progress = Callable[[int, int, str], None]
Status = Literal["passed", "failed", "not claimed", "skipped"]

# Limits of relative errors under symmetries, by precision and quantity.
SYMMETRY_LIMITS = {
    "float64": {"energy": 1e-12, "forces": 1e-9, "stress": 1e-9},
    "float32": {"energy": 1e-4, "forces": 1e-3, "stress": 1e-3},
    "bfloat16": {"energy": 1e-2, "forces": 1e-1, "stress": 1e-1},
    "float16": {"energy": 1e-2, "forces": 1e-1, "stress": 1e-1},
}
DERIVATIVE_LIMIT = 1e-6  # eV/Å and eV/Å³
JUMP_LIMITS = (1e-8, 1e-6, 1e-4)  # eV, eV/Å, eV/Å²
JUMP_UNITS = ("eV", "eV/Å", "eV/Å²")
JUMP_NAMES = ("energy", "slope", "curvature")
EXTENSIVITY_LIMIT = 1e-12
ROUNDING_LIMIT = 1e-3  # of the largest force


class Check(BaseModel):
    """One measured law.

    Attributes:
        law: What was measured, e.g. "forces under rotation".
        group: "symmetry", "derivatives", "smoothness", "extensivity" or "rounding".
        precision: Of the model while it was measured.
        value: Largest error found; None when skipped.
        unit: "" for relative errors.
        limit: The law holds when `value <= limit`.
        status: "not claimed" where the model says in its configuration that it breaks the law.
        note: Why it was skipped or is not claimed.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    law: str
    group: str
    precision: str
    value: float | None
    unit: str = ""
    limit: float
    status: Status
    note: str = ""


class CutoffScan(BaseModel):
    """E, E' and E'' (eV, Å) while one neighbor crosses the cutoff."""

    text: str
    cutoff: float
    distance: list[float]
    energy: list[float]
    slope: list[float]
    curvature: list[float]


class Checks(BaseModel):
    """All measured laws.

    Attributes:
        checks: In the order of measuring.
        scan: The crossing with the largest jump of the curvature.
        frames: Which frames of the data were used.
        seconds: Time taken.
    """

    checks: list[Check]
    scan: CutoffScan | None
    frames: list[int]
    seconds: float

    @property
    def failed(self) -> list[Check]:
        """Laws that do not hold."""
        return [check for check in self.checks if check.status == "failed"]

    @property
    def judged(self) -> int:
        """How many laws passed or failed."""
        return sum(check.status in ("passed", "failed") for check in self.checks)


def judge(
    law: str,
    group: str,
    precision: str,
    value: float | None,
    limit: float,
    *,
    unit: str = "",
    not_claimed: str = "",
    note: str = "",
) -> Check:
    """A check with its status; NaN never passes, no value at all is skipped because of `note`.

    >>> judge("forces", "derivatives", "float64", float("nan"), 1e-6).status
    'failed'
    """
    status: Status
    if value is None:
        status = "skipped"
    elif not_claimed:
        status, note = "not claimed", not_claimed
    else:
        status, note = ("passed" if value <= limit else "failed"), ""
    return Check(
        law=law,
        group=group,
        precision=precision,
        value=value,
        unit=unit,
        limit=limit,
        status=status,
        note=note,
    )


def without_references(potential: "Potential") -> "Potential":
    """A copy whose reference energies are 0: thousands of eV that obey every law hide the rest."""
    potential = copy.deepcopy(potential)
    potential.reference[list(potential.elements)] = 0.0
    potential.shift.zero_()
    return potential


def run_checks(
    potential: "Potential",
    structures: Sequence[Data],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Checks:
    """Measure symmetries, derivatives, smoothness and extensivity on a few frames.

    Laws are measured on a float64 copy; symmetries also in the potential's own precision.

    Args:
        potential: Left as it is.
        structures: A handful of real frames, with elements the potential knows.
        seed: Of rotations, permutations and chosen components.
        progress: Called with (done, total, what comes next).

    Raises:
        ValueError: No structures.
    """
    if not structures:
        raise ValueError("checks need at least one structure")
    start = time.perf_counter()
    structures = [structure.clone().cpu() for structure in structures]
    own = Probe(without_references(potential))
    exact = Probe(without_references(potential).double())
    total = 2 * len(SYMMETRIES) + 4
    checks: list[Check] = []
    scan = None
    stages: Iterable[tuple[str, Iterable[Check]]] = (
        *(_symmetry_stages(own, exact, structures, seed)),
        ("rounding", _rounding(own, exact, structures)),
        ("derivatives", _derivatives(exact, structures, seed)),
        ("extensivity", _extensivity(exact, structures)),
    )
    for done, (note, stage) in enumerate(stages):
        if progress:
            progress(done, total, note)
        checks += stage
    if progress:
        progress(total - 1, total, "smoothness")
    found, scan = _smoothness(exact, structures, seed)
    checks += found
    if progress:
        progress(total, total, "")
    return Checks(
        checks=checks,
        scan=scan,
        frames=[int(s.frame) if "frame" in s else k for k, s in enumerate(structures)],
        seconds=time.perf_counter() - start,
    )


def choose_frames(num_frames: int, count: int = 3) -> list[int]:
    """Indices spread evenly from the first to the last.

    >>> choose_frames(100)
    [0, 50, 99]
    """
    if num_frames <= count:
        return list(range(num_frames))
    return [round(k * (num_frames - 1) / (count - 1)) for k in range(count)]


def _precision(probe: Probe) -> str:
    return str(probe.potential.dtype).removeprefix("torch.")


def _symmetry_stages(
    own: Probe, exact: Probe, structures: Sequence[Data], seed: int
) -> Iterator[tuple[str, Iterable[Check]]]:
    probes = [exact] if _precision(own) == "float64" else [exact, own]
    for probe in probes:
        for symmetry in SYMMETRIES:
            yield f"{symmetry}, {_precision(probe)}", _symmetry(probe, structures, symmetry, seed)


def _symmetry(
    probe: Probe, structures: Sequence[Data], symmetry: str, seed: int
) -> Iterator[Check]:
    chiral = getattr(probe.potential.config, "symmetry", "O(3)") == "SO(3)"
    reason = "the model is SO(3)-equivariant: mirror images may differ"
    precision = _precision(probe)
    for name, value in measure_symmetry(probe, structures, symmetry, seed=seed).items():
        yield judge(
            f"{name} under {symmetry}",
            "symmetry",
            precision,
            value,
            SYMMETRY_LIMITS[precision][name],
            not_claimed=reason if chiral and symmetry == "reflection" else "",
        )


def _rounding(own: Probe, exact: Probe, structures: Sequence[Data]) -> Iterator[Check]:
    """How far the forces in the model's own precision are from those in float64."""
    if _precision(own) == "float64":
        return
    pairs = zip(own(structures, ("forces",)), exact(structures, ("forces",)), strict=True)
    value = max(relative_error(a["forces"], b["forces"]) for a, b in pairs)
    yield judge("forces against float64", "rounding", _precision(own), value, ROUNDING_LIMIT)


def _derivatives(exact: Probe, structures: Sequence[Data], seed: int) -> Iterator[Check]:
    yield judge(
        "forces, finite differences",
        "derivatives",
        "float64",
        force_error(exact, structures, seed=seed),
        DERIVATIVE_LIMIT,
        unit="eV/Å",
    )
    if any(has_stress(structure) for structure in structures):
        yield judge(
            "stress, finite differences",
            "derivatives",
            "float64",
            stress_error(exact, structures),
            DERIVATIVE_LIMIT,
            unit="eV/Å³",
        )


def _extensivity(exact: Probe, structures: Sequence[Data]) -> Iterator[Check]:
    yield judge(
        "energy of two copies",
        "extensivity",
        "float64",
        measure_extensivity(exact, structures),
        EXTENSIVITY_LIMIT,
        note="every frame carries a charge, which belongs to the whole structure",
    )


def _smoothness(
    exact: Probe, structures: Sequence[Data], seed: int
) -> tuple[list[Check], CutoffScan | None]:
    cutoff = exact.potential.cutoff
    crossings = find_crossings(structures, cutoff, seed=seed)
    jumps = [measure_jumps(exact, crossing) for crossing in crossings]
    published = getattr(exact.potential.config, "envelope", "smooth") == "cosine"
    reason = "the published cosine envelope: its curvature jumps at the cutoff"
    checks = []
    for order, (name, unit) in enumerate(zip(JUMP_NAMES, JUMP_UNITS, strict=True)):
        checks.append(
            judge(
                f"{name} jump at the cutoff",
                "smoothness",
                "float64",
                max((jump[order] for jump in jumps), default=None),
                JUMP_LIMITS[order],
                unit=unit,
                not_claimed=reason if published and order == 2 else "",
                note="" if crossings else "no pair of these frames can cross the cutoff",
            )
        )
    if not crossings:
        return checks, None
    worst = max(range(len(jumps)), key=lambda k: jumps[k][2])
    curve = scan_crossing(exact, crossings[worst])
    return checks, CutoffScan(cutoff=cutoff, **asdict(curve))
