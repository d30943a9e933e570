"""What every verb shares: consoles and progress, rich on a terminal and plain elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

PLAIN_INTERVAL_S = 10.0


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yield `report(done, total, note)`: a live bar on a terminal, a line every 10 s elsewhere."""
    if sys.stderr.isatty():
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=err) as bar:
            task = bar.add_task(title, total=None, note="")
            yield lambda done, total, note: bar.update(
                task, completed=done, total=total or None, note=note
            )
        return
    last = time.monotonic()

    def report(done: int, total: int, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if 0 < total <= done or now - last >= PLAIN_INTERVAL_S:
            last = now
            of = f"/{total}" if total else ""  # 0: the total is not known
            err.print(f"{title}: {done}{of} {note}".rstrip())

    yield report
