"""QM9's dipole norm and isotropic polarizability by the size of the training set.

    python benchmarks/qm9/learning_curve.py OUT [FIGURE.svg]

Trains moments.yaml on each size of `SIZES` into OUT/qm9_SIZE where that is not there yet, and
prints errors on the same 2,000 test molecules; smaller training sets are parts of larger ones.
"""

import json
import subprocess
import sys
from pathlib import Path

from dreibein.recipes.study.figures import curves
from dreibein.systems.units import conversion_factor

SIZES = {1000: 48, 3000: 40, 10000: 20}  # molecules and epochs
UNITS = {"mu": ("e*Å", "D"), "alpha": ("Å^3", "Bohr^3")}


def train(size: int, epochs: int, folder: Path) -> None:
    """One run, by the command that anybody would give."""
    config = Path(__file__).with_name("moments.yaml")
    options = [f"data.train={size}", f"training.epochs={epochs}"]
    command = ["dreibein", "train", str(config), "-o", str(folder)]
    subprocess.run([*command, *(word for o in options for word in ("-s", o))], check=True)


def errors(folder: Path, split: str) -> dict[str, tuple[float, float, float]]:
    """MAE and RMSE in the units of QM9's papers, and RMSE over the scatter of the labels."""
    found = json.loads((folder / f"evaluation{split}.json").read_text())["targets"]
    rows = {}
    for target in found:
        factor = conversion_factor(*UNITS[target["name"]])
        rows[target["name"]] = (
            factor * target["mae"],
            factor * target["rmse"],
            target["relative"],
        )
    return rows


def main(output: Path, figure: Path | None) -> None:
    """Train what is missing, print the table, draw."""
    lines: dict[str, dict[str, list[tuple[float, tuple[float, float, float]]]]] = {}
    for size, epochs in SIZES.items():
        folder = output / f"qm9_{size}"
        if not (folder / "evaluation.json").exists():
            train(size, epochs, folder)
        for split, name in (("_validation", "validation"), ("", "test")):
            for target, (mae, rmse, share) in errors(folder, split).items():
                unit = UNITS[target][1]
                print(
                    f"{size:6d} {name:10s} {target:5s} MAE {mae:.4f} {unit}, RMSE {rmse:.4f} "
                    f"{unit}, {share:.1%} of the scatter"
                )
                title = f"{target}, MAE / {unit}"
                line = lines.setdefault(title, {}).setdefault(name, [])
                line.append((float(size), (mae, mae, mae)))
    if figure is not None:
        figure.write_text(curves(lines, "training molecules"), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else None)
