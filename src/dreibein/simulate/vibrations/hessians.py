"""Second derivatives of the energy of one structure, exact or from differences of forces."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from ase import Atoms

from dreibein.neighbors import attach_neighbors
from dreibein.nn.frozen import FrozenPotential, backends_of
from dreibein.systems import from_ase
from dreibein.systems.structures import join

if TYPE_CHECKING:
    from dreibein.nn.potential import Potential

Progress = Callable[[int, int, str], None]
HessianMethod = Literal["auto", "analytic", "differences"]

# Analytic rows cost a second derivative each; beyond this many atoms differences of forces by the
# engine are faster, and their error is far below that of any potential.
_ANALYTIC_ATOMS = 60
STEP = 0.005  # Å; the error of central differences is (STEP^2 / 6) d4E/dx4, about 1e-5 of d2E/dx2
_BATCH_ATOMS = 1000


@dataclass(frozen=True)
class Hessian:
    """Second derivatives of an energy.

    Attributes:
        values: d2E / dx_ia dx_jb [3N, 3N] in eV/Å^2, symmetric.
        method: How it was made, in words.
        asymmetry: Largest |H - H^T| in eV/Å^2 before it was made symmetric: its numerical error.
    """

    values: np.ndarray
    method: str
    asymmetry: float


def compute_hessian(
    potential: "Potential",
    atoms: Atoms,
    *,
    method: HessianMethod = "auto",
    step: float = STEP,
    progress: Progress | None = None,
) -> Hessian:
    """H = d2E / dx dx, in float64 whatever the precision of the potential.

    "analytic" differentiates the forces by autograd; "differences" takes
    H[:, k] = -(F(x + h e_k) - F(x - h e_k)) / 2h of forces from the engine, where the network has
    one. "auto" is analytic up to 60 atoms.

    Args:
        potential: Not changed; a copy in float64 is evaluated.
        atoms: The structure, periodic or not.
        method: "auto", "analytic" or "differences".
        step: h in Å.
        progress: Called with displacements done, their number, and a note.
    """
    potential = in_double(potential)
    if is_small(atoms, method):
        structure = attach_neighbors(from_ase(atoms), potential.cutoff).to(potential.device)
        values = potential(structure, compute=("hessian",))["hessian"].cpu().numpy()
        return _symmetric(values.reshape(3 * len(atoms), -1), "analytic (autograd, float64)")
    backend = backends_of(potential)[-1]
    frozen = FrozenPotential(potential, backend)
    words = f"central differences of {backend} forces, step {step:g} Å, float64"
    report = progress or (lambda done, total, note: None)

    def forces_at(positions: np.ndarray) -> np.ndarray:
        return evaluate_at(frozen, atoms, positions, "forces")

    per_call = max(1, _BATCH_ATOMS // len(atoms))
    return difference_hessian(
        forces_at, atoms.positions, step=step, words=words, per_call=per_call, progress=report
    )


def difference_hessian(
    forces_at: Callable[[np.ndarray], np.ndarray],
    positions: np.ndarray,
    *,
    step: float = STEP,
    words: str = "central differences of forces",
    per_call: int = 1,
    progress: Progress | None = None,
) -> Hessian:
    """H[:, k] = -(F(x + h e_k) - F(x - h e_k)) / 2h, then (H + H^T) / 2.

    Args:
        forces_at: Forces [M, N, 3] in eV/Å of positions [M, N, 3].
        positions: x [N, 3] in Å.
        step: h in Å.
        words: Said of the method.
        per_call: Displaced pairs given to one call.
        progress: Called with displacements done, their number, and a note.
    """
    size = positions.size
    values = np.empty((size, size))
    for first in range(0, size, per_call):
        columns = range(first, min(size, first + per_call))
        moved = displaced(positions, columns, step)
        forces = forces_at(moved).reshape(len(columns), 2, size)
        values[:, first : first + len(columns)] = (forces[:, 1] - forces[:, 0]).T / (2.0 * step)
        if progress is not None:
            progress(first + len(columns), size, "displacements")
    return _symmetric(values, words)


def displaced(positions: np.ndarray, columns: range, step: float) -> np.ndarray:
    """Positions with one coordinate up, then down, for each of `columns` [2 M, N, 3]."""
    moved = np.repeat(positions[None], 2 * len(columns), axis=0)
    for k, column in enumerate(columns):
        moved[2 * k].flat[column] += step
        moved[2 * k + 1].flat[column] -= step
    return moved


def evaluate_at(
    potential: "Potential | FrozenPotential", atoms: Atoms, positions: np.ndarray, name: str
) -> np.ndarray:
    """One output of a potential for `atoms` at each of the positions [M, N, 3], in one batch.

    Returns:
        [M, N, …] for a quantity of atoms, [M, …] for one of structures.
    """
    return evaluate_all_at(potential, atoms, positions, (name,))[name]


def evaluate_all_at(
    potential: "Potential | FrozenPotential",
    atoms: Atoms,
    positions: np.ndarray,
    names: Sequence[str],
) -> dict[str, np.ndarray]:
    """Several outputs of a potential for `atoms` at each of the positions [M, N, 3]."""
    plain = potential.potential if isinstance(potential, FrozenPotential) else potential
    structures = []
    for place in positions:
        moved = atoms.copy()
        moved.positions = place
        structures.append(attach_neighbors(from_ase(moved), plain.cutoff))
    batch = join(structures).to(plain.device)
    results = {}
    for name, tensor in potential(batch, compute=tuple(names)).items():
        values = tensor.cpu().numpy()
        if len(values) != len(positions):
            values = values.reshape(len(positions), len(atoms), *values.shape[1:])
        results[name] = values
    return results


def is_small(atoms: Atoms, method: HessianMethod = "auto") -> bool:
    """Whether autograd serves: for few atoms an engine costs more to compile than it saves."""
    return method == "analytic" or (method == "auto" and len(atoms) <= _ANALYTIC_ATOMS)


def in_double(potential: "Potential") -> "Potential":
    """A copy of the potential in float64, in evaluation mode."""
    return copy.deepcopy(potential).to(torch.float64).eval()


def _symmetric(values: np.ndarray, method: str) -> Hessian:
    asymmetry = float(np.abs(values - values.T).max(initial=0.0))
    return Hessian(0.5 * (values + values.T), method, asymmetry)
