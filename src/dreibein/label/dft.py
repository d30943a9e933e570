"""Density functionals and Hartree-Fock through PySCF."""

import difflib
import importlib
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree

from dreibein.label.calculations import (
    Array,
    ConvergenceError,
    Labels,
    total_charge,
    unpaired_electrons,
)

# Offered as the nearest name of a misspelt one; every functional of libxc is accepted.
COMMON_FUNCTIONALS = (
    "HF", "SVWN", "PBE", "revPBE", "RPBE", "PBEsol", "BLYP", "BP86", "PW91", "TPSS", "SCAN",
    "r2SCAN", "M06-L", "PBE0", "B3LYP", "CAM-B3LYP", "HSE06", "TPSSh", "M06-2X", "wB97X",
    "B97M-V", "wB97X-V", "wB97M-V", "PBE-D3BJ", "B3LYP-D3BJ", "wB97X-D3BJ", "wB97M-D3BJ", "PBE-D4",
)  # fmt: skip
COMMON_BASES = (
    "STO-3G", "3-21G", "6-31G", "6-31G*", "6-31G**", "6-31+G*", "6-311G**", "6-311++G**",
    "def2-SVP", "def2-SVPD", "def2-TZVP", "def2-TZVPP", "def2-TZVPD", "def2-TZVPPD", "def2-QZVP",
    "cc-pVDZ", "cc-pVTZ", "aug-cc-pVDZ", "aug-cc-pVTZ", "pcseg-1", "pcseg-2", "LANL2DZ",
)  # fmt: skip
_DISPERSIONS = ("-d3bj", "-d3zero", "-d4")
# Forces then equal differences of the energy to 1e-6 (HF) and 1e-5 eV/Å (functionals).
_ENERGY_TOLERANCE_HA, _GRADIENT_TOLERANCE_HA = 1e-10, 1e-6
_MAX_CYCLES = 100
_GRID_LEVEL = 3


class DftMethod:
    """`functional/basis` or `HF/basis`; restricted for closed shells, unrestricted otherwise.

    Gradients include the response of the integration grid: they are the derivative of the energy
    that stands beside them, and they sum to zero.

    Args:
        name: As in "PBE/def2-SVP", "wB97M-D3BJ/def2-TZVPPD", "HF/6-31G*".

    Raises:
        ImportError: PySCF (or its dispersion package) is not installed.
        ValueError: Functional or basis are not known.
    """

    frames_per_task = 1

    def __init__(self, name: str) -> None:
        functional, _, basis = name.partition("/")
        self.name, self.functional, self.basis = name, functional.strip(), basis.strip()
        _pyscf("gto")
        self.packages: tuple[str, ...] = ("pyscf",)
        if self.functional.lower().endswith(_DISPERSIONS):
            self.packages += ("pyscf-dispersion",)
            _dispersion()
        _check_functional(self.functional)
        _load_basis(self.basis, "H")

    def check(self, atoms: Atoms) -> None:
        """Refuse periodic cells, elements that the basis lacks, and spins that do not fit."""
        unpaired_electrons(atoms)
        if atoms.pbc.any():
            raise ValueError(
                f"{self.name} is for molecules and the structure is periodic; use GFN2-xTB, or "
                "set pbc to none"
            )
        for symbol in sorted(set(atoms.get_chemical_symbols())):
            _load_basis(self.basis, symbol)

    def calculation(self, atoms: Atoms) -> "DftCalculation":
        """Calculation of one molecule, fixed in elements, charge and spin."""
        return DftCalculation(self.functional, self.basis, atoms)


class DftCalculation:
    """One molecule in PySCF; Hartree and Bohr end here."""

    def __init__(self, functional: str, basis: str, atoms: Atoms) -> None:
        self._functional = functional
        symbols = atoms.get_chemical_symbols()
        self._molecule = _pyscf("gto").M(
            atom=list(zip(symbols, atoms.positions)),
            unit="Angstrom",
            basis=basis,
            ecp={s: basis for s in sorted(set(symbols)) if _has_core_potential(basis, s)},
            charge=total_charge(atoms),
            spin=unpaired_electrons(atoms),
            symmetry=False,
            verbose=0,
        )
        self._density: Any = None

    def energy_and_forces(self, positions: Array) -> tuple[float, Array]:
        """Energy in eV and forces in eV/Å, started from the density before."""
        field = self._solve(positions, self._density)
        self._density = field.make_rdm1()
        return float(field.e_tot) * Hartree, self._forces(field)

    def forget(self) -> None:
        """Start the next call from atomic densities."""
        self._density = None

    def labels(self, positions: Array) -> Labels:
        """All labels from a solution that starts from nothing."""
        field = self._solve(positions, None)
        return Labels(
            energy=float(field.e_tot) * Hartree,
            forces=self._forces(field),
            charges=np.asarray(field.mulliken_pop(verbose=0)[1], dtype=float),
            dipole=np.asarray(field.dip_moment(unit="AU", verbose=0), dtype=float) * Bohr,
        )

    def _solve(self, positions: Array, density: Any) -> Any:
        """Converged mean field at `positions`, at second order where the first fails."""
        self._molecule.set_geom_(positions / Bohr, unit="Bohr")
        restricted = self._molecule.spin == 0
        if self._functional.upper() == "HF":
            scf = _pyscf("scf")
            field = (scf.RHF if restricted else scf.UHF)(self._molecule)
        else:
            dft = _pyscf("dft")
            field = (dft.RKS if restricted else dft.UKS)(self._molecule)
            field.xc, field.grids.level = self._functional, _GRID_LEVEL
        field.conv_tol, field.conv_tol_grad = _ENERGY_TOLERANCE_HA, _GRADIENT_TOLERANCE_HA
        field.max_cycle, field.chkfile = _MAX_CYCLES, None
        field.kernel(density)
        if not field.converged:
            start = field.make_rdm1()
            field = field.newton()
            field.kernel(dm0=start)
        if not field.converged:
            self._density = None
            raise ConvergenceError(f"no self-consistent field after {_MAX_CYCLES} cycles")
        return field

    def _forces(self, field: Any) -> Array:
        gradient = field.nuc_grad_method()
        if hasattr(gradient, "grid_response"):
            gradient.grid_response = True
        return np.asarray(gradient.kernel(), dtype=float) * (-Hartree / Bohr)


def _pyscf(module: str) -> Any:
    """A module of PySCF.

    Raises:
        ImportError: It is not installed.
    """
    try:
        return importlib.import_module(f"pyscf.{module}")
    except ImportError as error:
        raise ImportError(
            'functionals and Hartree-Fock need PySCF: pip install "dreibein[dft]"'
        ) from error


def _dispersion() -> None:
    try:
        importlib.import_module("pyscf.dispersion")
    except ImportError as error:
        raise ImportError(
            "dispersion corrections (-D3BJ, -D3zero, -D4) need a package of PySCF: "
            "pip install pyscf-dispersion"
        ) from error


def _check_functional(functional: str) -> None:
    """Refuse what libxc does not know, and corrections that would silently be left out."""
    low = functional.lower()
    known = bool(low) and not low.endswith(("-d", "-d2", "-d3", "-3c"))
    if known:
        try:
            bare = _pyscf("scf.dispersion").parse_dft(low)[0]
            _pyscf("dft.libxc").parse_xc(bare)
            if low.endswith(_DISPERSIONS):
                _pyscf("dft").RKS(_pyscf("gto").M(atom="He", verbose=0), xc=low).get_dispersion()
        except (KeyError, ValueError, NotImplementedError, RuntimeError):
            known = False
    if not known:
        close = _nearest(functional, COMMON_FUNCTIONALS)
        raise ValueError(
            f"'{functional}' is no density functional that PySCF offers; nearest are {close}"
        )


def _load_basis(basis: str, symbol: str) -> None:
    """Refuse a basis that does not exist or lacks an element."""
    import warnings

    sets = _pyscf("gto.basis")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sets.load(basis, symbol)
    except (KeyError, ValueError, OSError, RuntimeError) as error:
        if symbol != "H" and basis:
            raise ValueError(
                f"the basis {basis} has no functions for {symbol}; choose another basis"
            ) from error
        raise ValueError(
            f"'{basis}' is no basis set that PySCF has; nearest are {_nearest(basis, COMMON_BASES)}"
        ) from error


def _has_core_potential(basis: str, symbol: str) -> bool:
    """Whether the basis replaces core electrons of the element by a potential."""
    try:
        return bool(_pyscf("gto.basis").load_ecp(basis, symbol))
    except (KeyError, ValueError, OSError, RuntimeError):
        return False


def _nearest(word: str, names: tuple[str, ...]) -> str:
    """Up to three names most like `word`."""
    by_low = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), by_low, n=3, cutoff=0.5) or list(by_low)[:3]
    return ", ".join(by_low[low] for low in close)
