"""What a model file says of itself."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols

from dreibein.models import load_model, model_file, read_header
from dreibein.nn import FrozenPotential, Potential, backends_of
from dreibein.nn.frozen import sums_on


def model_facts(path: str | Path) -> dict[str, Any]:
    """Everything known of a model file, JSON-able: header, card, weights counted and hashed.

    Args:
        path: A model file, or the folder of a run.

    Raises:
        OSError: No such file.
        ValueError: No whole model file of a known format.
    """
    file = model_file(path)
    header, potential = read_header(file), load_model(file)
    config = dict(header["config"])
    config = {k: v for k, v in config.items() if k not in ("energy", "targets")}  # said below
    references, there = potential.reference_energies, backends_of(potential)
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "format": header["format"],
        "architecture": config.pop("architecture", None),
        "hyperparameters": config,
        "parameters": sum(p.numel() for p in potential.parameters()),
        "elements": [chemical_symbols[z] for z in potential.elements],
        "cutoff": potential.cutoff,
        "precision": header["dtype"],
        "units": header["units"],
        "energy": potential.has_energy,
        "targets": target_facts(potential),
        "scale": float(potential.scale),
        "shift": float(potential.shift),
        "reference_energies": {chemical_symbols[z]: e for z, e in references.items()},
        "terms": [term.describe() for term in potential.terms],
        "backends": {name: FrozenPotential(potential, name).describe() for name in there},
        "simulates with": FrozenPotential(potential).backend,
        "on a GPU": sums_on(potential, torch.device("cuda")),
        "versions": header["versions"],
        "card": header["card"],
    }


def target_facts(potential: Potential) -> dict[str, str]:
    """What a model predicts beside the energy, in words by name."""
    found = {}
    for name, head in potential.targets.items():
        target = head.target
        kind = f"irreps {target.irreps}" if target.irreps else f"rank {target.rank}"
        signs = [s for s in ("symmetric", "antisymmetric", "traceless") if getattr(target, s)]
        unit = target.unit or "no unit"
        found[name] = ", ".join([kind, *signs, f"one per {target.scope}", unit])
        if name == "dipole" or head.with_charges:
            part = "charges and dipoles of atoms" if head.with_charges else "dipoles of atoms"
            found[name] += f", from {part}"
    return found
