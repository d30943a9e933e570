"""Energies and forces of torchmd-net for checkpoints with weights by rule, for the import's tests.

    PYTHON_OF_TORCHMDNET benchmarks/peers/record_torchmdnet.py

Writes tests/models/data/torchmdnet.json. Every number is of the plain path, in float64; the Warp
kernels (the default) are recorded beside it, as the largest difference: their sum of squares of
the parts takes 1/3 in float32.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from torchmdnet import __version__
from torchmdnet.models import model as torchmdnet_model
from torchmdnet.models import tensornet

from frames import CELLS, LIQUID, MOLECULE, SMALL

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "models"))
from foreign_files import write_checkpoint  # noqa: E402

SETTINGS = {
    "model": "tensornet",
    "embedding_dimension": 8,
    "num_layers": 2,
    "num_rbf": 5,
    "rbf_type": "expnorm",
    "trainable_rbf": False,
    "activation": "silu",
    "cutoff_lower": 0.0,
    "cutoff_upper": 4.5,
    "max_z": 10,
    "max_num_neighbors": 64,
    "equivariance_invariance_group": "O(3)",
    "static_shapes": False,
    "precision": 64,
    "derivative": True,
    "output_model": "Scalar",
    "reduce_op": "add",
    "prior_model": None,
    "atom_filter": -1,
    "seed": 1,
    "lr": 1e-3,
    "dataset": "Custom",
}
ATOMREF = [[0.1 * z * (z in (1, 6, 7, 8))] for z in range(10)]
MODELS: dict[str, dict] = {
    "plain": {},
    "chiral, gaussian": {
        "rbf_type": "gauss",
        "equivariance_invariance_group": "SO(3)",
        "num_layers": 1,
    },
    "trained radial functions, reference energies, scale": {
        "trainable_rbf": True,
        "prior_model": [{"Atomref": {"max_z": 10}}],
        "num_layers": 1,
    },
    "before version 3": {"check_errors": True, "derivative": False},
}
CASES: dict[str, dict] = {
    "molecule": MOLECULE,
    "charged": MOLECULE | {"charge": 1.0},
    "batch": {"parts": [MOLECULE, SMALL]},
    **{name: LIQUID | {"cell": cell} for name, cell in CELLS.items()},
}


def record_of(changes: dict) -> dict:
    """Hyperparameters, shapes of tensors by rule, and values of the others."""
    settings = SETTINGS | changes
    arguments = {k: v for k, v in settings.items() if k != "check_errors"}
    state = torchmdnet_model.create_model(dict(arguments)).state_dict()
    values = {"mean": 0.0, "std": 1.0}
    if settings["prior_model"]:
        values |= {"prior_model.0.atomref.weight": ATOMREF, "mean": 0.0, "std": 1.75}
        values["prior_model.0.initial_atomref"] = ATOMREF
    place = "representation_model.distance_expansion."
    radial = {name: t.double() for name, t in state.items() if name.startswith(place)}
    if settings["trainable_rbf"]:
        radial[f"{place}means"] = radial[f"{place}means"] + 0.02 * torch.arange(5).double().sin()
        radial[f"{place}betas"] = radial[f"{place}betas"] * torch.linspace(0.8, 1.3, 5).double()
    values |= {name: tensor.tolist() for name, tensor in radial.items()}
    values["representation_model.distance.box"] = torch.zeros(3, 3).tolist()
    shapes = {name: list(tensor.shape) for name, tensor in state.items() if name not in values}
    return {"hyper_parameters": settings, "shapes": shapes, "values": values}


def arguments_of(case: dict) -> dict:
    parts = case.get("parts", [case])
    double = {"dtype": torch.float64}
    found = {
        "z": torch.cat([torch.tensor(part["z"]) for part in parts]),
        "pos": torch.cat([torch.tensor(part["pos"], **double) for part in parts]),
        "batch": torch.repeat_interleave(
            torch.arange(len(parts)), torch.tensor([len(part["z"]) for part in parts])
        ),
        "q": torch.tensor([part.get("charge", 0.0) for part in parts], **double),
    }
    if "cell" in case:
        found["box"] = torch.tensor(case["cell"], **double)
    return found


SWITCHED = ("compose_tensor", "decompose_tensor", "tensor_matmul_o3", "tensor_matmul_so3")
KERNELS = {name: getattr(tensornet, name) for name in SWITCHED}


def evaluate(path: Path, case: dict, *, warp: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies and forces with the Warp kernels or without; there is no switch for users."""
    tensornet.OPT = warp
    for name, kernel in KERNELS.items():
        setattr(tensornet, name, kernel if warp else getattr(tensornet, f"_{name}"))
    model = torchmdnet_model.load_model(str(path), derivative=True).eval()
    energy, forces = model(**arguments_of(case))
    return energy.detach().flatten(), forces.detach()


def main() -> None:
    """Record every model at every structure."""
    assert tensornet.OPT, "the Warp kernels are off in this installation"
    records = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, changes in MODELS.items():
            record = record_of(changes)
            path = write_checkpoint(record, Path(folder) / "model.ckpt")
            record["results"], worst = {}, 0.0
            for case, structure in CASES.items():
                energy, forces = evaluate(path, structure, warp=False)
                other = evaluate(path, structure, warp=True)[1]
                worst = max(worst, float((other - forces).abs().max() / forces.abs().max()))
                record["results"][case] = {"energy": energy.tolist(), "forces": forces.tolist()}
            record["warp kernels differ by, relative"] = worst
            records[name] = record
            print(f"{name}: Warp differs by {worst:.1e}")
    content = {"torchmd-net": __version__, "structures": CASES, "models": records}
    target = ROOT / "tests" / "models" / "data" / "torchmdnet.json"
    target.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
