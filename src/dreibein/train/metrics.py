"""metrics.csv: one row an epoch, whole rows only, continued on resuming."""

import csv
from collections.abc import Mapping
from pathlib import Path

from dreibein.systems.files import atomic_path


class MetricsFile:
    """Appends one row an epoch and flushes it.

    Args:
        path: The file.
        last_epoch: Rows of later epochs are dropped: a run that was killed after writing its row
            and before its checkpoint does that epoch again.
    """

    def __init__(self, path: Path, last_epoch: int) -> None:
        self.path = path
        rows = read_metrics(path) if path.exists() else []
        self.columns = list(rows[0]) if rows else []
        kept = [row for row in rows if int(row["epoch"]) <= last_epoch]
        if path.exists():
            self._rewrite(kept)

    def append(self, row: Mapping[str, float | None]) -> None:
        """Add the row of one epoch; a column seen for the first time is added to the file."""
        new = [name for name in row if name not in self.columns]
        if new:
            old = read_metrics(self.path) if self.path.exists() else []
            self.columns += new
            self._rewrite(old)
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            values = (row.get(name) for name in self.columns)
            csv.writer(file).writerow(["" if v is None else repr(v) for v in values])

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with (
            atomic_path(self.path) as side,
            open(side, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics file; a last line that was cut off is left out."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file.readlines()))
    if not rows:
        return []
    header = rows[0]
    return [dict(zip(header, row)) for row in rows[1:] if len(row) == len(header)]
