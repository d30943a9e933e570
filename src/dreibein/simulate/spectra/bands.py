"""Infrared and Raman spectra of a trajectory on the scale of harmonic intensities."""

from dataclasses import dataclass

import numpy as np
from ase import units
from scipy.signal import find_peaks

from dreibein.simulate.spectra.correlations import (
    QuantumCorrection,
    quantum_factor,
    rate_spectrum,
)
from dreibein.simulate.spectra.trajectories import Response
from dreibein.simulate.vibrations.intensities import INFRARED, VOLUME
from dreibein.simulate.vibrations.lines import broadened

# kT in amu Å^2 / fs^2 of kT in eV
_AMU = units._e / (units._amu * 1e10)
_SHARE = 0.03  # of the highest band: less is not named
_NEAR = 25.0  # cm^-1


@dataclass(frozen=True)
class Bands:
    """A spectrum on a grid.

    Attributes:
        wavenumbers: [K] in cm^-1.
        infrared: Absorption [K] in km/mol per cm^-1; the area of a harmonic band is its A_k.
        raman: Activity [K] in Å^4/amu per cm^-1, or None.
    """

    wavenumbers: np.ndarray
    infrared: np.ndarray
    raman: np.ndarray | None


@dataclass(frozen=True)
class Peak:
    """A band with a name."""

    wavenumber: float
    height: float
    name: str


@dataclass(frozen=True)
class Lines:
    """Harmonic lines.

    Attributes:
        label: Whose they are.
        wavenumbers: [M] in cm^-1.
        infrared: [M] in km/mol.
        names: Of the modes [M].
    """

    label: str
    wavenumbers: np.ndarray
    infrared: np.ndarray
    names: list[str]


def bands_of(
    response: Response,
    dt_fs: float,
    temperature: float,
    *,
    resolution: float = 10.0,
    correction: QuantumCorrection = "harmonic",
    timestep_fs: float = 0.0,
    highest: float = 4500.0,
) -> Bands:
    """Absorption A(nu) = N_A / (12 eps0 c^2 kT) P(nu), P the spectrum of the dipole's rate.

    With the harmonic quantum correction that is exact for harmonic modes: every mode has
    <(dQ/dt)^2> = kT, so its band has the area N_A / (12 eps0 c^2) |d dipole / dQ|^2 of the
    harmonic intensity. Raman activity likewise from rates of the polarizability's mean and
    anisotropy, without the factors of the laser.

    Args:
        response: Along the trajectory.
        dt_fs: Time between frames in fs.
        temperature: In K.
        resolution: Width in cm^-1 of a sharp line.
        correction: Quantum correction, see `quantum_factor`.
        timestep_fs: Of the velocity Verlet steps, whose shift of frequencies is undone: a mode
            omega moves at w with sin(w dt / 2) = omega dt / 2. 0 leaves them as they are.
        highest: Largest wavenumber kept.

    Raises:
        ValueError: Frames too far apart for the bands of hydrogen, or a short trajectory.
    """
    limit = 0.5 / (dt_fs * 1e-13 * units._c)
    if limit < 4000.0:
        raise ValueError(
            f"frames {dt_fs:g} fs apart show wavenumbers up to {limit:.0f} cm^-1 and fold higher "
            "ones back; write a frame every 4 fs or less (dreibein md --trajectory-interval)"
        )
    thermal = units.kB * temperature * _AMU
    grid, power = rate_spectrum(response.dipole, dt_fs, resolution=resolution)
    kept = grid <= min(highest, limit)
    half_angle = np.pi * grid * 1e-13 * units._c * timestep_fs
    true = grid * np.sinc(half_angle / np.pi)
    # the area of a band stays
    factor = quantum_factor(true, temperature, correction) / thermal / np.cos(half_angle)
    raman = None
    if response.polarizability is not None:
        alpha = response.polarizability * VOLUME
        mean = np.trace(alpha, axis1=1, axis2=2) / 3.0
        rest = alpha - mean[:, None, None] * np.eye(3)
        isotropic = rate_spectrum(mean, dt_fs, resolution=resolution)[1]
        anisotropic = 1.5 * rate_spectrum(rest, dt_fs, resolution=resolution)[1]
        raman = ((45.0 * isotropic + 7.0 * anisotropic) * factor)[kept]
    return Bands(true[kept], (INFRARED * power * factor)[kept], raman)


def name_peaks(wavenumbers: np.ndarray, heights: np.ndarray, lines: Lines | None) -> list[Peak]:
    """Peaks of at least 3% of the highest, named after the harmonic mode that fits best.

    The best mode has the largest A_k / ((nu - nu_k)^2 + w^2), w = 25 cm^-1: strong and near.

    Args:
        wavenumbers: [K] in cm^-1.
        heights: Absorption [K].
        lines: Harmonic lines; without them peaks have no names.
    """
    inside = wavenumbers > 100.0
    top = float(heights[inside].max(initial=0.0))
    shown = np.where(inside, heights, 0.0)
    step = float(wavenumbers[1] - wavenumbers[0])
    places, _ = find_peaks(shown, prominence=_SHARE * top, distance=max(1, round(30.0 / step)))
    found = []
    for k in places:
        name = ""
        if lines is not None and len(lines.names):
            away = np.square(lines.wavenumbers - wavenumbers[k]) + _NEAR**2
            name = lines.names[int(((lines.infrared + 0.5) / away).argmax())]
        found.append(Peak(float(wavenumbers[k]), float(heights[k]), name))
    return found


def line_shape(lines: Lines, grid: np.ndarray, half_width: float) -> np.ndarray:
    """Harmonic lines as Lorentzians on a grid [K], in km/mol per cm^-1."""
    real = lines.wavenumbers > 0
    return broadened(grid, lines.wavenumbers[real], lines.infrared[real], half_width)
