"""Spectra of trajectories whose spectra are known."""

import csv
import json

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from torch import Tensor, nn

from dreibein.models import TensorNetConfig, build_potential
from dreibein.nn.potential import Potential
from dreibein.simulate.spectra import (
    Bands,
    Lines,
    Response,
    Spectrum,
    SpectrumConfig,
    bands_of,
    find_spectrum,
    name_peaks,
    rate_spectrum,
    read_trajectory,
    response_along,
    write_spectrum,
)
from dreibein.simulate.spectra.correlations import quantum_factor
from dreibein.simulate.vibrations import find_vibrations, infrared_intensities
from dreibein.simulate.vibrations.reference import reference_vibrations
from dreibein.systems import Graph

DT, FRAMES = 2.0, 10_000  # fs
CM_PER_FS = units._c * 1e-13
TEMPERATURE = 300.0
# modes of a classical molecule: wavenumber in cm^-1, d dipole / dQ in e amu^-1/2
MODES = ((600.0, 0.30), (1700.0, 0.10), (3600.0, 0.20))


def harmonic_dipole():
    """Dipole of modes with <(dQ/dt)^2> = kT, each along its own axis."""
    time = DT * np.arange(FRAMES)
    speed = np.sqrt(units.kB * TEMPERATURE * units._e / (units._amu * 1e10))  # Å amu^1/2 / fs
    dipole = np.zeros((FRAMES, 3))
    for axis, (wavenumber, slope) in enumerate(MODES):
        omega = 2.0 * np.pi * wavenumber * CM_PER_FS
        dipole[:, axis] = slope * np.sqrt(2.0) * speed / omega * np.cos(omega * time + axis)
    return dipole + np.array([5.0, -3.0, 0.5])


def area(bands, wavenumber, curve):
    near = np.abs(bands.wavenumbers - wavenumber) < 60.0
    return np.trapezoid(curve[near], bands.wavenumbers[near])


def test_areas_are_harmonic_intensities():
    """Band areas of a classical harmonic dipole: N_A / (12 eps0 c^2) (d dipole / dQ)^2."""
    bands = bands_of(Response(harmonic_dipole(), None, ""), DT, TEMPERATURE)
    assert bands.raman is None
    for wavenumber, slope in MODES:
        assert area(bands, wavenumber, bands.infrared) == pytest.approx(974.88 * slope**2, rel=0.01)
    peaks = name_peaks(bands.wavenumbers, bands.infrared, None)
    places = [peak.wavenumber for peak in peaks]
    assert places == pytest.approx([w for w, _ in MODES], abs=2.0)


def test_resolution_is_the_width_of_a_sharp_line():
    grid, power = rate_spectrum(harmonic_dipole(), DT, resolution=20.0)
    near = np.abs(grid - 1700.0) < 100.0
    above = grid[near][power[near] > 0.5 * power[near].max()]
    assert above[-1] - above[0] == pytest.approx(20.0, abs=2.0)


def test_the_shift_of_velocity_verlet_is_undone():
    """x_(n+1) = 2 x_n - x_(n-1) - (omega dt)^2 x_n moves too fast by (omega dt)^2 / 24."""
    omega, frames = 2.0 * np.pi * 3500.0 * CM_PER_FS, [1.0, 1.0]
    for _ in range(FRAMES):
        frames.append((2.0 - (omega * DT) ** 2) * frames[-1] - frames[-2])
    response = Response(np.array(frames)[:, None] * np.eye(3)[:1], None, "")
    raw = bands_of(response, DT, TEMPERATURE)
    right = bands_of(response, DT, TEMPERATURE, timestep_fs=DT)
    places = [bands.wavenumbers[bands.infrared.argmax()] for bands in (raw, right)]
    assert places[0] - 3500.0 > 200.0
    assert places[1] == pytest.approx(3500.0, abs=1.5)
    areas = [np.trapezoid(bands.infrared, bands.wavenumbers) for bands in (raw, right)]
    assert areas[1] == pytest.approx(areas[0], rel=5e-3)


def test_integral_is_the_mean_square_rate():
    series = np.cumsum(np.random.default_rng(0).normal(size=(4000, 2)), axis=0)
    slow = np.array([np.convolve(series[:, k], np.hanning(41), "valid") for k in range(2)]).T
    grid, power = rate_spectrum(slow, DT, resolution=30.0)
    expected = np.square(np.diff(slow, axis=0) / DT).sum(1).mean()
    assert np.trapezoid(power, grid) == pytest.approx(expected, rel=0.02)


def test_raman_areas_are_activities():
    """An isotropic mode has 45 a'^2, a traceless one 7 g'^2 (here g'^2 = 3)."""
    time = DT * np.arange(FRAMES)
    speed = np.sqrt(units.kB * TEMPERATURE * units._e / (units._amu * 1e10))
    alpha = np.zeros((FRAMES, 3, 3))
    for wavenumber, shape in ((800.0, np.eye(3)), (2000.0, np.diag([1.0, -1.0, 0.0]))):
        omega = 2.0 * np.pi * wavenumber * CM_PER_FS
        wave = np.sqrt(2.0) * speed / omega * np.cos(omega * time)
        alpha += wave[:, None, None] * shape / 14.399645
    bands = bands_of(Response(np.zeros((FRAMES, 3)), alpha, ""), DT, TEMPERATURE)
    assert area(bands, 800.0, bands.raman) == pytest.approx(45.0, rel=0.01)
    assert area(bands, 2000.0, bands.raman) == pytest.approx(21.0, rel=0.01)


def test_quantum_corrections_agree_where_quanta_are_small():
    grid = np.array([1.0, 3000.0])
    for correction in ("harmonic", "standard", "none"):
        factor = quantum_factor(grid, 300.0, correction)
        assert factor[0] == pytest.approx(1.0, abs=5e-3)
    x = 3000.0 * units.invcm / (units.kB * 300.0)
    assert quantum_factor(grid, 300.0, "none")[1] == pytest.approx((1 - np.exp(-x)) / x)


def test_what_cannot_be_seen_is_refused():
    dipole = harmonic_dipole()
    with pytest.raises(ValueError, match=r"frames 10 fs apart .* up to 1668"):
        bands_of(Response(dipole, None, ""), 10.0, TEMPERATURE)
    with pytest.raises(ValueError, match=r"0.2 ps of trajectory resolve no better than 33\d"):
        bands_of(Response(dipole[:100], None, ""), DT, TEMPERATURE)


class PolarSprings(nn.Module):
    """Springs between all atoms; E(F) = E(0) - sum_i q_i x_i · F with charges that add to zero."""

    field_order = 1
    charges = ((8, -0.6), (1, 0.3))

    def __init__(self) -> None:
        super().__init__()
        self.cutoff, self.elements = 5.0, (1, 8)
        self.stiffness = nn.Parameter(torch.tensor(40.0, dtype=torch.float64))

    def forward(self, graph: Graph) -> Tensor:
        length = torch.where(graph.z[graph.sender] + graph.z[graph.receiver] == 9, 0.97, 1.52)
        pair = 0.25 * self.stiffness * (graph.vectors.norm(dim=-1) - length).square()
        atoms = torch.bincount(graph.batch)[graph.batch[graph.receiver]]
        charge = torch.tensor([dict(self.charges)[int(z)] for z in graph.z]).double()
        # q_i x_i summed over a neutral molecule = q_i (x_i - x_j) / N summed over pairs
        moment = -charge[graph.receiver].unsqueeze(-1) * graph.vectors / atoms.unsqueeze(-1)
        pair = pair - (moment * graph.field[graph.batch[graph.receiver]]).sum(-1)
        return pair.new_zeros(graph.num_atoms).index_add(0, graph.receiver, pair)


@pytest.fixture(scope="module")
def potential() -> Potential:
    return Potential(PolarSprings())


@pytest.fixture(scope="module")
def trajectory_file(tmp_path_factory):
    """Water shaken, as `dreibein md` would write it."""
    path = tmp_path_factory.mktemp("md") / "trajectory.extxyz"
    generator = np.random.default_rng(0)
    still = np.array([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
    frames = []
    for k in range(600):
        atoms = Atoms("OHH", still + 0.02 * np.sin(0.3 * k + generator.normal(size=(3, 3))))
        atoms.set_momenta(generator.normal(scale=0.1, size=(3, 3)))
        atoms.info.update(time_fs=2.0 * k, step=4 * k)
        frames.append(atoms)
    ase.io.write(path, frames)
    return path


def test_reading_is_that_of_ase(trajectory_file):
    found = read_trajectory(trajectory_file)
    frames = ase.io.read(trajectory_file, ":")
    assert found.dt_fs == 2.0
    assert found.timestep_fs == 0.5
    assert found.positions.shape == (600, 3, 3)
    np.testing.assert_allclose(found.positions[37], frames[37].positions, atol=1e-12)
    kinetic = np.mean([atoms.get_kinetic_energy() for atoms in frames])
    assert found.temperature == pytest.approx(2.0 * kinetic / (6.0 * units.kB))


def test_trajectories_that_do_not_fit_are_refused(tmp_path, trajectory_file):
    short = tmp_path / "short.extxyz"
    short.write_text("".join(trajectory_file.read_text().splitlines(keepends=True)[:10]))
    with pytest.raises(ValueError, match="holds 2 frame"):
        read_trajectory(short)
    untimed = tmp_path / "untimed.extxyz"
    untimed.write_text(trajectory_file.read_text().replace("time_fs", "clock"))
    with pytest.raises(ValueError, match="time_fs at equal steps"):
        read_trajectory(untimed)


def test_dipoles_along_a_trajectory(potential, trajectory_file):
    trajectory = read_trajectory(trajectory_file)
    found = response_along(potential, trajectory)
    charges = np.array([-0.6, 0.3, 0.3])
    expected = np.einsum("i,tia->ta", charges, trajectory.positions)
    np.testing.assert_allclose(found.dipole, expected, atol=1e-12)
    assert found.polarizability is None  # no second order in the field
    plain = build_potential(TensorNetConfig(channels=8, layers=0), elements=(1, 8))
    with pytest.raises(ValueError, match="the model gives no dipole"):
        response_along(plain, trajectory)


def test_reference_lines_of_a_known_molecule():
    """Charges +-q on a spring: one line, sqrt(k / m), A = 974.88 q^2 / m."""
    stiffness, charge = 40.0, 0.4

    def labels_at(positions):
        away = positions[1] - positions[0]
        length = np.linalg.norm(away)
        pull = stiffness * (length - 1.1) * away / length
        energy = 0.5 * stiffness * (length - 1.1) ** 2
        return energy, np.array([pull, -pull]), charge * away

    start = Atoms("CO", [[0, 0, 0], [0.3, 0.2, 1.0]])
    atoms, modes, infrared, names = reference_vibrations(labels_at, start)
    assert atoms.get_distance(0, 1) == pytest.approx(1.1, abs=1e-4)
    reduced = start.get_masses().prod() / start.get_masses().sum()
    quantum = units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm
    assert modes.wavenumbers == pytest.approx([quantum * np.sqrt(stiffness / reduced)], rel=1e-4)
    assert infrared == pytest.approx([974.88 * charge**2 / reduced], rel=1e-3)
    assert names == ["C-O stretch"]


def test_files_and_names(tmp_path):
    grid = np.arange(0.0, 4500.0, 2.0)
    curve = 50.0 / (np.square(grid - 1000.0) + 100.0) + 20.0 / (np.square(grid - 3000.0) + 100.0)
    places = np.array([980.0, 1100.0, 3050.0])
    lines = Lines("model, harmonic", places, np.array([50.0, 0.1, 9.0]), ["a", "b", "c <i>"])
    peaks = name_peaks(grid, curve, lines)
    assert [peak.name for peak in peaks] == ["a", "c <i>"]
    found = Spectrum("X2", Bands(grid, curve, None), peaks, [lines], {"temperature": "300 K"})
    page = write_spectrum(found, tmp_path / "out", "Spectrum of X2")
    with (page.parent / "spectrum.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[500]["infrared_km_per_mol_cm"]) == curve[500]
    assert len(json.loads((page.parent / "spectrum.json").read_text())["peaks"]) == 2
    assert "<i>" not in page.read_text()


def test_the_whole_way(potential, trajectory_file):
    trajectory = read_trajectory(trajectory_file)
    with pytest.raises(ValueError, match="resolve no better"):  # 1.2 ps
        find_spectrum(potential, trajectory)
    found = find_spectrum(potential, trajectory, SpectrumConfig(resolution=80.0))
    assert np.isfinite(found.bands.infrared).all()
    assert found.facts["quantum correction"] == "harmonic"
    (lines,) = found.lines
    assert lines.names[0].startswith("H-O-H bend")
    charges = torch.diag_embed(torch.tensor([-0.6, 0.3, 0.3]).view(3, 1).expand(3, 3)).numpy()
    still = find_vibrations(trajectory.atoms, potential, relax=True)
    expected = infrared_intensities(charges, still.modes.directions)
    np.testing.assert_allclose(lines.infrared, expected, rtol=1e-6)
