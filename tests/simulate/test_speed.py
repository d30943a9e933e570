"""Speed and memory of a potential: what is measured, and that it adds up."""

import logging

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.neighborlist import neighbor_list

from dreibein.models import TensorNetConfig, build_potential
from dreibein.simulate import Memory, Speed, available_backends, measure_speed
from dreibein.simulate.speed import copies_of, default_threads, measure_memory


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    config = TensorNetConfig(channels=8, layers=1, num_radial=4, cutoff=3.0)
    return build_potential(config, elements=(1, 8), dtype=torch.float64)


def test_every_thread_count_is_timed_and_the_best_reported(small):
    before = torch.get_num_threads()
    notes = []
    speeds = measure_speed(
        small,
        molecule("H2O"),
        threads=[1, 2],
        repeat=3,
        memory=False,
        progress=lambda *note: notes.append(note),
    )
    assert [s.backend for s in speeds] == list(available_backends(small))
    for speed in speeds:
        assert set(speed.seconds_by_threads) == {1, 2}
        assert speed.seconds == min(speed.seconds_by_threads.values()) > 0.0
        assert speed.seconds_by_threads[speed.threads] == speed.seconds
        assert speed.seconds_with_stress is None
        assert speed.memory is None
    assert torch.get_num_threads() == before
    assert notes[-1][0] == notes[-1][1] == 3


def test_stress_is_timed_where_there_is_a_volume(small, monkeypatch):
    asked = []
    forward = type(small).forward
    monkeypatch.setattr(
        type(small),
        "forward",
        lambda self, structure, compute: asked.append(compute) or forward(self, structure, compute),
    )
    box = molecule("H2O", cell=[7.0, 7.0, 7.0], pbc=True)
    (speed,) = measure_speed(
        small, box, backends=["reference"], threads=[1], repeat=2, memory=False
    )
    assert speed.seconds_with_stress > 0.0
    assert asked.count(("energy", "forces", "stress")) == 4
    assert asked.count(("energy", "forces")) == 4


def test_units():
    speed = Speed("reference", 50, 2, 0.01, {2: 0.01})
    assert speed.atoms_per_second == pytest.approx(5000.0)
    assert speed.ns_per_day(2.0) == pytest.approx(17.28)


def test_a_line_through_two_measurements():
    memory = Memory(fixed=400.0, per_atom=2.0, measured={100: 600, 300: 1000})
    assert memory.at(100) == 600
    assert memory.at(200) == 800.0
    assert memory.largest(1000.0) == 300
    assert memory.largest(100.0) == 0


def surroundings(atoms, cutoff):
    i, d = neighbor_list("id", atoms, cutoff)
    return sorted(np.round(np.sort(d[i == k]), 6).tolist() for k in range(len(atoms)))


@pytest.mark.parametrize("cell", [None, [4.0, 5.0, 6.0]])
def test_copies_keep_every_atoms_surroundings(cell):
    atoms = molecule("CH3CH2OH", cell=cell, pbc=cell is not None)
    atoms.info["charge"] = 0.0
    made = copies_of(atoms, 3, gap=5.0)
    assert len(made) == 27
    assert surroundings(made, 4.9) == sorted(3 * surroundings(atoms, 4.9))


def test_memory_grows_with_the_atoms(small):
    """Two fresh processes; a wider network needs more for each atom."""
    wide = build_potential(
        TensorNetConfig(channels=64, layers=1, num_radial=4, cutoff=3.0), elements=(1, 8)
    )
    atoms = molecule("H2O").repeat(1)
    atoms.set_cell([3.1, 3.1, 3.1])
    atoms.pbc = True
    ballast = bytearray(800_000_000)  # the parent's memory must not count
    ballast[::4096] = b"x" * len(ballast[::4096])
    memory = measure_memory(wide.double(), atoms, "reference", 1)
    del ballast
    assert set(memory.measured) == {258, 774}
    # at least the packed features, the messages' senders and the filters of an edge
    assert memory.per_atom > 10 * 9 * 64 * 8
    assert memory.fixed > 50e6
    assert memory.at(774) == memory.measured[774]


def test_a_failing_process_is_told_of(small, caplog):
    atoms = molecule("CH4")  # carbon is unknown to the potential
    with caplog.at_level(logging.WARNING):
        assert measure_memory(small, atoms, "reference", 1) is None
    assert "does not know C" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backends": ["quick"]}, "no backend 'quick' here; choose from reference"),
        ({"repeat": 0}, "must be 1 or more"),
        ({"threads": [0]}, "must be 1 or more"),
    ],
)
def test_wrong_options(small, options, message):
    with pytest.raises(ValueError, match=message):
        measure_speed(small, molecule("H2O"), **options)


def test_default_threads(small):
    counts = default_threads(small)
    assert counts[0] == 1
    assert counts == sorted(set(counts))
