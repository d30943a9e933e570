"""Normal modes: rigid motions taken out, the rest diagonalized in mass-weighted coordinates."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

# sqrt(eV / Å^2 / amu) as an energy hbar omega in eV
_QUANTUM = units._hbar * 1e10 / np.sqrt(units._e * units._amu)
# A rotation that moves no atom by more than this part of the others is that about a line.
_LINEAR = 1e-3


@dataclass(frozen=True)
class NormalModes:
    """Vibrations of one structure, by ascending curvature.

    Attributes:
        wavenumbers: [M] in cm^-1; an imaginary one i w is given as -w.
        directions: dx/dQ [M, N, 3] in amu^-1/2: the mass-weighted mode is orthonormal.
        reduced_masses: 1 / sum |dx/dQ|^2 [M] in amu.
        force_constants: Reduced mass times omega^2 [M] in eV/Å^2, negative where imaginary.
        rigid: How many translations and rotations were taken out.
        rigid_wavenumbers: Wavenumbers [rigid] of those motions, which vanish at a minimum of an
            exactly invariant energy.
    """

    wavenumbers: np.ndarray
    directions: np.ndarray
    reduced_masses: np.ndarray
    force_constants: np.ndarray
    rigid: int
    rigid_wavenumbers: np.ndarray

    @property
    def energies(self) -> np.ndarray:
        """Quanta hbar omega [M] in eV, negative where imaginary."""
        return self.wavenumbers * units.invcm

    @property
    def num_imaginary(self) -> int:
        """How many modes go downhill."""
        return int((self.wavenumbers < 0).sum())

    @property
    def zero_point_energy(self) -> float:
        """Half the sum of the real quanta in eV."""
        return 0.5 * float(self.energies[self.wavenumbers > 0].sum())


def normal_modes(hessian: np.ndarray, atoms: Atoms) -> NormalModes:
    """Eigenvectors of M^-1/2 H M^-1/2 in the space orthogonal to all rigid motions.

    The basis is reduced before diagonalizing, so no rigid motion mixes into a soft mode: a
    molecule has 3N - 6 modes, a linear one 3N - 5, a structure periodic in any direction 3N - 3.

    Args:
        hessian: [3N, 3N] in eV/Å^2, symmetric.
        atoms: Positions and masses of the structure.
    """
    roots = np.sqrt(np.repeat(atoms.get_masses(), 3))
    weighted = hessian / roots[:, None] / roots[None, :]
    rigid = rigid_motions(atoms)
    # the last columns of a complete QR span what is orthogonal to the rigid motions
    rest = np.linalg.qr(rigid, mode="complete")[0][:, rigid.shape[1] :]
    curvatures, vectors = np.linalg.eigh(rest.T @ weighted @ rest)
    vectors = _signed((rest @ vectors).T)
    directions = vectors / roots
    masses = 1.0 / np.square(directions).sum(1)
    along_rigid = np.linalg.eigvalsh(rigid.T @ weighted @ rigid)
    return NormalModes(
        wavenumbers=to_wavenumbers(curvatures),
        directions=directions.reshape(len(directions), len(atoms), 3),
        reduced_masses=masses,
        force_constants=curvatures * masses,
        rigid=rigid.shape[1],
        rigid_wavenumbers=to_wavenumbers(along_rigid),
    )


def to_wavenumbers(curvatures: np.ndarray) -> np.ndarray:
    """sqrt(curvature) as wavenumbers in cm^-1, -sqrt(-curvature) where negative.

    Args:
        curvatures: Eigenvalues of the mass-weighted Hessian in eV/Å^2/amu.
    """
    return np.sign(curvatures) * np.sqrt(np.abs(curvatures)) * _QUANTUM / units.invcm


def rigid_motions(atoms: Atoms) -> np.ndarray:
    """Orthonormal mass-weighted translations and rotations [3N, 3 or 5 or 6].

    Rotations that move nothing (about the axis of a linear molecule; all of an atom's) and those
    of periodic structures are left out.
    """
    roots = np.sqrt(atoms.get_masses())
    translations = [np.outer(roots, axis).ravel() for axis in np.eye(3)]
    found = np.linalg.qr(np.array(translations).T)[0]
    if atoms.pbc.any():
        return found
    centered = atoms.positions - atoms.get_center_of_mass()
    rotations = [(roots[:, None] * np.cross(axis, centered)).ravel() for axis in np.eye(3)]
    left, sizes, _ = np.linalg.svd(np.array(rotations).T, full_matrices=False)
    kept = left[:, sizes > _LINEAR * max(float(sizes.max()), 1e-6)]
    return np.linalg.qr(np.concatenate([found, kept], axis=1))[0]


def is_linear(atoms: Atoms) -> bool:
    """Whether a molecule is an atom or a straight line."""
    return rigid_motions(atoms).shape[1] < 6


def _signed(vectors: np.ndarray) -> np.ndarray:
    """Rows with their largest component positive, so that the same mode is always the same."""
    if not len(vectors):
        return vectors
    largest = np.abs(vectors).argmax(1)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])
    return vectors * signs[:, None]
