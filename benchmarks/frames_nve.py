"""Energy conservation of potentials on soft frames: label, train, 5 ps of NVE, for two molecules.

    python benchmarks/frames_nve.py -o runs/nve                    minutes on one core
    python benchmarks/frames_nve.py -o runs/hard --frames gram_schmidt
    python benchmarks/frames_nve.py -o runs/pyg --preset localized

Water and methane, whose oxygen and carbon have no frame by symmetry: 300 frames at GFN2-xTB and 500
K, a small network, then NVE in float32 from the relaxed molecule with velocities of 600 K, half of
which stays. The drift is the slope of the total energy, fitted to all of its log; the ripple is the
standard deviation of the total energy about it. Stages that the folder holds are not done again.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from dreibein.data import DataConfig, read_structure
from dreibein.evaluate.records import Evaluation
from dreibein.label import LabelConfig, generate_labels
from dreibein.models import load_model
from dreibein.models.storage import MODEL_NAME
from dreibein.recipes import RunConfig, train_run
from dreibein.recipes.presets import preset
from dreibein.simulate import DynamicsConfig, DynamicsResult, read_thermo, run_dynamics

MOLECULES = {"water": "O", "methane": "C"}
ALLOWED = 0.1  # meV/atom/ps


def labels(smiles: str, folder: Path) -> Path:
    """Frames with energies and forces."""
    path = folder / "labels.extxyz"
    config = LabelConfig(structure=smiles, frames=300, trajectories=10, temperature_k=500.0)
    generate_labels(config, path, workers=1)
    return path


def training(frames: Path, name: str, kind: str) -> RunConfig:
    """A preset with a shorter range and schedule."""
    data = DataConfig(
        sources=[str(frames)], labels=["energy", "forces"], validation=30, test=30, split_seed=0
    )
    config = preset(name, data)
    model = config.model.model_copy(update={"cutoff": 4.0, "frames": kind})
    schedule = config.training.model_copy(update={"epochs": 60, "ema_decay": 0.99})
    return config.model_copy(update={"model": model, "training": schedule})


def simulate(smiles: str, run: Path, timestep: float) -> DynamicsResult:
    """5 ps of NVE; a finished run is read, one that was stopped goes on."""
    folder = run / "md"
    if (folder / "dynamics.json").is_file():
        return DynamicsResult.model_validate_json((folder / "dynamics.json").read_text())
    config = DynamicsConfig(
        duration_ps=5.0, timestep_fs=timestep, temperature_k=600.0, relax_first=True
    )
    begun = (folder / "restart.npz").is_file()
    atoms = None if begun else read_structure(smiles)
    return run_dynamics(atoms, load_model(run), config, folder, restart=begun)


def ripple(folder: Path, num_atoms: int) -> float:
    """Standard deviation of the total energy about its drift, in meV/atom."""
    thermo = read_thermo(folder / "thermo.csv")
    times, energy = thermo["time_fs"], thermo["total_ev"]
    rest = energy - np.polyval(np.polyfit(times, energy, 1), times)
    return 1e3 * float(rest.std()) / num_atoms


def main() -> None:
    """Run both molecules and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--preset", default="locaformer", choices=["locaformer", "localized"])
    parser.add_argument("--frames", default="soft", choices=["soft", "gram_schmidt", "polar"])
    parser.add_argument("--timestep", type=float, default=0.5, help="fs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{given.preset}, {given.frames} frames, time step {given.timestep:g} fs")
    print("molecule   forces MAE    drift                      ripple      mean T   CPU time")
    for name, smiles in MOLECULES.items():
        start, folder = time.process_time(), given.output / name
        folder.mkdir(parents=True, exist_ok=True)
        frames, run = labels(smiles, folder), folder / "training"
        if not (run / MODEL_NAME).is_file():
            train_run(training(frames, given.preset, given.frames), folder=run)
        error = Evaluation.load(run / "evaluation.json").metrics["forces_mae_mev_per_a"]
        found = simulate(smiles, run, given.timestep)
        drift = f"{found.drift_mev_per_atom_ps:8.4f} ± {found.drift_error_mev_per_atom_ps:.4f}"
        print(
            f"{name:9s} {error:6.2f} meV/Å {drift} meV/atom/ps "
            f"{ripple(run / 'md', found.num_atoms):6.3f} meV/atom "
            f"{found.temperature_mean_k:5.0f} K "
            f"{time.process_time() - start:7.0f} s",
            flush=True,
        )
        if given.frames == "soft" and abs(found.drift_mev_per_atom_ps or 0.0) > ALLOWED:
            raise SystemExit(f"{name} drifts by more than {ALLOWED} meV/atom/ps")


if __name__ == "__main__":
    main()
