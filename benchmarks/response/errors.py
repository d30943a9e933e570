"""Errors of responses on held-out frames, and derivatives by the field against differences.

    python benchmarks/response/errors.py MODEL turned/nma_b.extxyz --seen turned/nma_a.extxyz

Errors are root mean squares over all components, also as a share of the labels' standard
deviation (each component about its own mean). Dipoles of cells are compared with the nearest of
their values. Frames whose geometry is in the training file count
apart.
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms

from dreibein.models import load_model
from dreibein.neighbors import attach_neighbors
from dreibein.nn import Potential
from dreibein.systems import from_ase
from dreibein.systems.cells import nearest_dipole
from dreibein.systems.structures import join

NAMES = ("energy", "forces", "dipole", "polarizability")
STEP = 1e-3  # V/Å, and Å


def label(atoms: Atoms, name: str) -> np.ndarray:
    """A label of a frame, wherever the file keeps it."""
    results = atoms.calc.results if atoms.calc is not None else {}
    return np.asarray(results.get(name, atoms.info.get(name)))


def structure(atoms: Atoms, potential: Potential, field: np.ndarray | None = None):
    """The frame with its neighbors and its field."""
    field = label(atoms, "external_field") if field is None else field
    return attach_neighbors(from_ase(atoms, external_field=field), potential.cutoff)


def unfolded(wanted: np.ndarray, predicted: np.ndarray, frames: list[Atoms]) -> np.ndarray:
    """Dipoles of cells on the branch of the prediction."""
    cell = torch.tensor(np.array([a.cell.array for a in frames]))
    pbc = torch.tensor(np.array([a.pbc for a in frames]))
    return nearest_dipole(torch.tensor(wanted), torch.tensor(predicted), cell, pbc).numpy()


def errors(potential: Potential, frames: list[Atoms], molecules: int) -> None:
    """Print root mean square errors of every label."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    for start in range(0, len(frames), 64):
        part = frames[start : start + 64]
        values = potential(join([structure(a, potential) for a in part]), NAMES)
        for name in NAMES:
            found[name].append(values[name].numpy())
    for name in NAMES:
        predicted = np.concatenate(found[name])
        wanted = np.array([label(a, name) for a in frames]).reshape(predicted.shape)
        if name == "dipole":
            wanted = unfolded(wanted, predicted, frames)
        spread = np.sqrt(np.square(wanted - wanted.mean(0)).mean())
        error = np.sqrt(np.square(predicted - wanted).mean())
        mae = np.abs(predicted - wanted).mean()
        each = f", {error / molecules:.5f} per molecule" if molecules > 1 else ""
        print(
            f"{name:15s} rmse {error:.5f}{each}, mae {mae:.5f}, std of labels {spread:.5f}: "
            f"{100.0 * error / spread:.2f}%"
        )


def differences(potential: Potential, atoms: Atoms) -> None:
    """Print the largest deviations of derivatives from central differences, in float64."""
    double = potential.to(torch.float64)
    field = label(atoms, "external_field") + np.array([0.05, -0.1, 0.15])
    names = ("dipole", "polarizability", "born_charges", "forces", "energy")
    here = {k: v.numpy() for k, v in double(structure(atoms, double, field), names).items()}
    dipole, alpha, born = np.zeros(3), np.zeros((3, 3)), np.zeros((len(atoms), 3, 3))
    for axis in range(3):
        up, down = (
            double(structure(atoms, double, field + sign * STEP * np.eye(3)[axis]), names)
            for sign in (1.0, -1.0)
        )
        dipole[axis] = -float(up["energy"] - down["energy"]) / (2.0 * STEP)
        alpha[:, axis] = (up["dipole"] - down["dipole"])[0].numpy() / (2.0 * STEP)
        born[:, axis] = (up["forces"] - down["forces"]).numpy() / (2.0 * STEP)
    told = (
        ("dipole", "energy", dipole),
        ("polarizability", "dipole", alpha),
        ("born_charges", "forces", born),
    )
    for name, of, expected in told:
        worst = np.abs(here[name] - expected).max()
        print(f"{name} against differences of {of}: {worst:.1e}")
    print(f"sum of Born charges over all atoms: {np.abs(here['born_charges'].sum(0)).max():.1e} e")


def main() -> None:
    """Read the model and the frames, print everything."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--seen", type=Path, help="Frames of the training.")
    parser.add_argument("--molecules", type=int, default=1, help="In a frame.")
    options = parser.parse_args()
    potential = load_model(options.model)
    frames = ase.io.read(options.frames, ":")
    if options.seen is not None:
        known = {a.positions.round(5).tobytes() for a in ase.io.read(options.seen, ":")}
        fresh = [a for a in frames if a.positions.round(5).tobytes() not in known]
        print(f"{len(fresh)} of {len(frames)} frames have a geometry that no training frame has:")
        errors(potential, fresh, options.molecules)
        print("all frames:")
    errors(potential, frames, options.molecules)
    differences(potential, frames[0])


if __name__ == "__main__":
    main()
