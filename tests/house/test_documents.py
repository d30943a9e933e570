"""What the documents promise exists: make targets, verbs, files, extras."""

import re
import shlex
import tomllib

import pytest
import torch

from dreibein.models import TensorNetConfig, build_potential, save_model
from house.surface import command_line
from house.tree import PACKAGE, ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NO_VERBS = {"__init__", "console", "main"}
VERBS = {p.stem.rstrip("_") for p in (PACKAGE / "cli").glob("*.py") if p.stem not in NO_VERBS}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_exist(path):
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", path.read_text(), re.MULTILINE))
    assert named <= TARGETS


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_verbs_exist(path):
    named = set(re.findall(r"(?:^|`)dreibein ([a-z]+)", path.read_text(), re.MULTILINE))
    assert named <= VERBS


def blocks(text, *languages):
    """Contents of the fenced blocks in some languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [content for language, content in found if language in languages]


def commands(text):
    """Yield (verb, options) of every `dreibein` command line in fenced blocks."""
    for block in blocks(text, "", "bash", "sh", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] == ["dreibein"] and len(words) > 1 and not words[1].startswith("-"):
                yield words[1], [w.split("=")[0] for w in words[2:] if re.match(r"--?[a-z]", w)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_options_exist(path):
    known = set(command_line())
    wrong = [
        f"dreibein {verb} {option}"
        for verb, options in commands(path.read_text())
        for option in options
        if f"dreibein {verb} {option}" not in known
    ]
    assert not wrong


def test_a_misspelt_option_would_be_seen():
    assert list(commands("```\ndreibein md model --pss 5 -o x  # --no\n```")) == [
        ("md", ["--pss", "-o"])
    ]


def small_potential():
    torch.manual_seed(0)
    config = TensorNetConfig(channels=4, layers=1, num_radial=4, cutoff=3.0)
    return build_potential(config, elements=(1, 6, 8))


def test_the_readmes_python_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / "runs" / "ethanol").mkdir(parents=True)
    save_model(small_potential(), tmp_path / "runs" / "ethanol" / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks((ROOT / "README.md").read_text(), "python"):
        exec(block, names)
    assert names["results"]["hessian"].shape == (9, 3, 9, 3)
    assert "every law holds\ntorch.Size([2, 7])" in capsys.readouterr().out


def test_the_python_of_the_laws_runs():
    names = {"potential": small_potential()}
    for block in blocks((ROOT / "docs" / "laws.md").read_text(), "python"):
        exec(block, names)
    assert "broken_laws" in names


def test_the_python_on_localizing_runs():
    names: dict = {}
    for block in blocks((ROOT / "docs" / "localize.md").read_text(), "python"):
        exec(block, names)
    assert names["y"].shape == names["x"].shape
    assert names["potential"].config.convolution == "GATv2Conv"


def test_the_python_on_frames_runs():
    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    names = {"vectors": torch.randn(3, 3, 3), "edge_index": edges, "weights": torch.ones(3)}
    names["x_global"] = torch.randn(3, 16 + 24 + 20)
    for block in blocks((ROOT / "docs" / "frames.md").read_text(), "python"):
        exec(block, names)
    assert names["y_global"].shape == names["x_global"].shape


def test_the_python_on_inference_runs(capsys):
    for block in blocks((ROOT / "docs" / "inference.md").read_text(), "python"):
        exec(block, {})
    assert "fused (radial tables of 128 knots" in capsys.readouterr().out


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_extras_exist(path):
    named = re.findall(r"dreibein\[([a-z0-9,]+)\]", path.read_text())
    assert {e for group in named for e in group.split(",")} <= set(
        PROJECT["project"]["optional-dependencies"]
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#\s]+)", path.read_text())
    broken = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not broken


def test_every_page_is_in_the_index():
    text = (ROOT / "docs" / "index.md").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"]({page})" not in text} == set()


def test_the_readme_shows_both_commands_and_every_verb():
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
    assert {v for v in VERBS if f"dreibein {v}" not in text} == set()


def test_the_makefile_installs_the_extras_that_exist():
    (line,) = re.findall(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(line.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_torch_is_pinned_by_the_constraints_alone():
    assert (ROOT / "constraints.txt").read_text().split() == ["torch==2.13.0"]
    assert not [d for d in PROJECT["project"]["dependencies"] if "==" in d]


def test_continuous_integration_calls_make_test():
    path = ROOT / ".ci" / "run"
    assert path.stat().st_mode & 0o111
    assert path.read_text().splitlines()[-1] == "make test"


def test_one_version():
    text = (PACKAGE / "__init__.py").read_text()
    (version,) = re.findall(r'__version__ = "([^"]+)"', text)
    assert PROJECT["project"]["version"] == version
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
