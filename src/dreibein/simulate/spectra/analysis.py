"""From a model and a trajectory to spectra, with harmonic lines beside them, and to files."""

import csv
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreibein.simulate.spectra.bands import Bands, Lines, Peak, bands_of, name_peaks
from dreibein.simulate.spectra.correlations import QuantumCorrection
from dreibein.simulate.spectra.page import render_page
from dreibein.simulate.spectra.trajectories import Trajectory, response_along
from dreibein.simulate.vibrations.analysis import find_vibrations
from dreibein.systems import atomic_path

if TYPE_CHECKING:
    from dreibein.nn.potential import Potential

JSON_NAME, CSV_NAME, PAGE_NAME = "spectrum.json", "spectrum.csv", "spectrum.html"


@dataclass(frozen=True)
class SpectrumConfig:
    """Choices of a spectrum.

    Attributes:
        resolution: Full width in cm^-1 that a sharp line gets.
        correction: Quantum correction: "harmonic", "standard" or "none".
        temperature: In K; None for that of the trajectory's momenta.
    """

    resolution: float = 10.0
    correction: QuantumCorrection = "harmonic"
    temperature: float | None = None


@dataclass(frozen=True)
class Spectrum:
    """Spectra of one trajectory.

    Attributes:
        formula: Of the structure.
        bands: From dynamics.
        peaks: Of the infrared spectrum, named.
        lines: Harmonic lines of the model, then of others.
        facts: How it was made, in words, by topic.
    """

    formula: str
    bands: Bands
    peaks: list[Peak]
    lines: list[Lines]
    facts: dict[str, str]


def find_spectrum(
    potential: "Potential",
    trajectory: Trajectory,
    config: SpectrumConfig | None = None,
    *,
    others: Callable[[Any], Lines] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Spectrum:
    """Infrared (and Raman) spectrum of a trajectory, and the harmonic one of its minimum.

    Args:
        potential: Gives dipoles, and polarizabilities where it can.
        trajectory: From `read_trajectory`.
        config: Resolution, quantum correction, temperature.
        others: From the model's minimum to further harmonic lines, such as those of the labels.
        progress: Called with frames done, their number, and a note.

    Raises:
        ValueError: No dipoles, no temperature, or too short or too coarse a trajectory.
    """
    config = config or SpectrumConfig()
    began = time.perf_counter()
    temperature = trajectory.temperature if config.temperature is None else config.temperature
    if not temperature > 0.0:
        raise ValueError(
            "the trajectory keeps no momenta, so its temperature is not known; give it with "
            "--temperature"
        )
    response = response_along(potential, trajectory, progress)
    bands = bands_of(
        response,
        trajectory.dt_fs,
        temperature,
        resolution=config.resolution,
        correction=config.correction,
        timestep_fs=trajectory.timestep_fs,
    )
    lines = []
    if not trajectory.atoms.pbc.any():
        still = find_vibrations(trajectory.atoms, potential, relax=True)
        if still.intensities.infrared is not None:
            found = still.modes.wavenumbers, still.intensities.infrared
            lines.append(Lines("model, harmonic", *found, still.names))
            if others is not None:
                lines.append(others(still.atoms))
    length = len(trajectory.positions) * trajectory.dt_fs / 1000.0
    facts = {
        "trajectory": f"{length:.1f} ps, a frame every {trajectory.dt_fs:g} fs",
        "time step": f"{trajectory.timestep_fs:g} fs, its shift of frequencies undone",
        "temperature": f"{temperature:.0f} K",
        "dipoles": response.source,
        "resolution": f"{config.resolution:g} cm⁻¹ (cos² window on the autocorrelation)",
        "quantum correction": config.correction,
        "seconds": f"{time.perf_counter() - began:.0f}",
    }
    peaks = name_peaks(bands.wavenumbers, bands.infrared, lines[0] if lines else None)
    formula = trajectory.atoms.get_chemical_formula()
    return Spectrum(formula, bands, peaks, lines, facts)


def write_spectrum(found: Spectrum, folder: str | Path, title: str) -> Path:
    """Write spectrum.csv, spectrum.json and spectrum.html; the page's path is returned.

    Args:
        found: The spectrum.
        folder: Made if absent.
        title: Heading of the page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        CSV_NAME: _as_csv(found.bands),
        JSON_NAME: json.dumps(_record(found), indent=1) + "\n",
        PAGE_NAME: render_page(found, title),
    }
    for name, text in texts.items():
        with atomic_path(folder / name) as side:
            side.write_text(text, encoding="utf-8")
    return folder / PAGE_NAME


def _as_csv(bands: Bands) -> str:
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = {"wavenumber_cm1": bands.wavenumbers, "infrared_km_per_mol_cm": bands.infrared}
    if bands.raman is not None:
        columns["raman_a4_per_amu_cm"] = bands.raman
    writer.writerow(columns)
    writer.writerows(np.array(list(columns.values())).T.tolist())
    return file.getvalue()


def _record(found: Spectrum) -> dict[str, Any]:
    return {
        "formula": found.formula,
        "facts": found.facts,
        "peaks": [asdict(peak) for peak in found.peaks],
        "harmonic": [
            {
                "label": lines.label,
                "modes": [
                    {"wavenumber_cm1": float(w), "ir_intensity_km_per_mol": float(a), "name": n}
                    for w, a, n in zip(lines.wavenumbers, lines.infrared, lines.names, strict=True)
                ],
            }
            for lines in found.lines
        ],
    }
