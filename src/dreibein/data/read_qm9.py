"""QM9 (130,831 molecules, B3LYP/6-31G(2df,p)) from the PyPI package qm9pack."""

import csv
import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from operator import itemgetter
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from dreibein.data.raw import RawColumn, RawSource

LEVEL = "B3LYP/6-31G(2df,p)"

# Target -> (column of qm9pack, unit there).
TARGETS: dict[str, tuple[str, str]] = {
    "mu": ("Dipole_debye", "D"),
    "alpha": ("Polarizability_bohr3", "Bohr^3"),
    "homo": ("HOMO_au", "Ha"),
    "lumo": ("LUMO_au", "Ha"),
    "gap": ("HOMO_LUMO_gap_au", "Ha"),
    "r2": ("R2_bohr2", "Bohr^2"),
    "zpve": ("ZPVE_au", "Ha"),
    "u0": ("InternalEnergy_0K_au", "Ha"),
    "u298": ("InternalEnergy_298K_au", "Ha"),
    "h298": ("Enthalphy_298K_au", "Ha"),
    "g298": ("GibbsFreeEnergy_298K_au", "Ha"),
    "cv": ("Heatcapacity_Cv_cal_mol_K", "cal/mol/K"),
}
_TABLES = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")
_ROWS = 130_831


def read_qm9(
    limit: int | None = None, progress: Callable[[int, int, str], None] | None = None
) -> RawSource:
    """All molecules of QM9, or the first `limit`; `energy` is u0.

    The package is opened as files: importing it needs setuptools' long gone pkg_resources.

    Raises:
        ImportError: qm9pack is not installed.
    """
    names = ["XYZ_Ang", "Elements", "Mulliken_pop", *(source for source, _ in TARGETS.values())]
    columns: dict[str, list[str]] = {name: [] for name in names}
    for done, row in enumerate(_rows(_folder(), names, limit), start=1):
        for values, text in zip(columns.values(), row):
            values.append(text)
        if progress is not None and done % 5000 == 0:
            progress(done, limit or _ROWS, "molecules")
    return _source(columns, "qm9" if limit is None else f"qm9:{limit}")


def _folder() -> Path:
    spec = importlib.util.find_spec("qm9pack")
    if spec is None or spec.origin is None:
        raise ImportError('QM9 needs the package qm9pack: pip install "dreibein[qm9]"')
    return Path(spec.origin).parent / "data"


def _rows(folder: Path, names: Sequence[str], limit: int | None) -> Iterator[Sequence[str]]:
    """The named cells of each molecule."""
    count = 0
    for table in _TABLES:
        with open(folder / table, newline="") as file:
            reader = csv.reader(file)
            header = next(reader)
            cells = itemgetter(*(header.index(name) for name in names))
            for row in reader:
                if limit is not None and count >= limit:
                    return
                yield cells(row)
                count += 1


def _source(columns: dict[str, list[str]], name: str) -> RawSource:
    symbols = [text.strip("[]").replace("'", "").split(",") for text in columns["Elements"]]
    sizes = np.array([len(s) for s in symbols])
    frames = np.arange(len(sizes))
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    raw: dict[tuple[str, str], RawColumn] = {}
    for label, (source, _) in TARGETS.items():
        values = np.array([float(text) for text in columns[source]])
        raw["columns", label] = RawColumn("columns", label, frames, values)
    charges = np.split(_numbers(columns["Mulliken_pop"]), offsets[1:-1])
    raw["columns", "mulliken_charges"] = RawColumn("columns", "mulliken_charges", frames, charges)
    digest = hashlib.sha256(f"qm9pack {_version()} {len(frames)}".encode()).hexdigest()
    z = np.array([atomic_numbers[s] for molecule in symbols for s in molecule], dtype=np.uint8)
    return RawSource(
        name=name,
        kind=f"qm9pack {_version()}",
        sha256=digest,
        offsets=offsets,
        z=z,
        pos=_numbers(columns["XYZ_Ang"]).reshape(-1, 3),
        cell=np.zeros((len(frames), 3, 3)),
        pbc=np.zeros((len(frames), 3), dtype=bool),
        config=[""] * len(frames),
        columns=raw,
        first_keys=[key for _, key in raw],
        written_units={"length": "Å", **{label: unit for label, (_, unit) in TARGETS.items()}},
        aliases={
            "energy": "u0",
            "charges": "mulliken_charges",
            **{label: label for label in TARGETS if label != "u0"},
        },
        level_of_theory=LEVEL,
    )


def _numbers(texts: list[str]) -> np.ndarray:
    """All numbers of list-valued cells end to end; they hold '0.', which JSON does not allow."""
    joined = ",".join(texts).replace("[", "").replace("]", "")
    return np.array(joined.split(","), dtype=np.float64)


def _version() -> str:
    try:
        return version("qm9pack")
    except PackageNotFoundError:
        return "unknown"
