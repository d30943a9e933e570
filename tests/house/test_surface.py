"""The public surface changes on purpose only."""

import importlib
import inspect

from house.surface import command_line, exported, frozen_names, public_names, surface
from house.tree import PACKAGE, is_public

ADVICE = (
    "if that is meant, run `make surface`, commit tests/house/surface.txt and tell CHANGELOG.md"
)


def test_the_surface_is_the_frozen_one():
    now, then = set(surface()), set(frozen_names())
    changes = [f"+ {name}" for name in sorted(now - then)]
    changes += [f"- {name}" for name in sorted(then - now)]
    assert not changes, f"public names changed; {ADVICE}:\n" + "\n".join(changes)


def test_the_frozen_list_is_sorted_and_without_repeats():
    names = frozen_names()
    split = next(k for k, name in enumerate(names) if name.startswith("dreibein "))
    assert names == sorted(set(names[:split])) + sorted(set(names[split:]))


def test_the_command_line_is_read():
    """Mutant of the reader: were it blind, flags could vanish unseen."""
    assert {"dreibein train --preset", "dreibein evaluate MODEL"} <= set(command_line())


def test_exported_names_exist_and_are_public():
    for init in sorted(PACKAGE.glob("*/__init__.py")):
        names = exported(init) or []
        room = importlib.import_module(f"dreibein.{init.parent.name}")
        assert len(names) == len(set(names)), f"{room.__name__}.__all__ repeats a name"
        assert all(is_public(name) for name in names)
        missing = [name for name in names if not hasattr(room, name)]
        assert not missing, f"{room.__name__}.__all__ names {missing}, which do not exist"


def test_what_is_exported_is_the_houses_own():
    """A room exports what it defines, never a name of another room or package."""
    for name in public_names():
        room, item = name.split(".")
        value = getattr(importlib.import_module(f"dreibein.{room}"), item)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__module__.startswith(f"dreibein.{room}"), f"{name}: {value.__module__}"
