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
from torchmdnet.models import tensornet, tensornet2

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
SECOND = {
    "model": "tensornet2",
    "q_dim": 2,
    "q_weights": [1.0, 0.5, 0.25],
    "output_model": "ScalarPlusWeightedCoulomb",
    "coulomb_cutoff": None,
    "num_layers": 2,
}
UNITS = {"distance_scale": 1e-10, "energy_scale": 1.602176634e-19}  # Å and eV
TYPES = {"atomic_number": list(range(10)), "max_num_neighbors": 64}
ZBL = {"ZBL": {"cutoff_distance": 3.0, **TYPES, **UNITS}}
D2 = {"D2": {"cutoff_distance": 9.0, **TYPES, **UNITS}}
SWITCHED_ON = {"lower_switch_distance": 0.1, "upper_switch_distance": 0.3}  # nm
COULOMB = {"Coulomb": {**SWITCHED_ON, "max_num_neighbors": 64, **UNITS}}
REFERENCES = {"Atomref": {"max_z": 10}}
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
    "priors: repulsion, references, scale": {"prior_model": [ZBL, REFERENCES], "num_layers": 1},
    "priors: dispersion, charges": {"prior_model": [D2, COULOMB], "num_layers": 1},
    "TensorNet2": SECOND,
    "TensorNet2, reaction field, repulsion, references, scale": SECOND
    | {
        "model": "tensornet-nqe",
        "coulomb_cutoff": 4.0,
        "coulomb_max_num_neighbors": 64,
        "repulsion": True,
        "prior_model": [REFERENCES],
    },
    "TensorNet2 before version 3": SECOND | {"check_errors": True, "model": "tensornetv2_alt"},
    "TensorNet2 without energy of charges": SECOND
    | {"output_model": "Scalar", "equivariance_invariance_group": "SO(3)"},
}
MOLECULES = ("molecule", "charged", "batch")
# all pairs, or a prior that does not see the box
WITHOUT_BOXES = ("priors: dispersion, charges", "TensorNet2", "TensorNet2 before version 3")
CASES: dict[str, dict] = {
    "molecule": MOLECULE,
    "charged": MOLECULE | {"charge": 1.0},
    "batch": {"parts": [MOLECULE, SMALL]},
    **{name: LIQUID | {"cell": cell} for name, cell in CELLS.items()},
}


REPULSION = "representation_model.repulsion."


def record_of(changes: dict) -> dict:
    """Hyperparameters, shapes of tensors by rule, and values of the others."""
    settings = SETTINGS | changes
    arguments = {k: v for k, v in settings.items() if k != "check_errors"}
    if settings["output_model"] == SECOND["output_model"]:  # its other names are of old files
        arguments["model"] = "tensornet2"
    state = torchmdnet_model.create_model(dict(arguments)).state_dict()
    buffers = ("prior_model.", "output_model.qweights", "output_model.distance", REPULSION)
    values = {n: t.double().tolist() for n, t in state.items() if n.startswith(buffers)}
    values |= {"mean": 0.0, "std": 1.0}
    for name in [name for name in state if name.endswith("atomref")]:
        place = name.removesuffix("initial_atomref")
        values |= {f"{place}atomref.weight": ATOMREF, name: ATOMREF, "std": 1.75}
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
    charges = [charge for part in parts for charge in charges_of(part)]
    found["extra_args"] = {"partial_charges": torch.tensor(charges, **double)}
    return found


def charges_of(part: dict) -> list[float]:
    """Charges of atoms by a rule, for the prior that wants some."""
    return [0.1 * ((3 * k + z) % 7) - 0.25 for k, z in enumerate(part["z"])]


SWITCHED = ("compose_tensor", "decompose_tensor", "tensor_matmul_o3", "tensor_matmul_so3")
KERNELS = {name: getattr(tensornet, name) for name in SWITCHED}


def evaluate(path: Path, case: dict, *, warp: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies and forces with the Warp kernels or without; there is no switch for users."""
    for module in (tensornet, tensornet2):
        module.OPT = warp
        for name, kernel in KERNELS.items():
            setattr(module, name, kernel if warp else getattr(tensornet, f"_{name}"))
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
            cases = MOLECULES if name in WITHOUT_BOXES else CASES
            for case, structure in ((c, CASES[c]) for c in cases):
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
