"""Compiled code that is kept is marked with the sources that it was made of."""

from dreibein.models.tensornet import heads, passes
from dreibein.ops import sources
from dreibein.ops.sources import sources_number


def test_a_change_of_any_kernel_changes_the_number(tmp_path, monkeypatch):
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "sources.py"))
    numbers = set()
    for text in ("x = 1\n", "x = 2\n", "x = 3\n"):
        (tmp_path / "two.py").write_text(text)
        sources_number.cache_clear()
        numbers.add(sources_number())
    sources_number.cache_clear()
    assert len(numbers) == 3
    assert all(0 <= number < 2**60 for number in numbers)


def test_the_kept_function_carries_it():
    kept = passes.all_passes.py_func.__closure__
    number = sources_number(heads.__file__, passes.__file__)
    assert number in [cell.cell_contents for cell in kept]
