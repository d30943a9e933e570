"""What every engine adapter needs: an evaluator of a model, and a box in the form engines want."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms

from dreibein.simulate.evaluator import DEFAULT_SKIN, Evaluator

if TYPE_CHECKING:
    from dreibein.nn.frozen import FrozenPotential
    from dreibein.nn.potential import Potential

    PotentialOrPath = Potential | FrozenPotential | Evaluator | str | Path

# An off-diagonal entry of a box, relative to the diagonal one that it is compared with.
_TOLERANCE = 1e-6


def make_evaluator(
    potential: "PotentialOrPath",
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    skin: float = DEFAULT_SKIN,
    backend: str = "auto",
) -> Evaluator:
    """An `Evaluator` of a potential, frozen or not, or of a model file.

    Args:
        potential: As for `Calculator`; an evaluator is returned as it is.
        device: Where to load a model file; a potential stays where it is.
        dtype: Precision to load a model file in, by default the one it was saved in.
        skin: Extra radius in Å of the neighbor list kept between calls.
        backend: "auto" or one of `dreibein.nn.BACKENDS`.
    """
    if isinstance(potential, Evaluator):
        return potential
    if isinstance(potential, str | Path):
        from dreibein.models import load_model

        potential = load_model(potential, device=device, dtype=dtype)
    return Evaluator(potential, skin=skin, backend=backend)


def import_engine(module: str, extra: str) -> Any:
    """Import an optional engine.

    Raises:
        ImportError: Naming the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} cannot be imported ({error}): install it with "
            f'pip install "dreibein[{extra}]"'
        ) from error


def is_periodic(atoms: Atoms, engine: str) -> bool:
    """Whether a structure is periodic in all three directions, for an engine without a mixture.

    Raises:
        ValueError: Periodic in one or two directions, or without a box.
    """
    if not atoms.pbc.any():
        return False
    if not atoms.pbc.all():
        raise ValueError(
            f"{engine} knows boxes that are periodic in all directions or none, "
            f"and pbc is {atoms.pbc.tolist()}: set atoms.pbc to True or False"
        )
    check_box(atoms, engine)
    return True


def check_box(atoms: Atoms, engine: str) -> None:
    """Refuse a structure without three independent cell vectors.

    Raises:
        ValueError: In one sentence.
    """
    if atoms.cell.rank < 3:
        raise ValueError(
            f"{engine} needs a box and the structure has {atoms.cell.rank} of 3 cell vectors: "
            "set atoms.cell"
        )


def has_standard_box(atoms: Atoms) -> bool:
    """Whether a is along +x, b in the xy plane with y > 0, z of c > 0, and no tilt above half."""
    cell = atoms.cell.array
    lengths = np.diag(cell)
    if (lengths <= 0.0).any():
        return False
    below = np.abs(np.triu(cell, 1)).max() <= _TOLERANCE * lengths.min()
    tilts = abs(cell[1, 0]) / cell[0, 0], abs(cell[2, 0]) / cell[0, 0], abs(cell[2, 1]) / cell[1, 1]
    return bool(below and max(tilts) <= 0.5 + _TOLERANCE)


def standard_box(atoms: Atoms) -> Atoms:
    """The same crystal, turned so that its cell is lower triangular and its tilts at most half.

    OpenMM and LAMMPS accept no other boxes. Lattice vectors are replaced by ones of the same
    lattice; positions turn with them (a proper rotation); nothing else changes.

    Args:
        atoms: With three cell vectors.

    Returns:
        A copy. Velocities turn too.

    >>> from ase.build import bulk
    >>> standard_box(bulk("Cu")).cell.array.round(3).tolist()
    [[2.553, 0.0, 0.0], [1.276, 2.211, 0.0], [1.276, 0.737, 2.084]]
    """
    check_box(atoms, "a standard box")
    if not atoms.pbc.all():
        raise ValueError("only a cell that is periodic in all directions has a standard box")
    if has_standard_box(atoms):
        return atoms.copy()
    cell = atoms.cell.array * np.sign(np.linalg.det(atoms.cell.array))  # right-handed
    # cell = L Q with L lower triangular and positive on its diagonal
    upper_q, upper_r = np.linalg.qr(cell.T)
    signs = np.sign(np.diag(upper_r))
    lower, rotation = (upper_r.T * signs), (upper_q * signs).T
    for row, column in ((1, 0), (2, 1), (2, 0)):
        lower[row] -= np.round(lower[row, column] / lower[column, column]) * lower[column]
    turned = atoms.copy()
    turned.set_cell(np.tril(lower), scale_atoms=False)
    turned.positions = atoms.positions @ rotation.T
    if "momenta" in atoms.arrays:
        turned.set_momenta(atoms.get_momenta() @ rotation.T)
    return turned
