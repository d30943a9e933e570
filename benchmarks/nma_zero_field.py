"""N-methylacetamide in electric fields, with the dipole that each geometry has without the field.

A model that sees no field cannot predict the part of the dipole that the field induces: this takes
it off the labels to first order (polarizability alpha and field F are labels too) and prints how
large it is. In these data D = D0 - alpha F: their field has the sign of a potential's slope, as the
lengths of D0 for both signs show (those of one molecule at one temperature vary little).

    python benchmarks/nma_zero_field.py ../shared/data/nma_field OUT
    dreibein train … (OUT/nma_a.extxyz; targets dipole and polarizability) -o RUN
    python benchmarks/nma_zero_field.py ../shared/data/nma_field OUT RUN

With a run, its errors on nma_b: of D0, of the polarizability, of D without the field (what a blind
model has at best) and of D with the field, from D0 - alpha F of the model.
"""

import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

Array = np.ndarray[Any, Any]


def read(path: Path) -> dict[str, Any]:
    """Frames, dipoles [F, 3], polarizabilities [F, 3, 3] and fields [F, 3]."""
    frames = ase.io.read(path, index=":")
    return {
        "frames": frames,
        "dipole": np.array([a.calc.results["dipole"] for a in frames]),
        "alpha": np.array([np.reshape(a.info["polarizability"], (3, 3)) for a in frames]),
        "field": np.array([a.info["external_field"] for a in frames]),
    }


def scatter(values: Array) -> float:
    """Standard deviation of the components, pooled."""
    return float(np.sqrt(np.mean(np.var(values, axis=0))))


def write(data: dict[str, Any], path: Path) -> None:
    """Frames with D0 and alpha alone; prints what was taken off."""
    induced = np.einsum("fab,fb->fa", data["alpha"], data["field"])
    zero = data["dipole"] + induced
    for atoms, dipole, alpha in zip(data["frames"], zero, data["alpha"], strict=True):
        atoms.calc, atoms.info = None, {"REF_dipole": dipole, "REF_polarizability": alpha}
    ase.io.write(path, data["frames"])
    size = float(np.sqrt(np.mean(induced**2)))
    lengths = [np.linalg.norm(data["dipole"] + s * induced, axis=1).std() for s in (0, -1, 1)]
    print(
        f"{path.name}: {len(zero)} frames; rms of alpha F {size:.4f} e·Å, "
        f"{size / scatter(data['dipole']):.1%} of the scatter of D; standard deviation of |D| "
        "{:.4f}, of |D - alpha F| {:.4f}, of |D + alpha F| {:.4f} e·Å".format(*lengths)
    )


def score(run: Path, train: dict[str, Any], test: dict[str, Any]) -> None:
    """Print relative errors of a run on all test frames, and on those it cannot have seen."""
    from dreibein.models import load_model
    from dreibein.neighbors import attach_neighbors
    from dreibein.systems import from_ase, join

    model = load_model(run)
    found: dict[str, list[Array]] = {"dipole": [], "polarizability": []}
    for first in range(0, len(test["frames"]), 50):
        frames = [from_ase(a) for a in test["frames"][first : first + 50]]
        batch = join([attach_neighbors(f, model.cutoff) for f in frames])
        for name, value in model(batch, compute=tuple(found)).items():
            found[name].append(value.numpy())
    zero, alpha = (np.concatenate(found[name]) for name in ("dipole", "polarizability"))
    seen = {np.round(a.positions, 5).tobytes() for a in train["frames"]}
    fresh = np.array([np.round(a.positions, 5).tobytes() not in seen for a in test["frames"]])
    label_induced = np.einsum("fab,fb->fa", test["alpha"], test["field"])
    induced = np.einsum("fab,fb->fa", alpha, test["field"])
    rows = {
        "D0 (field taken off)": (zero, test["dipole"] + label_induced),
        "polarizability": (alpha, test["alpha"]),
        "D, blind to the field": (zero, test["dipole"]),
        "D from D0 - alpha F": (zero - induced, test["dipole"]),
    }
    for name, (prediction, label) in rows.items():
        errors = []
        for chosen in (np.ones(len(fresh), dtype=bool), fresh):
            error = (prediction - label)[chosen]
            rmse, mae = np.sqrt(np.mean(error**2)), np.abs(error).mean()
            share = rmse / scatter(label[chosen])
            errors.append(f"MAE {mae:.5f}, RMSE {rmse:.5f} = {share:.2%} of the scatter")
        print(f"{name:22} all {len(fresh)}: {errors[0]}; unseen {fresh.sum()}: {errors[1]}")


def main(source: Path, output: Path, run: Path | None) -> None:
    """Write the data, or score a run on them."""
    train, test = read(source / "nma_a.extxyz"), read(source / "nma_b.extxyz")
    if run is not None:
        score(run, train, test)
        return
    output.mkdir(parents=True, exist_ok=True)
    write(train, output / "nma_a.extxyz")
    write(test, output / "nma_b.extxyz")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if sys.argv[3:] else None)
