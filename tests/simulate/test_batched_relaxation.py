"""Many relaxations at once end where single ones do, in order, resumable."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms

from dreibein.simulate import Calculator, relax_structure, relax_structures
from dreibein.simulate import batched_relaxation as module


@pytest.fixture
def source(tmp_path, cluster, crystal):
    """Clusters and a crystal, displaced."""
    frames = []
    for k in range(4):
        atoms = cluster.copy()
        atoms.rattle(0.1, seed=k)
        frames.append(atoms)
    frames.insert(2, crystal)
    ase.io.write(tmp_path / "frames.xyz", frames)
    return tmp_path / "frames.xyz"


def test_they_end_where_single_ones_do(potential, source, tmp_path):
    output = tmp_path / "out.extxyz"
    seen = []
    count, failed = relax_structures(
        [source], potential, output, batch_atoms=40, progress=lambda *x: seen.append(x)
    )
    assert (count, failed) == (5, 0)
    assert seen[-1][:2] == (5, 0)
    found = ase.io.read(output, ":")
    given = ase.io.read(source, ":")
    for k, (one, start) in enumerate(zip(found, given, strict=True)):
        assert one.info["source"] == f"frames.xyz, frame {k}"
        assert one.info["converged"]
        assert one.info["steps"] > 3
        assert np.sqrt(np.square(one.get_forces()).sum(1).max()) < 0.01
        start.calc = Calculator(potential)
        assert one.get_potential_energy() < start.get_potential_energy()
        single = relax_structure(start, potential)
        assert one.get_potential_energy() == pytest.approx(single.energy_after, abs=2e-3)
    assert found[2].pbc.all()


def test_an_interrupted_run_goes_on(potential, source, tmp_path, monkeypatch):
    whole, output = tmp_path / "whole.extxyz", tmp_path / "out.extxyz"
    relax_structures([source], potential, whole, batch_atoms=13)
    arrived = module._arrived
    names = []

    def failing(walker, *rest):
        if len(names) == 2:
            raise KeyboardInterrupt
        names.append(walker.name)
        return arrived(walker, *rest)

    monkeypatch.setattr(module, "_arrived", failing)
    with pytest.raises(KeyboardInterrupt):
        relax_structures([source], potential, output, batch_atoms=13)
    monkeypatch.setattr(module, "_arrived", lambda w, *r: (names.append(w.name), arrived(w, *r))[1])
    with pytest.raises(ValueError, match="begun with another choice"):
        relax_structures([source], potential, output, fmax=0.1)
    assert relax_structures([source], potential, output, batch_atoms=13) == (5, 0)
    assert sorted(names) == sorted(set(names))
    assert output.read_text() == whole.read_text()


def test_too_few_steps_are_said(potential, source, tmp_path):
    count, failed = relax_structures([source], potential, tmp_path / "a.extxyz", steps=2)
    assert (count, failed) == (5, 5)
    assert not ase.io.read(tmp_path / "a.extxyz", 0).info["converged"]


def test_refusals_name_the_frame(potential, cluster, tmp_path):
    ase.io.write(tmp_path / "gold.xyz", [cluster, Atoms("Au")])
    with pytest.raises(ValueError, match=r"gold\.xyz, frame 1: .*does not know Au"):
        relax_structures([tmp_path / "gold.xyz"], potential, tmp_path / "a.extxyz")
    cluster.set_constraint(FixAtoms([0]))
    ase.io.write(tmp_path / "held.xyz", cluster)
    with pytest.raises(ValueError, match=r"held\.xyz, frame 0 has constraints"):
        relax_structures([tmp_path / "held.xyz"], potential, tmp_path / "b.extxyz")
