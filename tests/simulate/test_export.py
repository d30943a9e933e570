"""The exported program gives the potential's numbers at any size, and needs torch alone."""

import json
import math
import subprocess
import sys

import ase.build
import pytest
import torch
from torch import nn

from dreibein.models import TensorNetConfig, build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.nn import Potential
from dreibein.nn.constant_folding import fold_constants
from dreibein.nn.programs import evaluate_frame
from dreibein.simulate import export_potential, read_export
from dreibein.simulate.export import OUTPUTS, frame_arguments
from dreibein.systems import from_ase

ALONE = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("dreibein", "torch_geometric", "numba", "ase"):
            raise ImportError(f"{name} is not to be imported")

sys.meta_path.insert(0, Refuse())
import torch

extra = {"dreibein.json": ""}
program = torch.export.load(sys.argv[1], extra_files=extra).module()
results = [program(*frame) for frame in torch.load(sys.argv[2])]
torch.save(results, sys.argv[3])
assert "dreibein" not in sys.modules
print(extra["dreibein.json"])
"""


def frames(cutoff):
    """One atom without edges, molecules, a crystal smaller than the range."""
    atoms = [ase.build.molecule(name) for name in ("H2O", "O2", "CH3CH2OH")]
    lone = ase.Atoms("O", [[0.3, 0.2, 0.1]])
    ice = ase.Atoms(
        "OH2", [[0, 0, 0], [0.9, 0.3, 0], [-0.3, 0.9, 0.2]], cell=[3, 3.2, 3.1], pbc=True
    )
    return [attach_neighbors(from_ase(a), cutoff) for a in (lone, *atoms, ice)]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = TensorNetConfig(channels=8, layers=1, num_radial=6, cutoff=4.0, knots=16)
    energies = {1: -13.0, 6: -1030.0, 8: -2040.0}
    return build_potential(
        config, elements=(1, 6, 8), reference_energies=energies, scale=2.0, dtype=torch.float64
    ).eval()


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    return export_potential(network, tmp_path_factory.mktemp("export") / "model.pt2")


@pytest.fixture(scope="module")
def alone(network, exported):
    """Results of a process that can import neither this package nor its other requirements."""
    folder = exported.parent
    inputs = [frame_arguments(frame) for frame in frames(network.cutoff)]
    weights = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    inputs.append((*inputs[1][:-2], torch.ones(1, dtype=torch.float64), weights))
    torch.save(inputs, folder / "frames.pt")
    command = [sys.executable, "-c", ALONE, exported, folder / "frames.pt", folder / "results.pt"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return inputs, torch.load(folder / "results.pt"), json.loads(done.stdout)


def test_equal_to_the_potential_in_a_process_without_this_package(network, alone):
    inputs, results, _ = alone
    for frame, found in zip(inputs, results, strict=True):
        right = evaluate_frame(network, *frame)
        for name, a, b in zip(OUTPUTS, found, right, strict=True):
            assert a.shape == b.shape
            assert a.dtype == torch.float64
            assert float((a - b).abs().max()) < 1e-10, name
    for structure, found in zip(frames(network.cutoff), results, strict=False):
        direct = network(structure, compute=("energy", "energies", "forces", "virial"))
        direct["virial"] = direct["virial"][0]
        for name, a in zip(OUTPUTS, found, strict=True):
            assert float((a - direct[name]).abs().max()) < 1e-10, name


def test_ghosts_add_no_energy_and_feel_forces(network, alone):
    """Owned atoms' energies alone are differentiated, by the positions of all."""
    inputs, results, _ = alone
    energy, energies, forces, _ = results[-1]
    owned = inputs[-1][-1]
    assert float(energy) == pytest.approx(float((energies * owned).sum()), rel=1e-14)
    assert float(forces[owned == 0].abs().max()) > 1e-4
    assert float(forces.sum(0).abs().max()) < 1e-12


def test_the_header_says_what_a_reader_must_know(network, exported, alone):
    header = read_export(exported)
    assert header == alone[2]
    assert header["elements"] == "1 6 8"
    assert float(header["cutoff"]) == network.cutoff
    assert header["precision"] == "float64"
    assert header["pairs beyond the cutoff"] == "contribute nothing"
    assert header["hops"] == "2"  # neighbors in the embedding, theirs in the one layer


def test_weights_are_folded_into_constants(exported):
    program = torch.export.load(exported)
    held = {**program.state_dict, **program.constants}
    shapes = {tuple(t.shape) for t in held.values() if isinstance(t, torch.Tensor)}
    assert any(math.prod(shape) == (16 + 5) * 3 * 8 for shape in shapes)  # control points
    used = {str(node.target) for node in program.graph.nodes}
    assert not any("linalg" in name or "dreibein" in name for name in used)


class Pairs(nn.Module):
    """E_i = sum_j f(r_ij), f zero beyond the cutoff or not."""

    cutoff, elements, config = 2.0, (1,), None

    def __init__(self, kind):
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.kind = kind

    def forward(self, graph):
        r = graph.vectors.norm(dim=-1)
        if self.kind == "endless":
            pair = torch.exp(-r)
        elif self.kind == "sized":  # what one traced size fixes
            pair = r * graph.edge_index.shape[1] if graph.edge_index.shape[1] == 19 else r
        else:
            if bool((r > 1.0).any()):
                r = r * 2.0
            pair = r
        return self.weight * r.new_zeros(graph.num_atoms).index_add(0, graph.receiver, pair)


def test_what_ends_nowhere_is_said(tmp_path):
    path = export_potential(Potential(Pairs("endless")), tmp_path / "m.pt2")
    assert read_export(path)["pairs beyond the cutoff"] == "must be left out"
    assert read_export(path)["hops"] == "1"


@pytest.mark.parametrize("kind", ["sized", "values"])
def test_what_one_trace_cannot_hold_is_refused(tmp_path, kind):
    with pytest.raises(ValueError, match=r"Pairs (cannot be exported|is wrong)"):
        export_potential(Potential(Pairs(kind)), tmp_path / "m.pt2")
    assert not list(tmp_path.iterdir())


def test_names_are_checked(network, tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.pt2"):
        export_potential(network, tmp_path / "m.pt")
    with pytest.raises(FileNotFoundError, match="no folder"):
        export_potential(network, tmp_path / "absent" / "m.pt2")
    (tmp_path / "other.pt2").write_bytes(b"PK")
    with pytest.raises(ValueError, match="not an exported model"):
        read_export(tmp_path / "other.pt2")


def test_folding_keeps_values_and_what_is_random():
    from torch.fx.experimental.proxy_tensor import make_fx

    weight = torch.arange(6.0).view(2, 3)

    def function(x):
        square = (weight.T.exp() @ weight).sum(0)
        return x * square + weight[0], torch.rand(3) + x

    graph = make_fx(function, _allow_non_fake_inputs=True)(torch.ones(3))
    x = torch.tensor([1.0, 2.0, 3.0])
    expected = function(x)[0]
    assert fold_constants(graph) == 1
    assert torch.equal(graph(x)[0], expected)
    assert not torch.equal(graph(x)[1], graph(x)[1])
    names = [str(node.target) for node in graph.graph.nodes]
    assert not any("exp" in name or "mm" in name for name in names)
