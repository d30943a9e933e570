"""Harmonic vibrations: Hessians, normal modes, intensities, thermochemistry, a page of them."""

from dreibein.simulate.vibrations.analysis import (
    Vibrations,
    find_vibrations,
    mode_rows,
    write_vibrations,
)
from dreibein.simulate.vibrations.hessians import Hessian, compute_hessian, difference_hessian
from dreibein.simulate.vibrations.intensities import Intensities, infrared_intensities
from dreibein.simulate.vibrations.modes import NormalModes, normal_modes
from dreibein.simulate.vibrations.rotations import symmetry_number
from dreibein.simulate.vibrations.thermochemistry import Conditions, thermochemistry

__all__ = [
    "Conditions",
    "Hessian",
    "Intensities",
    "NormalModes",
    "Vibrations",
    "compute_hessian",
    "difference_hessian",
    "find_vibrations",
    "infrared_intensities",
    "mode_rows",
    "normal_modes",
    "symmetry_number",
    "thermochemistry",
    "write_vibrations",
]
