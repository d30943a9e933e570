"""The certificate finds agreement where there is some, and a wrong engine where there is one."""

from contextlib import contextmanager
from dataclasses import replace

import ase.build
import pytest
import torch

from dreibein.models import TensorNetConfig, build_potential
from dreibein.simulate import ParityReport, measure_parity, parity
from dreibein.simulate.parity_engines import ENGINES


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = TensorNetConfig(channels=8, layers=1, num_radial=6, cutoff=4.0)
    return build_potential(config, elements=(29,), reference_energies={29: -100.0}, scale=3.0)


@pytest.fixture
def skewed():
    atoms = ase.build.bulk("Cu", "fcc", a=3.5).repeat((2, 1, 1))
    atoms.rattle(0.1, seed=0)
    return atoms


def test_every_engine_agrees(network, skewed):
    told = []
    report = measure_parity(network, skewed, repeat=1, progress=lambda *x: told.append(x))
    assert network.dtype == torch.float32
    ran = {row.engine for row in report.rows if row.energy is not None}
    assert ran == {engine.name for engine in ENGINES if engine.installed} >= {"ASE"}
    assert report.agrees
    for row in report.rows:
        if row.note:
            assert row.note == "not installed"
            continue
        exact = (row.backend, row.precision) == ("reference", "float64")
        assert row.forces_error < (1e-8 if exact else 1e-4)
        assert row.energy == pytest.approx(report.rows[0].energy, abs=1e-3)
        assert row.milliseconds > 0
        if row.engine in ("ASE", "LAMMPS", "i-PI"):
            assert row.stress_error < (1e-7 if exact else 1e-5)
    assert report.largest_force > 0.01
    assert {row.precision for row in report.rows if not row.note} == {"float64", "float32"}
    assert {row.backend for row in report.rows if not row.note} == {"reference", "fused"}
    assert told[-1][0] == told[-1][1]
    assert ParityReport.model_validate_json(report.model_dump_json()) == report


def test_what_an_engine_cannot_take_is_said(network):
    atoms = ase.build.fcc100("Cu", (2, 2, 2), vacuum=5.0)  # periodic along the surface
    report = measure_parity(network, atoms, repeat=1)
    assert report.largest_stress is None
    assert report.agrees
    for row in report.rows:
        if row.engine == "OpenMM":
            assert "not installed" in row.note or "all directions or none" in row.note


def broken(what):
    """ASE again, wrong in one respect."""

    @contextmanager
    def wrong(potential, atoms):
        with ENGINES[0].open(potential, atoms) as right:

            def evaluate():
                frame = right()
                return replace(frame, **{what: getattr(frame, what) + 1e-3})

            yield evaluate

    return replace(ENGINES[0], name="wrong", open=wrong)


@pytest.mark.parametrize("what", ["energy", "forces", "stress"])
def test_a_wrong_engine_is_found(network, skewed, what, monkeypatch):
    skewed.rattle(0.1, seed=1)
    monkeypatch.setattr(parity, "ENGINES", (ENGINES[0], broken(what)))
    report = measure_parity(network, skewed, repeat=1)
    assert not report.agrees
    verdicts = {row.engine: row.agrees for row in report.rows}
    assert verdicts["ASE"] is True
    rows = [row for row in report.rows if row.engine == "wrong" and row.backend == "reference"]
    assert [row.agrees for row in rows] == [False, False]


def test_unknown_elements_are_named(network):
    with pytest.raises(ValueError, match="does not know"):
        measure_parity(network, ase.build.molecule("H2O"))
