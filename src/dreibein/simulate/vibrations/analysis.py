"""From a potential and a structure to its vibrations, and to files of them."""

import csv
import json
import time
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from dreibein.nn.frozen import FrozenPotential, backends_of
from dreibein.simulate.calculator import Calculator
from dreibein.simulate.relaxation import relax_structure
from dreibein.simulate.vibrations.character import mode_names
from dreibein.simulate.vibrations.hessians import (
    Hessian,
    HessianMethod,
    Progress,
    compute_hessian,
    in_double,
    is_small,
)
from dreibein.simulate.vibrations.intensities import Intensities, model_intensities
from dreibein.simulate.vibrations.modes import NormalModes, normal_modes
from dreibein.simulate.vibrations.thermochemistry import (
    Conditions,
    Thermochemistry,
    thermochemistry,
)
from dreibein.systems import atomic_path

if TYPE_CHECKING:
    from dreibein.nn.potential import Potential

FORCE_LIMIT = 0.02  # eV/Å
RELAX_FORCE = 1e-3  # eV/Å
JSON_NAME, CSV_NAME, PAGE_NAME = "vibrations.json", "vibrations.csv", "vibrations.html"
_RELAX_STEPS = 2000


@dataclass(frozen=True)
class Vibrations:
    """All about the vibrations of one structure.

    Attributes:
        atoms: The structure they are of.
        energy: Its energy in eV.
        max_force: Its longest force in eV/Å.
        hessian: Second derivatives.
        modes: Normal modes.
        names: A name for each mode.
        intensities: Infrared and Raman, where the model has them.
        thermochemistry: The table.
        seconds: Wall time.
    """

    atoms: Atoms
    energy: float
    max_force: float
    hessian: Hessian
    modes: NormalModes
    names: list[str]
    intensities: Intensities
    thermochemistry: Thermochemistry
    seconds: float


def find_vibrations(
    atoms: Atoms,
    potential: "Potential",
    *,
    relax: bool = False,
    method: HessianMethod = "auto",
    force_limit: float = FORCE_LIMIT,
    conditions: Conditions | None = None,
    progress: Progress | None = None,
) -> Vibrations:
    """Harmonic vibrations at a stationary point of a potential, in float64.

    Args:
        atoms: The structure; not changed.
        potential: Energy, forces, and dipoles where it has them.
        relax: Whether to go to the nearest minimum first.
        method: Of the Hessian, see `compute_hessian`.
        force_limit: Longest force in eV/Å at which a structure counts as stationary.
        conditions: Of the thermochemistry table.
        progress: Called with steps done, their number, and a note.

    Raises:
        ValueError: The forces are not small, or the potential does not know an element.
    """
    began = time.perf_counter()
    double = in_double(potential)
    backend = "reference" if is_small(atoms, method) else backends_of(double)[-1]
    frozen = FrozenPotential(double, backend)
    atoms = atoms.copy()
    if relax:
        atoms = relax_structure(
            atoms, frozen, fmax=RELAX_FORCE, steps=_RELAX_STEPS, progress=progress
        ).atoms
    atoms.calc = Calculator(frozen)
    energy = float(atoms.get_potential_energy())
    longest = float(np.linalg.norm(atoms.get_forces(), axis=1).max(initial=0.0))
    atoms.calc = None
    if not longest <= force_limit:
        cure = "the relaxation did not get there; relax it further" if relax else "relax it first"
        raise ValueError(
            f"the longest force is {longest:.3g} eV/Å, and vibrations are about a structure where "
            f"it is below {force_limit:g} eV/Å: {cure} (--relax, or dreibein relax)"
        )
    found = compute_hessian(double, atoms, method=method, progress=progress)
    modes = normal_modes(found.values, atoms)
    return Vibrations(
        atoms=atoms,
        energy=energy,
        max_force=longest,
        hessian=found,
        modes=modes,
        names=mode_names(atoms, modes.directions),
        intensities=model_intensities(double, atoms, modes.directions),
        thermochemistry=thermochemistry(modes, atoms, conditions or Conditions(), energy),
        seconds=time.perf_counter() - began,
    )


def mode_rows(found: Vibrations) -> list[dict[str, Any]]:
    """One record a mode, numbers as they are; imaginary wavenumbers negative."""
    modes, strength = found.modes, found.intensities
    rows: list[dict[str, Any]] = []
    for k, name in enumerate(found.names):
        row: dict[str, Any] = {
            "mode": k + 1,
            "wavenumber_cm1": float(modes.wavenumbers[k]),
            "imaginary": bool(modes.wavenumbers[k] < 0),
            "energy_mev": float(1000.0 * modes.energies[k]),
            "reduced_mass_amu": float(modes.reduced_masses[k]),
            "force_constant_ev_per_a2": float(modes.force_constants[k]),
        }
        if strength.infrared is not None:
            row["ir_intensity_km_per_mol"] = float(strength.infrared[k])
        if strength.raman is not None and strength.depolarization is not None:
            row["raman_activity_a4_per_amu"] = float(strength.raman[k])
            row["depolarization_ratio"] = float(strength.depolarization[k])
        rows.append(row | {"name": name})
    return rows


def record(found: Vibrations) -> dict[str, Any]:
    """Everything but the pictures, JSON-able."""
    atoms, thermo = found.atoms, found.thermochemistry
    return {
        "structure": {
            "numbers": atoms.numbers.tolist(),
            "positions_a": atoms.positions.tolist(),
            "cell_a": atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
            "masses_amu": atoms.get_masses().tolist(),
            "energy_ev": found.energy,
            "max_force_ev_per_a": found.max_force,
        },
        "hessian": {"method": found.hessian.method, "asymmetry": found.hessian.asymmetry},
        "rigid_motions": {
            "removed": found.modes.rigid,
            "wavenumbers_cm1": found.modes.rigid_wavenumbers.tolist(),
        },
        "intensities": found.intensities.source,
        "modes": mode_rows(found),
        "directions_amu_m12": found.modes.directions.tolist(),
        "thermochemistry": {
            "treatment": thermo.treatment,
            "zero_point_energy_ev": thermo.zero_point_energy,
            "symmetry_number": thermo.symmetry_number,
            "pressure_bar": thermo.pressure_bar,
            "rows": thermo.rows,
            "note": thermo.note,
        },
        "seconds": found.seconds,
    }


def write_vibrations(found: Vibrations, folder: str | Path, title: str) -> Path:
    """Write vibrations.json, vibrations.csv and vibrations.html; the page's path is returned.

    Args:
        found: The vibrations.
        folder: Made if absent.
        title: Heading of the page.
    """
    from dreibein.simulate.vibrations.page import render_page

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = mode_rows(found)
    table = StringIO()
    if rows:
        writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    texts = {
        JSON_NAME: json.dumps(record(found), indent=1) + "\n",
        CSV_NAME: table.getvalue(),
        PAGE_NAME: render_page(found, title),
    }
    for name, text in texts.items():
        with atomic_path(folder / name) as side:
            side.write_text(text, encoding="utf-8")
    return folder / PAGE_NAME
