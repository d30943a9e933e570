"""The public surface: names that rooms export, and verbs and options of the command line.

    python tests/house/surface.py            print them
    python tests/house/surface.py --write    freeze them in surface.txt

A room's names are the `__all__` of its `__init__.py`, read without importing it.
"""

import ast
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from house.tree import PACKAGE, parsed

FROZEN = Path(__file__).with_name("surface.txt")
HEADER = """\
# Names of each room, then verbs and options; written by `make surface`, read by test_surface.py.
# What leaves this file breaks somebody's program: say so in CHANGELOG.md.
"""


def exported(init: Path) -> list[str] | None:
    """The `__all__` of a file; None when it has none."""
    for node in parsed(init).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            return list(ast.literal_eval(node.value))
    return None


def public_names(package: Path = PACKAGE) -> list[str]:
    """Every public name as `room.name`, sorted."""
    names = []
    for init in sorted(package.glob("*/__init__.py")):
        names += [f"{init.parent.name}.{name}" for name in exported(init) or []]
    return sorted(names)


def command_line() -> list[str]:
    """Every verb and each of its options and arguments: `dreibein md --ps`, `dreibein md MODEL`."""
    import typer

    from dreibein.cli.main import app

    lines = []
    for verb, command in typer.main.get_command(app).commands.items():
        lines.append(f"dreibein {verb}")
        for parameter in command.params:
            is_option = parameter.param_type_name == "option"
            names = [*parameter.opts, *parameter.secondary_opts]
            lines += (
                [f"dreibein {verb} {n}" for n in names if n != "--help"]
                if is_option
                else [f"dreibein {verb} {parameter.name.upper()}"]
            )
    return sorted(lines)


def surface() -> list[str]:
    """Everything that is frozen, one item a line."""
    return [*public_names(), *command_line()]


def frozen_names() -> list[str]:
    """The names that surface.txt lists."""
    lines = FROZEN.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def main() -> None:
    """Print the surface, or write it."""
    text = "\n".join(surface())
    if "--write" in sys.argv[1:]:
        FROZEN.write_text(f"{HEADER}{text}\n", encoding="utf-8")
        print(f"{len(surface())} names in {FROZEN.name}")
    else:
        print(text)


if __name__ == "__main__":
    main()
