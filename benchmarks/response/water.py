"""What `water_field` is, shown by its labels, and its frames with the dipole that physics means.

    python benchmarks/response/water.py ../shared/data/water_field water

Forces say which way the field acts: with f = Z F, oxygen must have the negative Born charge. The
dipole must point from oxygen to hydrogen, D = q sum (h1 + h2 - 2 o) with q > 0, up to e times cell
vectors. Where q is negative the dipoles are turned around.
"""

import argparse
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

FILES = ("water_train.extxyz", "water_valid.extxyz")
CANDIDATES = np.linspace(-1.5, 1.5, 601)  # e


def bonds(atoms: Atoms) -> np.ndarray[Any, Any]:
    """Sum of h1 + h2 - 2 o over molecules [3] in Å; atoms come as O, H, H."""
    lengths = atoms.cell.lengths()
    vectors = [atoms.positions[k::3] - atoms.positions[::3] for k in (1, 2)]
    return sum((v - lengths * np.round(v / lengths)).sum(0) for v in vectors)


def rms(values: np.ndarray[Any, Any]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def bond_charge(frames: list[Atoms]) -> tuple[float, float]:
    """Charge q of the best fit of q times the bonds to folded dipoles, and its rms in e·Å."""
    period = frames[0].cell.lengths()
    places = np.array([bonds(a) for a in frames])
    dipoles = np.array([a.get_dipole_moment() for a in frames])
    found = []
    for charge in CANDIDATES:
        rest = dipoles - charge * places
        found.append((rms((rest - period * np.round(rest / period))[:, 1:]), charge))
    best = min(found)
    return best[1], best[0]


def layers(frames: list[Atoms]) -> None:
    """Print that no atom moves along x, and that the cell is the same half twice."""
    x = np.array([a.positions[:, 0] for a in frames])
    print(
        f"x of all atoms in all frames: {np.unique(x.round(4))}; it never changes: {x.std(0).max()}"
    )
    period, worst = frames[0].cell.lengths(), 0.0
    for atoms in frames:
        half = atoms.positions[atoms.positions[:, 0] < 0.45 * period[0]] + [period[0] / 2, 0, 0]
        rest = half[:, None] - atoms.positions[None]
        rest -= period * np.round(rest / period)
        worst = max(worst, float(np.linalg.norm(rest, axis=2).min(1).max()))
    print(f"moved by half the cell along x, the atoms lie on others within {worst:.4f} Å")


def born_charges(frames: list[Atoms]) -> tuple[float, float]:
    """Least-squares Z of O and H in f_x = Z F_x, with the field as it is in the file."""
    field = np.array([a.info["external_field"][0] for a in frames])
    forces = np.array([a.get_forces()[:, 0] for a in frames])
    kinds = (forces[:, ::3], np.concatenate([forces[:, 1::3], forces[:, 2::3]], axis=1))
    return tuple(float(field @ f.mean(1) / (field @ field)) for f in kinds)  # type: ignore


def response_along_the_field(frames: list[Atoms], sign: float) -> tuple[float, float]:
    """Slope of the dipole along x by the field, and the mean of the label that should be it."""
    field = np.array([a.info["external_field"][0] for a in frames])
    dipole = sign * np.array([a.get_dipole_moment()[0] for a in frames])
    alpha = np.array([np.reshape(a.info["polarizability"], (3, 3))[0, 0] for a in frames])
    return float(field @ dipole / (field @ field)), float(alpha.mean())


def write(frames: list[Atoms], sign: float, path: Path) -> None:
    """The frames with dipoles times the sign."""
    for atoms in frames:
        results = dict(atoms.calc.results)
        results["dipole"] = sign * np.asarray(results["dipole"])
        atoms.calc = SinglePointCalculator(atoms, **results)
    ase.io.write(path, frames)


def main() -> None:
    """Print what the data are and write them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    read = {name: ase.io.read(options.source / name, ":") for name in FILES}
    frames = [a for part in read.values() for a in part]
    layers(frames)
    oxygen, hydrogen = born_charges(frames)
    print(f"f_x = Z F_x fits Z = {oxygen:.3f} e for O and {hydrogen:.3f} e for H")
    charge, rest = bond_charge(frames)
    print(f"dipoles along y and z are {charge:.3f} e · sum (h1 + h2 - 2 o), rms {rest:.3f} e·Å")
    if abs(oxygen) < 0.1 or np.sign(hydrogen) < 0:
        raise SystemExit(
            "the field does not act on oxygen as on a negative charge; nothing written"
        )
    sign = float(np.sign(charge))
    slope, alpha = response_along_the_field(frames, sign)
    print(
        f"dipoles are multiplied by {sign:.0f}; then along the field D = {slope:.3f} F, and the "
        f"polarizability's label xx is {alpha:.3f} e·Å²/V in the mean"
    )
    diagonal = np.array([np.diag(np.reshape(a.info["polarizability"], (3, 3))) for a in frames])
    print(f"means of polarizability xx, yy, zz: {diagonal.mean(0).round(3)} e·Å²/V")
    options.target.mkdir(parents=True, exist_ok=True)
    for name, part in read.items():
        write(part, sign, options.target / name)


if __name__ == "__main__":
    main()
