"""Every mistake in a configuration is one sentence with its place and the nearest name."""

import re

import pytest

from dreibein.data import DataConfig
from dreibein.recipes import PRESETS, RunConfig, load_config, preset
from dreibein.recipes.config_file import Settings, stacked
from dreibein.recipes.presets import preset_settings
from dreibein.train import Plateau

DATA = "data: {sources: a.xyz}\n"

MISTAKES = {
    "training:\n  learning_rate: 1e-3\n": (
        3,
        "unknown key 'learning_rate' in training; did you mean 'lr'?",
    ),
    "training:\n  epoch: 3\n": (3, "unknown key 'epoch' in training; did you mean 'epochs'?"),
    "lr: 3\n": (2, "unknown key 'lr' at the top level; did you mean 'training.lr'?"),
    "model: {chanels: 3}\n": (2, "unknown key 'chanels' in model; did you mean 'channels'?"),
    "model:\n  layers: 1\n  architecture: tensornot\n": (
        4,
        "model.architecture is 'tensornot': expected 'tensornet'",
    ),
    "training:\n\n  losses:\n    force: {weight: 1}\n": (
        5,
        "unknown key 'force' in training.losses; did you mean 'forces'?",
    ),
    "training:\n  schedule: {kind: plateau, patiens: 3}\n": (
        3,
        "unknown key 'patiens' in training.schedule; did you mean 'patience'?",
    ),
    "training:\n  schedule: cosin\n": (3, "training.schedule.kind is 'cosin': expected 'constant'"),
    "training:\n  epochs: many\n": (3, "training.epochs is 'many': expected a whole number"),
    "training:\n  epochs: 0\n": (3, "training.epochs is 0: must be at least 1"),
    "training:\n  batch_size: 2.5\n": (3, "training.batch_size is 2.5: expected a whole number"),
    "training:\n  devices: x\n": (3, "training.devices is 'x': expected a whole number or 'auto'"),
    "training:\n  max_time: 3 hours\n": (3, "training.max_time is '3 hours': a time is a number"),
    "training:\n  betas: [0.9]\n": (3, "training.betas is [0.9]: expected more entries"),
    "training:\n  loggers: [wandb, tensorbord]\n": (3, "did you mean 'tensorboard'?"),
    "training:\n  losses: {forces: {weight: -1}}\n": (
        3,
        "training.losses.forces.weight is -1: must be at least 0",
    ),
    "training: 7\n": (2, "training is 7: expected a section with entries"),
    "training:\n  lr: 1\n  lr: 2\n": (
        4,
        "the key 'lr' stands twice in one section, first on line 3",
    ),
    "training:\n  lr: [1\n": (4, "not valid YAML"),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_one_sentence_with_file_and_line(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(DATA + text, encoding="utf-8")
    line, said = MISTAKES[text]
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}: ")
    assert "\n" not in message
    assert "pydantic" not in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training: {}\n", "data is missing: what to learn from"),
        ("data: {}\n", "data.sources is missing: Files to train on"),
        ("- a\n", "expected sections data, model and training"),
        ("", "data is missing"),
    ],
)
def test_what_is_missing(tmp_path, text, said):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "training.lrr=3",
            "--set training.lrr=3: unknown key 'lrr' in training; did you mean",
        ),
        ("training.lr", "--set training.lr: write it as section.key=value"),
        ("training.lr=fast", "--set training.lr=fast: training.lr is 'fast': expected a number"),
        ("training.lr=[", "--set training.lr=[: the value is not valid YAML"),
        ("name.x=1", "--set name.x=1: name is 'n', not a section with entries"),
    ],
)
def test_overrides_say_where_too(override, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        load_config(overrides=["data.sources=a.xyz", "name=n", override])


def test_overrides_win_in_order(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(DATA + "training:\n  lr: 1e-2\n  schedule: plateau\n", encoding="utf-8")
    overrides = ["training.lr=5e-4", "training.lr=3e-4", "training.schedule.patience=2"]
    config = load_config(path, [*overrides, "data.sources=[b.xyz, c.xyz]"])
    assert config.training.lr == 3e-4
    assert config.training.schedule == Plateau(patience=2)
    assert config.data.sources == ["b.xyz", "c.xyz"]


def test_empty_sections_are_no_mistake(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(DATA + "training:\nmodel:\n", encoding="utf-8")
    assert load_config(path).training.epochs == 200


def test_yaml_written_by_hand_is_read_as_meant(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(DATA + "training:\n  lr: 5e-4\n  ema_decay: null\n", encoding="utf-8")
    training = load_config(path).training
    assert training.lr == 5e-4  # PyYAML alone gives the text '5e-4'
    assert training.ema_decay is None


def test_a_section_of_another_kind_replaces_the_lower_one():
    low = Settings({"training": {"schedule": {"kind": "plateau", "factor": 0.5}}})
    high = Settings({"training": {"schedule": {"kind": "cosine"}}})
    assert stacked(low, high).values["training"]["schedule"] == {"kind": "cosine"}


def test_another_architecture_drops_the_presets_hyperparameters():
    start = preset_settings("small")
    overrides = ["data.sources=a.xyz", "model.architecture=locaformer"]
    config = load_config(overrides=overrides, start=start)
    assert config.model.architecture == "locaformer"
    same = load_config(
        overrides=["data.sources=a.xyz", "model.architecture=tensornet"],
        start=preset_settings("small"),
    )
    assert same.model.channels == 64


def test_overrides_beside_an_architecture_count_in_any_order():
    overrides = ["data.sources=a.xyz", "model.channels=24", "model.architecture=locaformer"]
    assert load_config(overrides=overrides).model.channels == 24
    assert load_config(overrides=overrides[::-1]).model.channels == 24


@pytest.mark.parametrize("name", PRESETS)
def test_presets_stand_and_survive_a_round_trip(name):
    config = preset(name, DataConfig(sources=["a.xyz"]))
    assert config.name == name
    settings = preset_settings(name)
    again = load_config(overrides=["data.sources=a.xyz"], start=settings)
    assert again.model_dump() == config.model_dump()
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_paper_rmd17_is_one_to_a_hundred():
    terms = preset("paper-rmd17").training.losses.terms()
    assert terms["forces"].weight / terms["energy"].weight == pytest.approx(100.0)
    assert {term.kind for term in terms.values()} == {"mse"}


@pytest.mark.parametrize(
    ("name", "parameters"),
    # published counts (tables of elements trimmed from 128 rows to the data's own)
    [("paper-rmd17", 769_921), ("paper-spice", 790_401), ("paper-qm9", 3_974_401)],
)
def test_papers_models_have_the_published_size(name, parameters):
    from dreibein.models import build_potential

    config = preset(name, DataConfig(sources=["a.xyz"]))
    elements = tuple(range(1, 11))
    potential = build_potential(config.model, elements=elements)
    found = sum(p.numel() for p in potential.parameters())
    assert found + (128 - len(elements)) * config.model.channels == parameters


def test_users_split_counts_more_than_the_presets():
    config = preset("paper-qm9", DataConfig(sources=["qm9"], test=5))
    assert config.data.test == 5
    assert config.data.validation == 10000


def test_unknown_preset_and_no_data():
    with pytest.raises(ValueError, match=r"unknown preset 'smal': did you mean 'small'\?"):
        preset("smal")
    with pytest.raises(ValueError, match="preset small needs something to learn from"):
        preset("small")


def test_schema_describes_every_entry():
    schema = RunConfig.model_json_schema()
    for name, section in schema["$defs"].items():
        for key, entry in section.get("properties", {}).items():
            tag = "const" in entry
            assert tag or entry.get("description"), f"{name}.{key} has no description"
