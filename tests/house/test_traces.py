"""No committed file names a machine: no absolute path, no package index, no private host."""

import re

import pytest

from house.tree import ROOT, tracked_files

TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
    ".cff",
    ".json",
    ".cfg",
    ".ini",
    ".html",
    ".sh",
    ".js",
    ".css",
    "",
}
# the patterns are put together from pieces, so that this file does not match itself
_TOPS = "|".join(("work", "tmp", "home", "root", "Users", "mnt", "opt", "scratch", "data"))
ABSOLUTE_PATH = re.compile(rf"(?<![\w.:/~)}}\]<>*])/(?:{_TOPS})/\w")
PACKAGE_INDEX = re.compile(
    "|".join(
        re.escape(a + b)
        for a, b in (
            ("--index", "-url"),
            ("--extra", "-index"),
            ("--find", "-links"),
            ("pypi", ".org"),
            ("python", "hosted"),
            ("download.", "pytorch"),
        )
    )
)
PRIVATE_HOST = re.compile(
    # the loopback address is every machine's own
    r"https?://(?:(?!127\.0\.0\.1)\d+\.\d+\.\d+\.\d+|[\w.-]+\.(?:internal|local|lan|corp))\b"
)
RULES = {
    "an absolute path of one machine": ABSOLUTE_PATH,
    "a package index": PACKAGE_INDEX,
    "a private host": PRIVATE_HOST,
}


def traces(text: str) -> list[str]:
    """What in a text belongs to one machine."""
    return [
        f"{what}: {match.group()!r}"
        for what, rule in RULES.items()
        for match in rule.finditer(text)
    ]


def test_no_traces_of_a_machine():
    found = []
    for path in tracked_files():
        if path.suffix not in TEXT:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {trace}" for trace in traces(text)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "open('/" + "tmp/x.txt')",
        "cd /" + "home/me/dreibein",
        "pip install --index" + "-url x",
        "http://10" + ".0.0.1:8080/simple",
        "https://mirror" + ".internal/x",
    ],
)
def test_mutants_are_caught(text):
    assert traces(text)


@pytest.mark.parametrize(
    "text",
    [
        "../shared/data/rmd17",
        "kcal/mol/Å",
        "/path/to/python3",
        "https://doi.org/10.1/x",
        "http://127.0.0.1:8000/x",
        "a/data/b",
    ],
)
def test_ordinary_text_passes(text):
    assert not traces(text)
