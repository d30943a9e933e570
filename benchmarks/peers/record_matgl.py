"""Energies, forces and stress of matgl in float64, for the import's tests.

    PYTHON_OF_MATGL benchmarks/peers/record_matgl.py [FOLDER_OF_THE_MATPES_MODEL]

Writes tests/models/data/matgl.json: potentials with weights by rule, as files, and numbers of the
trained MatPES potential (numbers alone; its weights are read where they are when tests run).
Edges come from ASE in float64, since matgl's converters make coordinates in float32.
"""

import json
import sys
import tempfile
from pathlib import Path

import ase.build
import numpy as np
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from matgl import __version__, load_model
from matgl.apps.pes import Potential
from matgl.models import TensorNet
from torch_geometric.data import Batch, Data

from frames import CELLS, LIQUID, MOLECULE

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "models"))
from foreign_files import tensors_of, write_folder  # noqa: E402

ELEMENTS = ("H", "C", "N", "O")
NETWORK = {"element_types": ELEMENTS, "units": 8, "nblocks": 2, "cutoff": 4.5}
NETWORK |= {"is_intensive": False, "use_warp": False}
MODELS: dict[str, dict] = {
    "gaussian": {"rbf_type": "Gaussian", "num_rbf": 6},
    "chiral, smooth Bessel": {
        "rbf_type": "SphericalBessel",
        "use_smooth": True,
        "max_n": 4,
        "equivariance_invariance_group": "SO(3)",
        "nblocks": 1,
    },
}
REFERENCES = [-1.25, -2.5, 0.75, -3.0]
TO_EV_PER_A3 = 1.0 / 160.21766208  # matgl's factor from eV/Å^3 to GPa is 160.21766208


def graph_of(case: dict, types: tuple[str, ...], cutoff: float) -> tuple[Data, torch.Tensor]:
    """Matgl's graph; a molecule stands in a box so large that it meets no image."""
    cell = np.array(case.get("cell", 60.0 * np.eye(3)), dtype=float)
    atoms = Atoms(case["z"], case["pos"], cell=cell, pbc=True)
    i, j, shift = neighbor_list("ijS", atoms, cutoff)
    data = Data(
        node_type=torch.tensor([types.index(s) for s in atoms.symbols]),
        frac_coords=torch.from_numpy(atoms.get_scaled_positions(wrap=False)),
        edge_index=torch.from_numpy(np.stack((i, j))),
        pbc_offset=torch.from_numpy(shift.astype(float)),
    )
    data.num_nodes = len(atoms)
    return data, torch.from_numpy(cell)[None]


def evaluate(potential: Potential, case: dict, types: tuple[str, ...]) -> dict:
    parts = [graph_of(part, types, potential.model.cutoff) for part in case.get("parts", [case])]
    batch = Batch.from_data_list([graph for graph, _ in parts])
    energy, forces, stress, _ = potential(batch, torch.cat([cell for _, cell in parts]))
    found = {"energy": energy.detach().flatten().tolist(), "forces": forces.detach().tolist()}
    if "cell" in case:
        found["stress"] = (stress.detach() * TO_EV_PER_A3).tolist()
    return found


def frame(atoms: Atoms) -> dict:
    pos = atoms.positions.round(6).tolist()
    return {"z": atoms.numbers.tolist(), "pos": pos, "cell": atoms.cell.tolist()}


def trained_cases() -> dict[str, dict]:
    """Cells smaller than twice the cutoff, a sheared one, two kinds of atoms, a molecule."""
    silicon = ase.build.bulk("Si", cubic=True)
    silicon.rattle(0.05, seed=1)
    salt = ase.build.bulk("MgO", "rocksalt", a=4.25)
    salt.set_cell(
        salt.cell @ (np.eye(3) + np.array([[0.02, 0.03, 0], [0, -0.01, 0], [0, 0, 0]])), True
    )
    salt.rattle(0.05, seed=2)
    iron = ase.build.bulk("Fe", a=2.85) * (1, 1, 2)
    iron.rattle(0.08, seed=3)
    cases = {"silicon": frame(silicon), "rock salt": frame(salt), "iron": frame(iron)}
    return cases | {"molecule": MOLECULE, "batch": {"parts": [frame(silicon), frame(salt)]}}


def record_of(changes: dict, folder: Path) -> dict:
    """Description, shapes of tensors by rule, and values of the others."""
    potential = Potential(
        TensorNet(**(NETWORK | changes)),
        data_std=torch.tensor(1.5),
        element_refs=torch.tensor(REFERENCES, dtype=torch.float64),
    ).double()
    potential.save(folder)
    state = potential.state_dict()
    ours = [name for name in state if name.endswith(("cutoff", "centers"))]
    values = {name: state[name].tolist() for name in ours}
    values |= {"data_mean": 0.0, "data_std": 1.5, "element_refs.property_offset": REFERENCES}
    shapes = {name: list(tensor.shape) for name, tensor in state.items() if name not in values}
    description = json.loads((folder / "model.json").read_text())
    return {"description": description, "shapes": shapes, "values": values}


def main() -> None:
    """Record every model at every structure."""
    cases = {
        "molecule": MOLECULE,
        "batch": {"parts": [MOLECULE, LIQUID | {"cell": CELLS["triclinic"]}]},
    }
    cases |= {name: LIQUID | {"cell": cell} for name, cell in CELLS.items()}
    cases["small cell"] = MOLECULE | {"cell": [[4.1, 0.0, 0.0], [0.4, 3.9, 0.0], [-0.3, 0.2, 4.4]]}
    records = {}
    for name, changes in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            record = record_of(changes, Path(folder))
            write_folder(record, Path(folder))
            potential = load_model(folder).double().eval()
            tensors = tensors_of(record)
            potential.load_state_dict(tensors)
            record["results"] = {k: evaluate(potential, c, ELEMENTS) for k, c in cases.items()}
        records[name] = record
    content = {"matgl": __version__, "structures": cases, "models": records}
    if sys.argv[1:]:
        potential = load_model(sys.argv[1]).double().eval()
        types = tuple(potential.model.element_types)
        trained = trained_cases()
        results = {name: evaluate(potential, case, types) for name, case in trained.items()}
        content["MatPES"] = {"structures": trained, "results": results}
        print(results["silicon"]["energy"], results["silicon"]["stress"])
    target = ROOT / "tests" / "models" / "data" / "matgl.json"
    target.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
