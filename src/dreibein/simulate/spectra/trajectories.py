"""A trajectory as arrays, and what a model says along it."""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import ase.io
import numpy as np
from ase import Atoms, units

from dreibein.simulate.vibrations.hessians import evaluate_all_at

if TYPE_CHECKING:
    from dreibein.nn.potential import Potential

_TIME = re.compile(r"\btime_fs=([-+0-9.eE]+)")
_STEP = re.compile(r"\bstep=([0-9]+)")
_PROPERTIES = re.compile(r"\bProperties=(\S+)")
_BATCH_ATOMS = 2000


@dataclass(frozen=True)
class Trajectory:
    """Frames at equal times.

    Attributes:
        atoms: The first frame; all have its elements and cell.
        positions: [T, N, 3] in Å.
        dt_fs: Time between frames in fs.
        temperature: Mean kinetic temperature in K; NaN where no momenta are kept.
        timestep_fs: Step of the integrator in fs; 0 where frames do not say their step.
    """

    atoms: Atoms
    positions: np.ndarray
    dt_fs: float
    temperature: float
    timestep_fs: float = 0.0


@dataclass(frozen=True)
class Response:
    """Dipoles along a trajectory, and polarizabilities where the model has them.

    Attributes:
        dipole: [T, 3] in e·Å.
        polarizability: [T, 3, 3] in e·Å^2/V, or None.
        source: Where they come from, in words.
    """

    dipole: np.ndarray
    polarizability: np.ndarray | None
    source: str


def read_trajectory(path: str | Path) -> Trajectory:
    """Read a trajectory.extxyz of `dreibein md`, ten times faster than frame by frame.

    Raises:
        ValueError: Fewer than three frames, times that are not equally spaced, or frames that
            are not alike.
        OSError: No such file.
    """
    path = Path(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    count = int(lines[0]) if lines else 0
    frames = len(lines) // (count + 2)
    if frames < 3:
        raise ValueError(f"{path} holds {frames} frame(s), too few for a spectrum; run longer")
    first = ase.io.read(path, 0)
    assert isinstance(first, Atoms)
    comments = lines[1 : frames * (count + 2) : count + 2]
    times = [float(found[1]) for line in comments if (found := _TIME.search(line))]
    steps = np.diff(times)
    if len(times) != frames or not np.allclose(steps, steps[0], rtol=1e-6):
        raise ValueError(
            f"{path}: frames do not say a time_fs at equal steps; give the trajectory of one "
            "dreibein md run"
        )
    rows = [line for k, line in enumerate(lines[: frames * (count + 2)]) if k % (count + 2) > 1]
    places, width = _columns(comments[0])
    words = np.array([row.split() for row in rows])
    if (
        words.shape != (frames * count, width)
        or (
            words[:, places["species"]].reshape(frames, count) != words[:count, places["species"]]
        ).any()
    ):
        raise ValueError(f"{path}: its frames are not of one structure")

    def numbers(name: str) -> np.ndarray:
        start = places[name]
        return words[:, start : start + 3].astype(float).reshape(frames, count, 3)

    temperature = float("nan")
    if "momenta" in places:
        kinetic = 0.5 * (np.square(numbers("momenta")) / first.get_masses()[:, None]).sum((1, 2))
        freedoms = max(1, 3 * count - 3)
        temperature = float(2.0 * kinetic.mean() / (freedoms * units.kB))
    numbered = [int(found[1]) for line in comments[:2] if (found := _STEP.search(line))]
    between = numbered[1] - numbered[0] if len(numbered) == 2 else 0
    timestep = float(steps[0]) / between if between > 0 else 0.0
    return Trajectory(first, numbers("pos"), float(steps[0]), temperature, timestep)


def _columns(comment: str) -> tuple[dict[str, int], int]:
    """First column of each property of an extended XYZ file, and the number of columns."""
    found = _PROPERTIES.search(comment)
    parts = found[1].split(":") if found else ["species", "S", "1", "pos", "R", "3"]
    places, width = {}, 0
    for name, size in zip(parts[::3], parts[2::3], strict=True):
        places[name] = width
        width += int(size)
    return places, width


def response_along(
    potential: "Potential",
    trajectory: Trajectory,
    progress: Callable[[int, int, str], None] | None = None,
) -> Response:
    """Dipole (and polarizability) of every frame.

    A model with charges alone gives the dipole sum_i q_i (x_i - center of mass).

    Raises:
        ValueError: The model gives neither dipoles nor charges.
    """
    has = set(potential.outputs)
    names = ["dipole"] if "dipole" in has else ["charges"]
    names += ["polarizability"] if "polarizability" in has else []
    if names[0] not in has or (names[0] == "charges" and trajectory.atoms.pbc.any()):
        raise ValueError(
            "the model gives no dipole of this structure, and a spectrum needs one; train a model "
            "with dipoles (docs/response.md), or with charges for a molecule"
        )
    potential = copy.deepcopy(potential).requires_grad_(False)  # no graph through the layers
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    total, per_call = len(trajectory.positions), max(1, _BATCH_ATOMS // len(trajectory.atoms))
    for start in range(0, total, per_call):
        places = trajectory.positions[start : start + per_call]
        for name, values in evaluate_all_at(potential, trajectory.atoms, places, names).items():
            parts[name].append(values)
        if progress is not None:
            progress(min(total, start + per_call), total, "frames")
    found = {name: np.concatenate(values) for name, values in parts.items()}
    if names[0] == "dipole":
        return Response(found["dipole"], found.get("polarizability"), "dipoles of the model")
    masses = trajectory.atoms.get_masses()
    centers = np.einsum("n,tna->ta", masses / masses.sum(), trajectory.positions)
    arms = trajectory.positions - centers[:, None]
    dipole = np.einsum("tn,tna->ta", found["charges"], arms)
    return Response(dipole, found.get("polarizability"), "charges of the model")
