"""Infrared and Raman spectra from trajectories, and harmonic lines beside them."""

from dreibein.simulate.spectra.analysis import (
    Spectrum,
    SpectrumConfig,
    find_spectrum,
    write_spectrum,
)
from dreibein.simulate.spectra.bands import Bands, Lines, Peak, bands_of, name_peaks
from dreibein.simulate.spectra.correlations import autocorrelation, rate_spectrum
from dreibein.simulate.spectra.trajectories import Response, read_trajectory, response_along

__all__ = [
    "Bands",
    "Lines",
    "Peak",
    "Response",
    "Spectrum",
    "SpectrumConfig",
    "autocorrelation",
    "bands_of",
    "find_spectrum",
    "name_peaks",
    "rate_spectrum",
    "read_trajectory",
    "response_along",
    "write_spectrum",
]
