"""The page of vibrations: a moving molecule, a table of modes, a spectrum, thermochemistry."""

from typing import Any

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

from dreibein.simulate.pages import render, table, text
from dreibein.simulate.vibrations.analysis import Vibrations, mode_rows
from dreibein.simulate.vibrations.character import bonded_pairs
from dreibein.simulate.vibrations.lines import broadened

_SCRIPTS = ("plot.js", "molecule.js", "vibrations.js")
_BALL = 0.55  # times the covalent radius
_WIDTH = 10.0  # cm^-1, half width at half maximum of the drawn lines


def render_page(found: Vibrations, title: str) -> str:
    """The page as text."""
    return render(title, _body(found), _data(found), _SCRIPTS)


def _body(found: Vibrations) -> str:
    modes = found.modes
    imaginary = modes.num_imaginary
    kind = "minimum" if not imaginary else f"point with {imaginary} imaginary mode(s)"
    lead = (
        f"{found.atoms.get_chemical_formula()}, a {kind}: {len(modes.wavenumbers)} vibrations, "
        f"{modes.rigid} rigid motions taken out. Energy {found.energy:.6f} eV, longest force "
        f"{found.max_force:.1e} eV/Å. Hessian: {found.hessian.method}. "
        f"Intensities: {found.intensities.source}."
    )
    spectrum = ""
    if found.intensities.infrared is not None:
        spectrum = (
            f"<section><h2>Harmonic infrared spectrum</h2><p>Lines broadened to {_WIDTH:g} cm⁻¹ "
            "(half width). Drag to zoom, double-click for all, click a band to see its mode.</p>"
            '<canvas class="plot" id="spectrum"></canvas></section>'
        )
    return (
        f'<p>{text(lead)}</p><div class="two">'
        '<section><h2 id="mode-title">No modes</h2><canvas class="molecule" id="molecule"></canvas>'
        '<div class="tools"><button id="play">Pause</button>'
        '<label>Amplitude <input type="range" id="amplitude" min="0" max="1.2" step="0.05" '
        'value="0.5"></label><label>Speed <input type="range" id="speed" min="0.2" max="3" '
        'step="0.1" value="1"></label><span>drag to turn, wheel to zoom</span></div></section>'
        f"<section><h2>Modes</h2>{_mode_table(found)}</section></div>{spectrum}"
        f"<section><h2>Thermochemistry</h2>{_thermochemistry(found)}</section>"
    )


def _mode_table(found: Vibrations) -> str:
    strength = found.intensities
    header = ["mode", "cm⁻¹", "μ, amu", "k, eV/Å²"]
    header += ["IR, km/mol"] if strength.infrared is not None else []
    header += ["Raman, Å⁴/amu"] if strength.raman is not None else []
    rows = []
    for row in mode_rows(found):
        cells = [str(row["mode"]), wavenumber_text(row["wavenumber_cm1"])]
        cells += [f"{row['reduced_mass_amu']:.2f}", f"{row['force_constant_ev_per_a2']:.2f}"]
        for name in ("ir_intensity_km_per_mol", "raman_activity_a4_per_amu"):
            cells += [f"{row[name]:.1f}"] if name in row else []
        rows.append([*cells, row["name"]])
    return table([*header, "motion"], rows, css="pick")


def wavenumber_text(wavenumber: float) -> str:
    """A wavenumber, imaginary ones with an i.

    >>> wavenumber_text(1641.25), wavenumber_text(-120.0)
    ('1641.2', 'i 120.0')
    """
    return f"{wavenumber:.1f}" if wavenumber >= 0 else f"i {-wavenumber:.1f}"


def _thermochemistry(found: Vibrations) -> str:
    thermo = found.thermochemistry
    what = "Vibrations alone, no translation or rotation."
    if thermo.treatment == "ideal gas":
        what = (
            f"Ideal gas at {thermo.pressure_bar:g} bar, symmetry number {thermo.symmetry_number}."
        )
    note = f" Note: {thermo.note}." if thermo.note else ""
    lead = (
        f"{what} Zero-point energy {thermo.zero_point_energy:.4f} eV. Energies are above E.{note}"
    )
    header = ["T, K", "U − E, eV", "H − E, eV", "S, meV/K", "free energy − E, eV", ""]
    rows = []
    for row in thermo.rows:
        above = {name: row[name] - found.energy for name in row if name.endswith("_ev")}
        enthalpy = f"{above['enthalpy_ev']:.4f}" if "enthalpy_ev" in above else "–"
        entropy = f"{1000.0 * row['entropy_ev_per_k']:.4f}"
        free = f"{above['free_energy_ev']:.4f}"
        inner = f"{above['internal_energy_ev']:.4f}"
        rows.append([f"{row['temperature_k']:g}", inner, enthalpy, entropy, free, ""])
    return f"<p>{text(lead)}</p>{table(header, rows)}"


def _data(found: Vibrations) -> dict[str, Any]:
    modes = []
    for k, name in enumerate(found.names):
        direction = found.modes.directions[k]
        direction = direction / np.linalg.norm(direction, axis=1).max()
        wavenumber = float(found.modes.wavenumbers[k])
        title = f"Mode {k + 1}: {wavenumber_text(wavenumber)} cm⁻¹, {name}"
        modes.append(
            {"wavenumber": wavenumber, "title": title, "direction": direction.round(4).tolist()}
        )
    strongest = len(modes) - 1
    plot = None
    infrared = found.intensities.infrared
    if infrared is not None and len(infrared):
        strongest = int(infrared.argmax())
        real = found.modes.wavenumbers > 0
        top = max(4000.0, float(found.modes.wavenumbers.max()) + 100.0)
        grid = np.arange(0.0, top, 2.0)
        curve = broadened(grid, found.modes.wavenumbers[real], infrared[real], _WIDTH)
        series = {"x": grid.tolist(), "y": curve.round(5).tolist(), "label": "harmonic"}
        plot = {
            "series": [series],
            "xlabel": "wavenumber, cm⁻¹",
            "ylabel": "absorption, km/mol·cm",
            "reversed": True,
        }
    return {"atoms": _atoms(found), "modes": modes, "start": max(0, strongest), "plot": plot}


def _atoms(found: Vibrations) -> dict[str, Any]:
    atoms = found.atoms
    centered = atoms.positions - 0.5 * (atoms.positions.max(0) + atoms.positions.min(0))
    colors = [jmol_colors[z] for z in atoms.numbers]
    return {
        "positions": centered.round(5).tolist(),
        "radii": [round(_BALL * float(covalent_radii[z]), 3) for z in atoms.numbers],
        "colors": [_hex(c) for c in colors],
        "dark": [_hex(0.45 * np.array(c)) for c in colors],
        "bonds": bonded_pairs(atoms),
    }


def _hex(color: np.ndarray) -> str:
    return "#" + "".join(f"{round(255 * float(c)):02x}" for c in color)
