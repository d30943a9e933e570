"""Many structures at once: the calculator's numbers, in order, resumable without loss."""

import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from dreibein.models import TensorNetConfig, build_potential
from dreibein.simulate import Calculator, predict_structures
from dreibein.simulate import predictions as module


@pytest.fixture
def potential():
    config = TensorNetConfig(channels=8, layers=1, cutoff=3.5, num_radial=8)
    return build_potential(config, elements=(1, 6, 8, 13))


@pytest.fixture
def sources(tmp_path):
    rng = np.random.default_rng(0)
    first = [molecule(name) for name in ("H2O", "CH4", "CH3OH", "CO2")]
    second = [bulk("Al", cubic=True), molecule("C6H6")]
    for atoms in first + second:
        atoms.rattle(0.05, rng=rng)
    first[0].info["charge"] = 1.0
    paths = [tmp_path / "first.xyz", tmp_path / "second.xyz"]
    ase.io.write(paths[0], first)
    ase.io.write(paths[1], second)
    return paths


def test_frames_get_the_calculators_numbers(potential, sources, tmp_path):
    output = tmp_path / "out.extxyz"
    assert predict_structures(sources, potential, output, batch_atoms=9) == 6
    found = ase.io.read(output, ":")
    given = [atoms for path in sources for atoms in ase.io.read(path, ":")]
    for one, atoms in zip(found, given, strict=True):
        atoms.calc = Calculator(potential)
        np.testing.assert_allclose(one.positions, atoms.positions, atol=1e-7)
        assert one.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
        np.testing.assert_allclose(one.get_forces(), atoms.get_forces(), atol=1e-5)
        if atoms.pbc.all():
            np.testing.assert_allclose(one.get_stress(), atoms.get_stress(), atol=1e-6)
        else:
            assert "stress" not in one.calc.results
    assert found[0].info["charge"] == 1.0
    assert found[4].info["source"] == "second.xyz, frame 0"
    assert not list(tmp_path.glob("*.progress.json"))


def test_an_interrupted_run_goes_on_and_computes_nothing_twice(
    potential, sources, tmp_path, monkeypatch
):
    whole, output = tmp_path / "whole.extxyz", tmp_path / "out.extxyz"
    predict_structures(sources, potential, whole, batch_atoms=6)
    evaluated = module.evaluate_batch
    seen: list[str] = []

    def failing(batch, frozen):
        if len(seen) >= 3:
            raise KeyboardInterrupt
        seen.extend(name for _, name, _ in batch)
        return evaluated(batch, frozen)

    monkeypatch.setattr(module, "evaluate_batch", failing)
    with pytest.raises(KeyboardInterrupt):
        predict_structures(sources, potential, output, batch_atoms=6)
    done = json.loads((tmp_path / "out.extxyz.progress.json").read_text())["frames"]
    assert done == len(seen) < 6
    with output.open("a") as file:  # half a frame of a run that was killed while writing
        file.write("5\nhalf")
    rest: list[str] = []
    monkeypatch.setattr(
        module, "evaluate_batch", lambda b, p: (rest.extend(n for _, n, _ in b), evaluated(b, p))[1]
    )
    assert predict_structures(sources, potential, output, batch_atoms=6) == 6
    assert len(seen) + len(rest) == 6
    assert output.read_text() == whole.read_text()


def test_another_model_or_output_is_refused(potential, sources, tmp_path, monkeypatch):
    output = tmp_path / "out.extxyz"
    predict_structures(sources[:1], potential, output)
    with pytest.raises(ValueError, match="is there already"):
        predict_structures(sources[:1], potential, output)
    predict_structures(sources, potential, output, overwrite=True)
    assert len(ase.io.read(output, ":")) == 6
    record = tmp_path / "out.extxyz.progress.json"
    record.write_text(json.dumps({"sources": [], "potential": "", "frames": 0, "bytes": 0}))
    with pytest.raises(ValueError, match="begun with another source"):
        predict_structures(sources, potential, output)


def test_an_unknown_element_names_the_frame(potential, tmp_path):
    path = tmp_path / "gold.xyz"
    ase.io.write(path, [molecule("H2O"), Atoms("Au")])
    with pytest.raises(ValueError, match=r"gold\.xyz, frame 1: .*does not know Au"):
        predict_structures([path], potential, tmp_path / "out.extxyz")
