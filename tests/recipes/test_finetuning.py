"""Runs that go on from a trained model."""

import numpy as np
import pytest
import torch
from ase.io import read, write

from dreibein.models import load_model, read_header, save_model
from dreibein.recipes import load_config, train_run
from dreibein.recipes.config import FineTuneConfig
from dreibein.recipes.finetuning import LowRank, choose_weights, merge_low_rank

TINY = ["model.channels=8", "model.layers=1", "model.cutoff=3.0", "model.num_radial=8"]
SHORT = ["training.epochs=2", "training.lr=3e-3", "data.validation=6", "data.test=6"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs."""
    from recipes.conftest import write_clusters

    folder = tmp_path_factory.mktemp("start")
    source = write_clusters(folder / "first.xyz", 40)
    run = train_run(
        load_config(overrides=[f"data.sources={source}", *TINY, *SHORT]), folder=folder / "run"
    )
    return source, run


def go_on(trained, folder, *overrides, source=None):
    first, run = trained
    start = f"finetune.model={run.folder}"
    return train_run(
        load_config(overrides=[f"data.sources={source or first}", start, *SHORT, *overrides]),
        folder=folder,
    )


def shifted(source, path, per_atom, new_symbol=None):
    """The same frames with other energies, and a new element in place of one atom."""
    frames = read(source, index=":")
    for atoms in frames:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        numbers = atoms.numbers.copy()
        shift = sum(per_atom.get(int(z), 0.0) for z in numbers)
        if new_symbol is not None:
            atoms.symbols[0] = new_symbol
        atoms.calc = None
        atoms.info["REF_energy"] = energy + shift
        atoms.arrays["REF_forces"] = forces
    write(path, frames)
    return path


def test_references_take_up_another_zero_of_energy(trained, tmp_path):
    source, first = trained
    elements = first.potential.elements
    shifts = {z: 1000.0 + 10.0 * z for z in elements}
    other = shifted(source, tmp_path / "other.xyz", shifts)
    run = go_on(trained, tmp_path / "run", source=other)
    before = run.before["test"].metrics["energy_per_atom_mae_mev"]
    assert before < 2.0 * first.evaluations["test"].metrics["energy_per_atom_mae_mev"] + 1.0
    kept = go_on(trained, tmp_path / "kept", "finetune.references=keep", source=other)
    assert kept.before["test"].metrics["energy_per_atom_mae_mev"] > 1e5


def test_errors_before_are_those_of_the_model_and_the_card_keeps_them(trained, tmp_path):
    _, first = trained
    run = go_on(trained, tmp_path / "run", "finetune.references=keep")
    for name, value in first.evaluations["test"].metrics.items():
        assert run.before["test"].metrics[name] == pytest.approx(value, rel=1e-4)
    assert (run.folder / "evaluation_before_test.json").is_file()
    card = read_header(run.folder)["card"]["finetuned_from"]
    assert card["file"] == str(first.folder / "model.safetensors")
    assert len(card["sha256"]) == 64
    assert card["errors"]["test"] == run.before["test"].metrics
    assert run.fit.steps > 0


def test_frozen_weights_stay_and_others_move(trained, tmp_path):
    _, first = trained
    run = go_on(trained, tmp_path / "run", "finetune.freeze=[embedding, interactions.0.filter]")
    old = dict(load_model(first.folder).network.named_parameters())
    for name, weight in load_model(run.folder).network.named_parameters():
        stays = name.startswith(("embedding.", "interactions.0.filter."))
        assert torch.equal(weight, old[name]) == stays, name


def test_low_rank_updates_are_merged(trained, tmp_path):
    _, first = trained
    run = go_on(trained, tmp_path / "run", "finetune.low_rank=2")
    old = dict(load_model(first.folder).network.named_parameters())
    new = dict(load_model(run.folder).network.named_parameters())
    assert new.keys() == old.keys()
    moved = 0
    for name, weight in new.items():
        change = (weight - old[name]).detach().double()
        if weight.dim() < 2:
            assert torch.equal(weight, old[name]), name
        elif min(weight.shape[-2:]) > 2:
            values = torch.linalg.svdvals(change)
            assert float((values[..., 2:] / values[..., :1].clamp(min=1e-30)).max()) < 1e-4, name
            moved += 1
    assert moved > 3


def test_a_low_rank_start_is_the_model_itself(trained):
    _, first = trained
    potential = load_model(first.folder)
    before = {name: p.detach().clone() for name, p in potential.network.named_parameters()}
    choose_weights(potential, FineTuneConfig(model="x", low_rank=3))
    adapters = [m for m in potential.modules() if isinstance(m, LowRank)]
    assert adapters
    assert all(torch.count_nonzero(a.left) == 0 for a in adapters)
    merge_low_rank(potential)
    for name, weight in potential.network.named_parameters():
        assert torch.equal(weight, before[name])
        assert weight.requires_grad


def test_a_new_element_gets_a_row(trained, tmp_path):
    source, first = trained
    other = shifted(source, tmp_path / "new.xyz", {}, new_symbol="S")
    run = go_on(trained, tmp_path / "run", source=other)
    assert set(run.potential.elements) == {*first.potential.elements, 16}
    assert np.isfinite(run.evaluations["test"].metrics["forces_mae_mev_per_a"])


def test_resume_needs_the_same_start(trained, tmp_path):
    run = go_on(trained, tmp_path / "run", "finetune.low_rank=2")
    config = load_config(run.folder / "config.yaml", ["finetune.low_rank=0"])
    with pytest.raises(ValueError, match="in another way"):
        train_run(config, resume=run.folder)
    longer = load_config(run.folder / "config.yaml", ["training.epochs=3"])
    assert train_run(longer, resume=run.folder).fit.epochs == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.channels=16", "model.channels is 16, but .* was trained with 8"),
        ("finetune.freeze=[embeding]", "the nearest is 'embedding'"),
        ("finetune.freeze=[embedding, interactions, out, out_norm, head]", "no weight to train"),
        ("finetune.rank=3", "unknown key 'rank'"),
    ],
)
def test_what_does_not_fit_is_refused(trained, tmp_path, override, message):
    with pytest.raises(ValueError, match=message):
        go_on(trained, tmp_path / "run", override)


def test_knots_may_change(trained, tmp_path):
    run = go_on(trained, tmp_path / "run", "model.knots=32")
    assert run.config.model.knots == 32


def test_an_imported_model_is_a_start_too(trained, tmp_path):
    source, first = trained
    potential = load_model(first.folder)
    potential.card = {"name": "from elsewhere", "level_of_theory": "PBE"}
    save_model(potential, tmp_path / "imported.safetensors")
    run = train_run(
        load_config(
            overrides=[
                f"data.sources={source}",
                f"finetune.model={tmp_path / 'imported.safetensors'}",
                *SHORT,
            ]
        ),
        folder=tmp_path / "run",
    )
    assert read_header(run.folder)["card"]["finetuned_from"]["level_of_theory"] == "PBE"


def test_a_target_is_added_and_a_term_stays(tmp_path, clusters):
    source = clusters(24)
    frames = read(source, index=":")
    for atoms in frames:
        atoms.info["dipole"] = atoms.positions[0] - atoms.get_center_of_mass()
    write(tmp_path / "dipoles.xyz", frames)
    common = [*TINY, *SHORT, "data.validation=4", "data.test=4"]
    first = train_run(
        load_config(overrides=[f"data.sources={source}", *common, "model.terms=[zbl]"]),
        folder=tmp_path / "first",
    )
    start = [f"finetune.model={first.folder}", *SHORT, "data.validation=4", "data.test=4"]
    data = [f"data.sources={tmp_path / 'dipoles.xyz'}", "data.units.dipole=e*Å"]
    config = load_config(overrides=[*data, *start, "model.targets=[dipole]"])
    assert [term.term for term in config.model.terms] == ["zbl"]
    run = train_run(config, folder=tmp_path / "second")
    assert "dipole" in run.potential.outputs
    again = train_run(
        load_config(
            overrides=[*data, f"finetune.model={run.folder}", *start[1:], "finetune.low_rank=1"]
        ),
        folder=tmp_path / "third",
    )
    kept = dict(again.potential.targets["dipole"].named_buffers())["spread"]
    assert torch.equal(kept, run.potential.targets["dipole"].spread)
    assert any(name.startswith("dipole") for name in again.before["test"].metrics)
