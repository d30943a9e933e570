"""Autocorrelations of what a trajectory does, and the bands that they have."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from ase import units

QuantumCorrection = Literal["harmonic", "standard", "none"]

CM_PER_FS = 1e-13 * units._c  # speed of light in cm/fs
# x = hbar omega / kT; each gives absorption relative to that of the harmonic correction
_RELATIVE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "harmonic": np.ones_like,
    "standard": lambda x: np.tanh(0.5 * x) / (0.5 * x),
    "none": lambda x: -np.expm1(-x) / x,
}


def autocorrelation(series: np.ndarray, max_lag: int) -> np.ndarray:
    """C_n = mean over t of a(t) · a(t + n dt), n = 0 … max_lag [max_lag + 1].

    Args:
        series: a [T, …]; trailing axes are summed over.
        max_lag: Longest lag, below T.

    >>> autocorrelation(np.array([1.0, -1.0, 1.0, -1.0]), 2).round(6).tolist()
    [1.0, -1.0, 1.0]
    """
    flat = series.reshape(len(series), -1)
    size = 1 << (2 * len(flat) - 1).bit_length()  # zeros behind the end: nothing wraps around
    power = np.square(np.abs(np.fft.rfft(flat, n=size, axis=0))).sum(1)
    lags = np.fft.irfft(power, n=size)[: max_lag + 1]
    return lags / (len(flat) - np.arange(max_lag + 1))


def rate_spectrum(
    series: np.ndarray, dt_fs: float, *, resolution: float = 10.0
) -> tuple[np.ndarray, np.ndarray]:
    """Spectrum P of da/dt: the integral of P over wavenumbers is the mean of |da/dt|^2.

    P(nu) = 4 int_0^inf <a'(0) · a'(t)> w(t) cos(2 pi nu t) dt with the window
    w = cos^2(pi t / 2 t_max). Differences of neighbors stand for a'; what they lose toward high
    frequencies is put back.

    Args:
        series: a [T, …] at equal times.
        dt_fs: Time between them in fs.
        resolution: Full width in cm^-1 that the window gives to a sharp line.

    Returns:
        Wavenumbers [K] in cm^-1 and P [K] in (unit of a / fs)^2 / cm^-1.

    Raises:
        ValueError: The trajectory is too short for the resolution.
    """
    max_lag = round(1.0 / (resolution * CM_PER_FS * dt_fs))
    if max_lag > len(series) // 2:
        length = len(series) * dt_fs / 1000.0
        raise ValueError(
            f"{length:.3g} ps of trajectory resolve no better than "
            f"{2000.0 / (length * CM_PER_FS * 1e6):.3g} cm^-1, and {resolution:g} was asked for; "
            "ask for less (--resolution) or run longer"
        )
    rates = np.diff(series, axis=0) / dt_fs
    correlation = autocorrelation(rates, max_lag)
    correlation = correlation * np.cos(0.5 * np.pi * np.arange(max_lag + 1) / max_lag) ** 2
    size = 16 * (1 << max_lag.bit_length())  # zeros: a grid finer than the resolution
    even = np.zeros(size)
    even[: max_lag + 1] = correlation
    even[-max_lag:] = correlation[:0:-1]
    spectrum = 2.0 * dt_fs * np.fft.rfft(even).real  # 2 dt (C_0 + 2 sum C_n cos)
    frequencies = np.fft.rfftfreq(size, dt_fs)
    angle = np.pi * frequencies * dt_fs
    spectrum[1:] *= np.square(angle[1:] / np.sin(angle[1:]))
    return frequencies / CM_PER_FS, spectrum * CM_PER_FS


def quantum_factor(
    wavenumbers: np.ndarray, temperature: float, correction: QuantumCorrection
) -> np.ndarray:
    """Absorption with a correction, relative to that with the harmonic one [K].

    Classical dynamics gives C(omega); absorption is omega (1 - exp(-x)) Q(x) C(omega) with
    x = hbar omega / kT. Q is x / (1 - exp(-x)) ("harmonic": exact for harmonic modes, and then
    absorption is that of the classical dipole's rate), 2 / (1 + exp(-x)) ("standard") or 1.
    """
    x = np.maximum(wavenumbers * units.invcm / (units.kB * temperature), 1e-9)
    return np.asarray(_RELATIVE[correction](x))
