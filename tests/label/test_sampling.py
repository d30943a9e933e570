"""Dynamics: the canonical distribution, cut anywhere, and molecules that break."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule

from dreibein.label import LabelConfig, make_method
from dreibein.label.bonds import bonds, bonds_changed
from dreibein.label.sampling import MAX_RESTARTS, advance, begin
from dreibein.label.summary import correlations


class Springs:
    """E = k/2 sum |x - x0|^2: every average is known."""

    def __init__(self, center, stiffness):
        self.center, self.stiffness = center, stiffness

    def energy_and_forces(self, positions):
        away = positions - self.center
        return 0.5 * self.stiffness * float((away**2).sum()), -self.stiffness * away

    def forget(self):
        pass


class Repulsion:
    """Two atoms that push each other away: every molecule breaks."""

    def energy_and_forces(self, positions):
        across = positions[1] - positions[0]
        distance = np.linalg.norm(across)
        return -20.0 * distance, np.array([-across, across]) * 20.0 / distance

    def forget(self):
        pass


def hydrogen():
    atoms = molecule("H2")
    atoms.info |= {"charge": 0, "spin": 1}
    return atoms


def config(**choices):
    return LabelConfig(structure="[H][H]", **choices)


def test_positions_follow_boltzmann():
    """<k x^2> = k_B T, for a spring as stiff as an O-H bond and the default step of 1 fs."""
    stiffness = 40.0  # eV/Å²; 0.72 rad/fs for hydrogen
    atoms = Atoms("H8", np.arange(24.0).reshape(8, 3) * 5.0)
    settings = config(frames=400, trajectories=1, temperature_k=400.0)
    walk = advance(
        begin(0, atoms, settings), settings, Springs(atoms.get_positions(), stiffness), 1e9
    )
    # the mean energy, of 24 springs with k_B T / 2 each, over all 20,000 steps
    mean = np.concatenate(walk.energies).mean()
    assert mean == pytest.approx(12 * units.kB * 400.0, rel=0.02)
    assert len(walk.frames) == 400
    assert walk.times_fs[:2] == [550.0, 600.0]


def test_the_cut_between_two_parts_leaves_no_trace():
    pytest.importorskip("tblite", reason="tblite is not installed (extra label)")
    atoms = hydrogen()
    settings = config(frames=6, trajectories=2, equilibration_fs=10, interval_fs=5)
    level = make_method("GFN2-xTB")
    whole = advance(begin(1, atoms, settings), settings, level.calculation(atoms), 1e9)
    parts = begin(1, atoms, settings)
    while not parts.done:
        parts = advance(parts, settings, level.calculation(atoms), 0.0)
    assert len(whole.frames) == 3
    for one, other in zip(whole.frames, parts.frames):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.concatenate(whole.energies), np.concatenate(parts.energies))
    other_seed = config(frames=6, trajectories=2, equilibration_fs=10, interval_fs=5, seed=1)
    moved = advance(begin(1, atoms, other_seed), other_seed, level.calculation(atoms), 1e9)
    assert np.abs(moved.frames[0] - whole.frames[0]).max() > 1e-3


def test_a_molecule_that_breaks_starts_again_and_in_the_end_gives_up():
    settings = config(frames=2, equilibration_fs=0, interval_fs=5)
    walk = advance(begin(0, hydrogen(), settings), settings, Repulsion(), 1e9)
    assert walk.hopeless
    assert walk.breaks == ["bonds"] * (MAX_RESTARTS + 1)
    assert walk.frames == []


class Weak:
    """No force for so many calls, repulsion for as many, and so on."""

    def __init__(self, calls):
        self.calls, self.left = calls, calls

    def energy_and_forces(self, positions):
        self.left -= 1
        if self.left > 0:
            return 0.0, np.zeros_like(positions)
        if self.left < -self.calls:
            self.left = self.calls
        return Repulsion().energy_and_forces(positions)

    def forget(self):
        pass


def test_a_trajectory_that_gives_frames_between_breaks_goes_on():
    settings = config(
        frames=99, trajectories=1, equilibration_fs=0, interval_fs=5, temperature_k=1.0
    )
    walk = advance(begin(0, hydrogen(), settings), settings, Weak(40), 1e9)
    assert walk.done
    assert walk.restarts == len(walk.breaks) > 2 * MAX_RESTARTS
    assert np.isnan(np.concatenate(walk.energies)).sum() == walk.restarts


def test_broken_frames_are_kept_on_request():
    settings = config(
        frames=2, trajectories=1, equilibration_fs=0, interval_fs=20, keep_broken=True
    )
    walk = advance(begin(0, hydrogen(), settings), settings, Repulsion(), 1e9)
    assert walk.done
    assert (walk.broken_frames, walk.restarts) == (2, 0)


def test_molecules_are_centered_and_rounded():
    settings = config(frames=1, equilibration_fs=0)
    atoms = hydrogen()
    atoms.positions += 7.0
    walk = advance(begin(0, atoms, settings), settings, Springs(atoms.get_positions(), 9.0), 1e9)
    (frame,) = walk.frames
    np.testing.assert_allclose(frame.mean(axis=0), 0.0, atol=1e-8)
    np.testing.assert_array_equal(frame, np.round(frame, 8))


@pytest.mark.parametrize(("scale", "changed"), [(0.9, False), (1.1, False), (2.0, True)])
def test_bonds_of_a_molecule(scale, changed):
    start = molecule("CH3CH2OH")
    now = start.copy()
    now.positions *= scale
    assert bonds_changed(now, bonds(start)) is changed


def test_a_new_bond_is_a_change():
    apart = Atoms("H4", [[0, 0, 0], [0, 0, 0.74], [0, 0, 3], [0, 0, 3.74]])
    near = apart.copy()
    near.positions[2:, 2] -= 1.56
    assert bonds_changed(near, bonds(apart))


def test_bonds_of_a_crystal_go_through_its_faces():
    crystal = bulk("Si", cubic=True)
    assert len(bonds(crystal)) == 16
    moved = crystal.copy()
    moved.positions += 9.0  # not wrapped: the same crystal
    assert not bonds_changed(moved, bonds(crystal))
    moved.positions[0] += 1.5
    assert bonds_changed(moved, bonds(crystal))


def test_correlations_of_a_known_process():
    """x(t+1) = a x(t) + noise has rho(k) = a^k, whose integral is about -1 / ln a."""
    random = np.random.default_rng(0)
    noise, value, series = random.standard_normal(100_000), 0.0, []
    for kick in noise:
        value = 0.9 * value + kick
        series.append(value)
    walk = begin(0, hydrogen(), config(frames=1))
    walk.energies.extend([np.array(series[:50_000]), np.array([np.nan]), np.array(series[50_000:])])
    rho, time_fs = correlations([walk], 5, 2.0)
    assert rho == pytest.approx(0.9**5, abs=0.02)
    assert time_fs == pytest.approx(-2.0 / np.log(0.9), rel=0.1)
    assert correlations([begin(0, hydrogen(), config())], 5, 1.0) == (None, None)
