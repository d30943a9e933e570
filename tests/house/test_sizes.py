"""Files and functions stay small enough to read."""

import ast

import pytest

from house.tree import PACKAGE, ROOT, definitions, sources

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
MAX_ARGUMENTS = 8
# dotted names that may have more, each with its reason
MANY_ARGUMENTS: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}

OWN_CODE = [
    path for top in ("src", "tests", "benchmarks", "examples") for path in sources(ROOT / top)
]


def arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Named arguments, `self` and `cls` excluded."""
    spec = node.args
    names = [a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
    return len([name for name in names if name not in {"self", "cls"}])


def code_lines(node: ast.AST) -> int:
    """Lines of a function without its docstring."""
    body = node.body
    if ast.get_docstring(node) is not None:
        body = body[1:]
    return (node.end_lineno - body[0].lineno + 1) if body else 0


def may_have_many(path, name) -> bool:
    """A verb has one argument for each of its options, a compiled kernel one for each array."""
    kernel = path.stem.endswith("kernels") or name.endswith("_kernel")
    return kernel or path.parent == PACKAGE / "cli"


@pytest.mark.parametrize("path", OWN_CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_readable(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{path.name} has {lines} lines; give an idea its own file"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_are_readable(path):
    for name, node, _ in definitions(path):
        if isinstance(node, ast.ClassDef):
            continue
        lines = code_lines(node)
        assert lines <= MAX_FUNCTION_LINES or name in LONG_FUNCTIONS, f"{name}: {lines} lines"
        count = arguments(node)
        allowed = count <= MAX_ARGUMENTS or name in MANY_ARGUMENTS
        assert allowed or may_have_many(path, name), (
            f"{name} takes {count} arguments; group what travels together in a small dataclass"
        )


def test_the_exceptions_are_still_needed():
    present = {
        name
        for path in sources()
        for name, node, _ in definitions(path)
        if not isinstance(node, ast.ClassDef)
        and (arguments(node) > MAX_ARGUMENTS or code_lines(node) > MAX_FUNCTION_LINES)
    }
    assert {*MANY_ARGUMENTS, *LONG_FUNCTIONS} <= present


def test_counting():
    tree = ast.parse('def f(self, a, /, b, *c, d=1, **e):\n    """Doc."""\n    x = 1\n    return x')
    assert arguments(tree.body[0]) == 3
    assert code_lines(tree.body[0]) == 2
