"""N-methylacetamide in electric fields, with the dipole that each geometry has without the field.

A model that sees no field cannot predict the part of the dipole that the field induces: this takes
it off the labels to first order (polarizability alpha and field F are labels too) and prints how
large it is. In these data D = D0 - alpha F: their field has the sign of a potential's slope, as the
lengths of D0 for both signs show (those of one molecule at one temperature vary little).

    python benchmarks/nma_zero_field.py ../shared/data/nma_field OUT
"""

import sys
from pathlib import Path

import ase.io
import numpy as np


def main(source: Path, output: Path) -> None:
    """Write OUT/nma_a.extxyz and OUT/nma_b.extxyz with dipole and polarizability alone."""
    output.mkdir(parents=True, exist_ok=True)
    for name in ("nma_a.extxyz", "nma_b.extxyz"):
        frames = ase.io.read(source / name, index=":")
        dipoles, induced = [], []
        for atoms in frames:
            dipole = np.array(atoms.calc.results["dipole"])
            alpha = np.array(atoms.info.pop("polarizability")).reshape(3, 3)
            field = np.array(atoms.info.pop("external_field"))
            dipoles.append(dipole)
            induced.append(alpha @ field)
            atoms.calc = None
            atoms.info["REF_dipole"] = dipole + alpha @ field
            atoms.info["REF_polarizability"] = alpha
        ase.io.write(output / name, frames)
        scatter = np.std(dipoles, axis=0)
        size = np.sqrt(np.mean(np.square(induced)))
        lengths = {
            "D": np.std(np.linalg.norm(dipoles, axis=1)),
            "D - alpha F": np.std(np.linalg.norm(np.subtract(dipoles, induced), axis=1)),
            "D + alpha F": np.std(np.linalg.norm(np.add(dipoles, induced), axis=1)),
        }
        print(
            f"{name}: {len(frames)} frames; rms of alpha F {size:.4f} e·Å, "
            f"{size / np.sqrt(np.mean(scatter**2)):.1%} of the scatter of the dipole; standard "
            f"deviation of |D| {', '.join(f'{k}: {v:.4f}' for k, v in lengths.items())} e·Å"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
