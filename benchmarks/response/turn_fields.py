"""Give the applied fields of a data set the sign of physics, and show why they need it.

A molecule of dipole mu in a field F feels the torque sum_i r_i x f_i = mu x F. Some codes state
fields with the opposite sign (E = E0 + mu · F). The factor s of the best fit of s mu x F to the
torque tells which: +1 or -1.

    python benchmarks/response/turn_fields.py nma_a.extxyz turned/nma_a.extxyz
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

FIELD, DIPOLE = "external_field", "dipole"


def torque_factor(frames: list[Atoms]) -> float:
    """Least-squares s in torque = s (mu x F) over molecules; NaN for periodic frames."""
    free = [a for a in frames if not a.pbc.any()]
    torque = np.array([np.cross(a.positions, a.get_forces()).sum(0) for a in free])
    turned = np.array([np.cross(a.get_dipole_moment(), a.info[FIELD]) for a in free])
    return float((torque * turned).sum() / (turned**2).sum()) if free else float("nan")


def main() -> None:
    """Print the factor and write the frames with fields turned where it is -1."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument(
        "--factor", type=float, help="Of periodic frames, whose torque says nothing."
    )
    options = parser.parse_args()
    frames = ase.io.read(options.source, ":")
    factor = torque_factor(frames) if options.factor is None else options.factor
    print(f"{options.source.name}: {len(frames)} frames, torque = {factor:.4f} (dipole x field)")
    if abs(abs(factor) - 1.0) > 0.05:
        raise SystemExit("the labels do not fit each other; no file written")
    for atoms in frames:
        atoms.info[FIELD] = np.sign(factor) * np.asarray(atoms.info[FIELD])
    options.target.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(options.target, frames)


if __name__ == "__main__":
    main()
