"""Pages of simulations in a real browser: drawn, moving, no error, no request."""

import numpy as np
import pytest
from ase import Atoms

from dreibein.simulate.spectra import Bands, Lines, Spectrum, name_peaks, write_spectrum
from dreibein.simulate.vibrations.analysis import Vibrations, write_vibrations
from dreibein.simulate.vibrations.character import mode_names
from dreibein.simulate.vibrations.hessians import Hessian
from dreibein.simulate.vibrations.intensities import Intensities
from dreibein.simulate.vibrations.modes import normal_modes
from dreibein.simulate.vibrations.thermochemistry import Conditions, thermochemistry

# the browser of the report's tests
from evaluate.conftest import browser, chromium  # noqa: F401

PAUSE = "new Promise((resolve) => setTimeout(resolve, 300))"
DRAWN = """[...document.querySelectorAll("canvas")].map((c) =>
    c.dataset.state === "drawn" && c.getBoundingClientRect().height > 100)"""
FRAME = "document.getElementById('molecule').dataset.frame"
TITLE = "document.getElementById('mode-title').textContent"
TOO_WIDE = "document.documentElement.scrollWidth > window.innerWidth"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Water with springs between its atoms, and intensities of some kind."""
    atoms = Atoms("OHH", [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
    hessian = np.zeros((9, 9))
    for i, j, k in ((0, 1, 45.0), (0, 2, 45.0), (1, 2, 5.0)):
        unit = atoms.positions[j] - atoms.positions[i]
        row = np.zeros((3, 3))
        row[i], row[j] = -unit, unit
        hessian += k * np.outer(row, row) / (unit @ unit)
    modes = normal_modes(hessian, atoms)
    found = Vibrations(
        atoms=atoms,
        energy=-1.0,
        max_force=0.0,
        hessian=Hessian(hessian, "springs", 0.0),
        modes=modes,
        names=mode_names(atoms, modes.directions),
        intensities=Intensities(np.array([60.0, 5.0, 20.0]), None, None, "made up </script>"),
        thermochemistry=thermochemistry(modes, atoms, Conditions()),
        seconds=0.0,
    )
    return write_vibrations(found, tmp_path_factory.mktemp("vib"), "Vibrations of water")


def test_page_of_vibrations(browser, page, tmp_path):  # noqa: F811
    browser.open(page)
    assert browser.value(DRAWN) == [True, True]
    first = browser.value(FRAME)
    browser.value(PAUSE)
    assert browser.value(FRAME) != first  # it moves by itself
    assert browser.value(TITLE).startswith("Mode 1:")  # the strongest band
    browser.value("document.querySelectorAll('tr[data-row]')[2].click()")
    assert browser.value(TITLE).startswith("Mode 3:")
    browser.value("document.getElementById('play').click()")
    browser.value(PAUSE)
    still = browser.value(FRAME)
    browser.value(PAUSE)
    assert browser.value(FRAME) == still
    assert not browser.value(TOO_WIDE)
    assert browser.errors == []
    assert browser.requests == []
    browser.screenshot(tmp_path / "page.png")


def test_a_narrow_window(browser, page):  # noqa: F811
    size = {"width": 480, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    browser.open(page)
    assert browser.value(DRAWN) == [True, True]
    assert not browser.value(TOO_WIDE)
    assert browser.errors == []


def test_page_of_a_spectrum(browser, tmp_path):  # noqa: F811
    grid = np.arange(0.0, 4500.0, 2.0)
    curve = 50.0 / (np.square(grid - 1000.0) + 100.0) + 20.0 / (np.square(grid - 3000.0) + 100.0)
    lines = Lines("harmonic <b>", np.array([990.0, 3050.0]), np.array([50.0, 9.0]), ["a", "b"])
    peaks = name_peaks(grid, curve, lines)
    found = Spectrum("X2", Bands(grid, curve, curve), peaks, [lines, lines], {"time": "1 ps"})
    browser.open(write_spectrum(found, tmp_path, "Spectrum of X2"))
    assert browser.value(DRAWN) == [True, True]  # infrared and Raman
    assert "harmonic <b>" in browser.value("document.body.innerText")
    assert not browser.value(TOO_WIDE)
    assert browser.errors == []
    assert browser.requests == []
    browser.screenshot(tmp_path / "spectrum.png")
