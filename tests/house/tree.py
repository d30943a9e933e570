"""The source tree as data: paths, parsed files, the plan of the house."""

import ast
import subprocess
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "dreibein"

# ground floor first; rooms on one floor may not import each other
FLOORS = (
    ("o3", "systems"),
    ("frames", "ops", "neighbors"),
    ("nn",),
    ("models", "data"),
    ("train", "evaluate", "simulate", "label"),
    ("recipes",),
    ("cli",),
)
SIDE = ("testing",)  # imports every room; no room imports it
DOORS = ("__init__", "__main__")  # the package's own two files


def sources(package: Path = PACKAGE) -> list[Path]:
    """Every Python file of a package, sorted."""
    return sorted(package.rglob("*.py"))


def module_name(path: Path, package: Path = PACKAGE) -> str:
    """Dotted name of a file: `dreibein.nn.radial`."""
    parts = [package.name, *path.relative_to(package).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@lru_cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def definitions(path: Path):
    """Yield (dotted name, node, owner) of every function and class, nested functions excepted."""

    def walk(body, prefix, owner):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{prefix}{node.name}", node, owner
            elif isinstance(node, ast.ClassDef):
                yield f"{prefix}{node.name}", node, owner
                yield from walk(node.body, f"{prefix}{node.name}.", node)
            elif isinstance(node, ast.If | ast.Try):
                yield from walk(node.body, prefix, owner)

    yield from walk(parsed(path).body, "", None)


def is_public(name: str) -> bool:
    """Whether no part of a dotted name begins with an underscore (dunder methods do)."""
    return not any(part.startswith("_") for part in name.split("."))


def tracked_files() -> list[Path]:
    """Every file that git tracks, or, without git, every file outside hidden and built folders."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode == 0:
        files = [ROOT / name for name in found.stdout.split("\0") if name]
    else:
        skipped = {"runs", "build", "dist"}
        files = [
            path
            for path in ROOT.rglob("*")
            if not any(
                part.startswith(".") or part in skipped or part.endswith(".egg-info")
                for part in path.relative_to(ROOT).parts[:-1]
            )
        ]
    return sorted(path for path in files if path.is_file())
