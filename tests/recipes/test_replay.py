"""Replay: old frames in every epoch, their energies on the new references, forgetting shown."""

import numpy as np
import pytest
import torch
from ase.io import read, write

from dreibein.recipes import load_config, train_run
from dreibein.recipes.config import FineTuneConfig
from dreibein.recipes.replay import mixture, old_data
from dreibein.train.frames import Frames
from dreibein.train.order import Steps

TINY = ["model.channels=8", "model.layers=1", "model.cutoff=3.0", "model.num_radial=8"]
SHORT = ["training.epochs=3", "training.lr=3e-3", "data.validation=6", "data.test=6"]
OFFSET = 500.0  # eV per atom between the two levels


@pytest.fixture(scope="module")
def two(tmp_path_factory, cluster_writer):
    """A run on clusters, and other clusters at a level whose energies lie 500 eV higher."""
    folder = tmp_path_factory.mktemp("replay")
    source = cluster_writer(folder / "old.xyz", 30)
    run = train_run(
        load_config(overrides=[f"data.sources={source}", *TINY, *SHORT]), folder=folder / "old"
    )
    frames = read(cluster_writer(folder / "new.xyz", 20, seed=3), index=":")
    for atoms in frames:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        atoms.info["REF_energy"] = energy + OFFSET * len(atoms)
        atoms.arrays["REF_forces"] = forces
    write(folder / "new.xyz", frames)
    return folder, run


def go_on(two, name, *overrides):
    folder, old = two
    given = [f"data.sources={folder / 'new.xyz'}", f"finetune.model={old.folder}", *SHORT]
    return train_run(load_config(overrides=[*given, *overrides]), folder=folder / name)


def test_old_energies_move_with_the_references(two):
    _, old = two
    run = go_on(two, "without")
    before = run.before["old"].metrics
    first = old.evaluations["test"].metrics
    # forces are as they were, energies off by the fit alone, not by 500 eV an atom
    assert before["forces_mae_mev_per_a"] == pytest.approx(first["forces_mae_mev_per_a"], rel=1e-4)
    assert before["energy_per_atom_mae_mev"] == pytest.approx(
        first["energy_per_atom_mae_mev"], abs=0.1
    )
    assert (run.folder / "evaluation_before_old.json").is_file()
    assert (run.folder / "evaluation_old.json").is_file()
    assert "old" in run.evaluations
    changes = old_data(run.config.finetune, run.potential).change
    assert changes[1] == pytest.approx(OFFSET, abs=2.0)


def test_an_epoch_has_new_frames_and_some_old_ones():
    steps = Steps(30, 4, seed=0, pool=20, drawn=6)
    seen = []
    for epoch in range(3):
        steps.start(epoch)
        rows = [k for step in steps for k in step]
        assert len(rows) == 16
        assert sorted(k for k in rows if k < 10) == list(range(10))
        assert len({k for k in rows if k >= 10}) == 6
        seen.append(frozenset(k for k in rows if k >= 10))
    assert len(set(seen)) == 3
    assert len(steps) == 4
    assert len([k for step in Steps(12, 4, seed=0, pool=2, drawn=6) for k in step]) == 16


@pytest.mark.parametrize("labels", ["data", "model"])
def test_what_is_replayed(two, labels):
    _, old = two
    start = FineTuneConfig(model=str(old.folder), replay={"share": 0.25, "labels": labels})
    potential = old.potential
    potential.reference[potential.elements[0]] += 3.0
    try:
        found = mixture(old_new(two), old_data(start, potential), start, potential)
        assert found.drawn == 7  # a quarter of 27 + 7... rounded
        assert "(replayed)" in found.describe(len(found.new))
        frames = Frames(found, 3.0, ("energy", "forces"))
        batch = frames[[0, len(found.new), len(found.new) + 1]]
        assert batch.num_graphs == 3
        raw = old_data(start, potential).splits.train[0]
        count = int((raw.z == potential.elements[0]).sum())
        if labels == "data":
            assert float(batch.energy[1] - raw.energy) == pytest.approx(3.0 * count, abs=1e-9)
            expected = raw.forces
        else:
            predicted = potential(frames[[len(found.new)]], compute=("energy", "forces"))
            assert float(batch.energy[1] - predicted["energy"]) == pytest.approx(0.0, abs=1e-5)
            expected = predicted["forces"]
        rows = slice(int(batch.ptr[1]), int(batch.ptr[2]))
        torch.testing.assert_close(batch.forces[rows], expected, rtol=1e-4, atol=1e-5)
    finally:
        potential.reference[potential.elements[0]] -= 3.0


def old_new(two):
    from dreibein.data import DataConfig, load_data, with_neighbors

    data = load_data(DataConfig(sources=[str(two[0] / "new.xyz")]))
    return with_neighbors(data, 3.0)


def test_replay_keeps_what_was_known(two):
    longer = ("training.epochs=20", "training.ema_decay=null", "training.schedule=constant")
    without = go_on(two, "far", *longer)
    kept = go_on(two, "kept", *longer, "finetune.replay.share=0.6")
    errors = [r.evaluations["old"].metrics["forces_mae_mev_per_a"] for r in (without, kept)]
    assert errors[1] < 0.9 * errors[0], errors
    assert np.isfinite(kept.evaluations["test"].metrics["energy_mae_mev"])
    config = load_config(kept.folder / "config.yaml", ["training.epochs=21"])
    assert train_run(config, resume=kept.folder).fit.epochs == 21


def test_what_does_not_fit_is_refused(two, tmp_path):
    folder, old = two
    model = tmp_path / "alone.safetensors"
    model.write_bytes((old.folder / "model.safetensors").read_bytes())
    given = [f"data.sources={folder / 'new.xyz'}", f"finetune.model={model}", *SHORT]
    replayed = load_config(overrides=[*given, "finetune.replay.share=0.5"])
    with pytest.raises(ValueError, match=r"name finetune\.replay\.data"):
        train_run(replayed, folder=tmp_path / "no")
    alone = train_run(load_config(overrides=given), folder=tmp_path / "alone")
    assert "old" not in alone.evaluations
    named = f"finetune.replay.data={{sources: [{folder / 'old.xyz'}]}}"
    run = train_run(load_config(overrides=[*given, named]), folder=tmp_path / "named")
    assert "old" in run.before
