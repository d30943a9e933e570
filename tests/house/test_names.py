"""Names say what a thing is: no `utils`, no `Base…`, `…Mixin`, `…Manager`, and the like."""

import ast
import re

import pytest

from house.tree import PACKAGE, definitions, sources

EMPTY_FILES = {"utils", "util", "helpers", "misc", "common", "base", "core", "tools", "manager"}
EMPTY_CLASSES = re.compile(
    r"^(Base|Abstract)[A-Z]|(Mixin|Manager|Helper|Utils?|Handler|Impl|Wrapper)$"
)


def faults(name: str, *, is_class: bool) -> bool:
    if is_class:
        return bool(EMPTY_CLASSES.search(name))
    return name.strip("_") in EMPTY_FILES


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_carry_meaning(path):
    for part in path.relative_to(PACKAGE).with_suffix("").parts:
        assert not faults(part, is_class=False), f"{path.name}: '{part}' says nothing"
    for name, node, _ in definitions(path):
        if isinstance(node, ast.ClassDef):
            assert not faults(name.split(".")[-1], is_class=True), f"{name} says nothing"


@pytest.mark.parametrize(
    ("name", "is_class"),
    [
        ("utils", False),
        ("_helpers", False),
        ("BaseModel", True),
        ("ForceMixin", True),
        ("RunManager", True),
    ],
)
def test_mutants_are_caught(name, is_class):
    assert faults(name, is_class=is_class)


@pytest.mark.parametrize(
    ("name", "is_class"), [("units", False), ("Basis", True), ("Potential", True)]
)
def test_good_names_pass(name, is_class):
    assert not faults(name, is_class=is_class)
