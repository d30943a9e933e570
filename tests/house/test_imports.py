"""Imports point down only; rooms on one floor do not know each other; nothing imports `testing`."""

import ast
from pathlib import Path

import pytest

from house.tree import DOORS, FLOORS, PACKAGE, SIDE, parsed, sources

FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imported(tree: ast.Module, package: str, here: list[str]):
    """Yield (line, dotted name) of every import of `package`, wherever in the file it stands.

    Relative imports are resolved from `here` (the dotted parts of the module); imports by string
    (`import_module("dreibein.nn")`, f-strings included) count as well.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else []
            stem = [*base, *(node.module or "").split(".")] if node.module else base
            names = [".".join([*stem, alias.name]) for alias in node.names]
        elif isinstance(node, ast.Call):
            names = [_string(argument) for argument in node.args[:1] if _imports(node.func)]
        else:
            continue
        for name in names:
            if name == package or name.startswith(f"{package}."):
                yield node.lineno, name


def _imports(function: ast.expr) -> bool:
    name = getattr(function, "attr", getattr(function, "id", ""))
    return name in {"import_module", "__import__"}


def _string(node: ast.expr) -> str:
    """The literal beginning of a string or f-string."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.rstrip(".")
    return ""


def violations(package: Path) -> list[str]:
    """One line for each import that climbs or crosses the floors."""
    found = []
    for path in sources(package):
        inside = path.relative_to(package).with_suffix("").parts
        room = inside[0]
        if len(inside) == 1 and room in DOORS:
            continue
        if room not in FLOOR_OF and room not in SIDE:
            found.append(f"{path.name}: room '{room}' is not on the plan (tests/house/tree.py)")
            continue
        module = [package.name, *inside]
        for line, name in imported(parsed(path), package.name, module):
            parts = name.split(".")
            there = parts[1] if len(parts) > 1 else ""
            # `from dreibein import __version__` names no room
            if there == room or there not in {*FLOOR_OF, *SIDE} or room in SIDE:
                continue
            where = f"{'/'.join(inside)}.py:{line}: {room} imports {there}"
            if there in SIDE:
                found.append(f"{where}, which nothing in the package may import")
            elif FLOOR_OF[there] > FLOOR_OF[room]:
                found.append(f"{where}, which is on a higher floor")
            elif FLOOR_OF[there] == FLOOR_OF[room]:
                found.append(f"{where}, which is on the same floor")
    return found


def test_imports_point_down():
    found = violations(PACKAGE)
    assert not found, "\n" + "\n".join(found)


def test_every_room_of_the_plan_exists():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert rooms == {*FLOOR_OF, *SIDE}


@pytest.mark.parametrize(
    ("room", "line", "said"),
    [
        ("systems", "from pkg.nn import Potential", "higher floor"),
        ("systems", "from pkg.o3 import act", "same floor"),
        ("o3", "import pkg.systems.cells", "same floor"),
        ("nn", "def f():\n    from pkg.models import x", "higher floor"),
        ("nn", "if TYPE_CHECKING:\n    from pkg.models import x", "higher floor"),
        ("nn", "from ..train import losses", "higher floor"),
        ("nn", "from .. import train", "higher floor"),
        ("nn", "import importlib\nimportlib.import_module('pkg.cli')", "higher floor"),
        ("nn", "import importlib\nimportlib.import_module(f'pkg.cli.{x}')", "higher floor"),
        ("train", "from pkg.evaluate import ErrorMeter", "same floor"),
        ("cli", "from pkg.testing import laws", "nothing in the package"),
        ("attic", "x = 1", "not on the plan"),
    ],
)
def test_mutants_are_caught(tmp_path, room, line, said):
    package = tmp_path / "pkg"
    (package / room).mkdir(parents=True)
    (package / room / "thing.py").write_text(line + "\n")
    (found,) = violations(package)
    assert said in found


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("nn", "from pkg.systems import cells"),
        ("nn", "from pkg.nn.radial import Envelope"),
        ("nn", "from . import radial"),
        ("models", "from pkg import __version__"),
        ("testing", "from pkg.cli import main"),
        ("train", "import package_of_others.nn"),
    ],
)
def test_imports_that_are_allowed(tmp_path, room, line):
    package = tmp_path / "pkg"
    (package / room).mkdir(parents=True)
    (package / room / "thing.py").write_text(line + "\n")
    assert violations(package) == []
