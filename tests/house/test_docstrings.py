"""Every module and every public function, class and method says in one sentence what it is."""

import ast
import re

import pytest

from house.tree import PACKAGE, definitions, is_public, module_name, parsed, sources

SENTENCE = re.compile(r"^\S.*[.:?!`]$", re.DOTALL)
PATHS = sources()
# properties, overrides and the like that need no arguments section still need the sentence


def first_paragraph(text: str) -> str:
    return text.strip().split("\n\n")[0].strip()


def faults(path) -> list[str]:
    """Names without a docstring, or with a first paragraph that is no sentence."""
    found = []
    nodes = [(module_name(path) or path.stem, parsed(path))]
    nodes += [(name, node) for name, node, _ in definitions(path) if is_public(name)]
    for name, node in nodes:
        if any(_is_overload(d) for d in getattr(node, "decorator_list", [])):
            continue
        text = ast.get_docstring(node)
        if not text:
            found.append(f"{path.name}: {name} has no docstring")
        elif not SENTENCE.match(first_paragraph(text)):
            found.append(f"{path.name}: {name}: the docstring does not open with a sentence")
    return found


def _is_overload(decorator: ast.expr) -> bool:
    return getattr(decorator, "id", getattr(decorator, "attr", "")) in {"overload", "setter"}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings(path):
    found = faults(path)
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1", "has no docstring"),
        ('"""Doc."""\ndef f():\n    pass', "f has no docstring"),
        ('"""Doc."""\nclass A:\n    """Doc."""\n    def g(self):\n        pass', "A.g has no"),
        ('"""Doc."""\ndef f():\n    """no end"""', "sentence"),
    ],
)
def test_mutants_are_caught(tmp_path, monkeypatch, code, said):
    path = tmp_path / "thing.py"
    path.write_text(code)
    monkeypatch.setattr(f"{__name__}.module_name", lambda path: path.stem)
    (found,) = faults(path)
    assert said in found
