"""Potentials of PyG convolutions: the laws for each, smoothness, what is refused, files."""

import pytest
import torch
import torch_geometric.nn as pyg
from pydantic import ValidationError
from torch import nn

from dreibein.frames import Transport, identity
from dreibein.models import LocalizedConfig, build_potential, load_model, save_model
from dreibein.models.storage import read_header
from dreibein.neighbors import attach_neighbors
from dreibein.nn import Potential, SmoothConvolution, smooth_convolution
from dreibein.nn.localization import OFFERS, smooth
from dreibein.o3 import parse_reps
from dreibein.systems import make_structure
from dreibein.testing import (
    assert_forces,
    assert_reflection,
    assert_rotation,
    assert_smooth_at_cutoff,
    assert_supercell,
    sample_crystal,
    sample_molecule,
)
from dreibein.testing.probing import predict

MOLECULE = sample_molecule((1, 6, 8), 5, seed=1)
CELL = sample_crystal((1, 6, 8), 2, seed=3)
SINGLE = make_structure([6], [[0.0, 0.0, 0.0]])
REPS = "4x0n+2x1n+1x2e"
ALL = pytest.mark.parametrize("name", OFFERS)
# what may be set beside the defaults
OPTIONS = {
    "CGConv": {"bias": False},
    "GATConv": {"heads": 3, "negative_slope": 0.1, "residual": True},
    "GATv2Conv": {"heads": 5, "share_weights": True, "bias": False},
    "GENConv": {"num_layers": 3, "expansion": 3, "bias": True, "eps": 1e-3},
    "GINEConv": {"eps": 0.5, "train_eps": True},
    "GeneralConv": {"heads": 2, "directed_msg": False, "skip_linear": True},
    "NNConv": {"root_weight": False},
    "ResGatedGraphConv": {"root_weight": False, "bias": False},
    "TransformerConv": {"heads": 5, "beta": True},
}


def potential(name: str, **changes) -> Potential:
    """A tiny one in float64."""
    settings = {"reps": REPS, "channels": 8, "num_radial": 6, "layers": 1, "cutoff": 3.5}
    config = LocalizedConfig(convolution=name, **(settings | changes))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build_potential(config, elements=(1, 6, 8), dtype=torch.float64)


@ALL
def test_laws(name):
    model = potential(name)
    assert_rotation(model, CELL)
    assert_reflection(model, MOLECULE)
    assert_forces(model, MOLECULE)
    assert_smooth_at_cutoff(model, MOLECULE, 8)


@ALL
def test_a_crystal_is_the_same_in_a_larger_cell(name):
    """Images of one atom are different neighbors, though they are one node of the graph."""
    assert_supercell(potential(name), CELL)


@ALL
def test_the_last_neighbor_leaves_smoothly(name):
    assert_smooth_at_cutoff(potential(name, options=OPTIONS[name]), SINGLE, 8)


def test_every_offer_has_options_that_were_tried():
    assert OPTIONS.keys() == OFFERS.keys()
    assert all(OPTIONS[name].keys() <= {*offer.free} for name, offer in OFFERS.items())


@pytest.mark.parametrize("reps", ["9x0n", "3x0e+1x1o+1x1e+1x2e", "m9", "2x0n+1x1n+m4"])
def test_representations(reps):
    model = potential("ResGatedGraphConv", reps=reps, layers=2)
    assert_rotation(model, MOLECULE)
    assert_reflection(model, MOLECULE)


def test_without_the_envelope_messages_jump(monkeypatch):
    monkeypatch.setattr(SmoothConvolution, "_faded", lambda self, layer, *rest: layer.message)
    for name in ("GINEConv", "TransformerConv"):
        with pytest.raises(AssertionError, match="jump of the energy"):
            assert_smooth_at_cutoff(potential(name), MOLECULE, 8)


def test_a_softmax_over_neighbors_alone_jumps(monkeypatch):
    """Without the atom itself the last neighbor keeps the weight one until it leaves."""
    monkeypatch.setattr(smooth, "OWN_PHI", 1e-200)
    for name in ("GATv2Conv", "TransformerConv"):
        with pytest.raises(AssertionError, match="jump of the energy"):
            assert_smooth_at_cutoff(potential(name), SINGLE, 8)


def largest_kink(model: Potential, steps: int) -> float:
    """Largest change of the slope of the forces between neighbors on a path, in eV/Å²."""
    width = 0.6 / steps
    path = [MOLECULE.pos + i * width * torch.sin(3.0 * MOLECULE.pos) for i in range(steps + 1)]
    structures = [make_structure(MOLECULE.z, pos) for pos in path]
    forces = torch.stack([out["forces"] for out in predict(model, structures, ("forces",))])
    return float(forces.diff(dim=0).diff(dim=0).abs().max()) / width


@pytest.mark.parametrize("name", ["GINEConv", "GATv2Conv"])
def test_relus_have_no_kinks(name, monkeypatch):
    """A kink of the network is a jump of the forces, however short the steps are."""
    model = potential(name, layers=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    assert largest_kink(model, 120) < 0.4 * largest_kink(model, 30)
    monkeypatch.setattr(
        smooth.SmoothActivations,
        "__torch_function__",
        lambda self, func, types, args=(), kwargs=None: func(*args, **(kwargs or {})),
    )
    assert largest_kink(model, 120) > 0.6 * largest_kink(model, 30)


def test_without_frames_and_envelope_it_is_the_layer_itself():
    """Identity frames, phi = 1, no ReLU: PyG's numbers."""
    torch.manual_seed(0)
    x, edge_attr = torch.randn(6, 9).double(), torch.randn(10, 4).double()
    edge_index = torch.stack((torch.arange(10) % 6, torch.arange(10).flip(0) % 5))
    transport = Transport(identity(dtype=torch.float64), edge_index)
    loops = torch.arange(6).expand(2, 6)
    for name in ("CGConv", "NNConv", "ResGatedGraphConv", "GeneralConv", "TransformerConv"):
        layer = smooth_convolution(name, parse_reps("9x0n"), edge_width=4, hidden=5, options={})
        layer = layer.double()
        edges, attributes = edge_index, edge_attr
        if layer.attention:
            edges = torch.cat((edge_index, loops), 1)
            attributes = torch.cat((edge_attr, torch.zeros(6, 4).double()))
        found = layer(x, transport, edge_attr, torch.ones(10).double())
        torch.testing.assert_close(found, layer.convolution(x, edges, attributes))
        assert "message" not in layer.convolution.__dict__


def test_a_file_brings_back_the_same_numbers(tmp_path):
    model = potential("GATv2Conv", options={"heads": 3, "negative_slope": 0.1}, reps="2x0n+1x1n+m4")
    path = save_model(model, tmp_path / "model.safetensors")
    assert read_header(path)["config"]["options"] == {"heads": 3, "negative_slope": 0.1}
    again = load_model(path)
    assert again.config == model.config
    (before,), (after,) = (predict(m, [MOLECULE], ("forces",)) for m in (model, again))
    assert torch.equal(before["forces"], after["forces"])


def test_it_learns():
    torch.manual_seed(0)
    model = potential("GINEConv", reps="8x0n+4x1n", layers=2).train()
    structure = attach_neighbors(make_structure(MOLECULE.z, MOLECULE.pos), model.cutoff)
    target = torch.sin(MOLECULE.pos)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(50):
        loss = (model(structure)["forces"] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    idle = {name for name, p in model.named_parameters() if p.grad is None}
    assert idle == {"network.head.1.2.bias"}  # a constant has no force


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"convolution": "PNAConv"}, "PNAConv makes no smooth potential: maxima and standard"),
        ({"convolution": "GCNConv"}, "it takes no edge features, so it would know neither"),
        ({"convolution": "HypergraphConv"}, "messages meet at hyperedges"),
        ({"convolution": "GINEConf"}, "no convolution 'GINEConf': did you mean 'GINEConv'?"),
        ({"options": {"head": 4}}, "TransformerConv has no option 'head': did you mean 'heads'?"),
        ({"options": {"dropout": 0.5}}, "'dropout' of TransformerConv is not free: energies must"),
        ({"options": {"concat": False}}, "the option 'concat' of TransformerConv is not free"),
        ({"options": {"aggr": 1}}, "no option 'aggr'"),
        (
            {"options": {"heads": 2.5}},
            "'heads' of TransformerConv must be a whole number, got 2.5",
        ),
        (
            {"options": {"beta": 1}},
            "'beta' of TransformerConv must be true or false, got 1",
        ),
        ({"convolution": "NNConv", "options": {"aggr": 1}}, "messages must be added up"),
        ({"reps": "8x0q"}, "found 'q', at position 3"),
    ],
)
def test_errors(settings, said):
    with pytest.raises(ValidationError) as error:
        LocalizedConfig(**settings)
    assert said in str(error.value)


def test_heads_must_share_the_width():
    with pytest.raises(ValueError, match="4 heads do not divide the width 15"):
        potential("GATConv", options={"heads": 4})


def test_a_layer_of_ones_own_may_be_smooth_too():
    """What `SmoothConvolution` asks of a layer: pairs of features, edge_attr, sums."""

    class Own(pyg.MessagePassing):
        def __init__(self):
            super().__init__(aggr="add")
            self.map = nn.Linear(9 + 2, 9)

        def forward(self, x, edge_index, edge_attr):
            return self.propagate(edge_index, x=x, edge_attr=edge_attr)

        def message(self, x_j, edge_attr):
            return self.map(torch.cat((x_j, edge_attr), -1)).tanh()

    layer = SmoothConvolution(Own(), parse_reps("3x0n+2x1n"))
    transport = Transport(identity(), torch.tensor([[0, 1], [1, 0]]))
    out = layer(torch.ones(2, 9), transport, torch.ones(2, 2), torch.tensor([0.0, 1.0]))
    assert out[1].abs().max() == 0 < out[0].abs().max()


def test_an_own_weight_that_underflows_makes_no_nan():
    """The only neighbor, at the cutoff, has a logit that leaves nothing for the atom itself."""
    options = {"edge_width": 1, "hidden": 4, "options": {}}
    layer = smooth_convolution("GATv2Conv", parse_reps("4x0n"), **options)
    with torch.no_grad():
        for weight in (layer.convolution.att, layer.convolution.lin_edge.weight):
            weight.fill_(1.0)
    x = torch.ones(2, 4, requires_grad=True)
    transport = Transport(identity(), torch.tensor([[1], [0]]))
    phi = torch.zeros(1, requires_grad=True)
    out = layer(x, transport, torch.tensor([[300.0]]), phi)
    first = torch.autograd.grad(out.sum(), (x, phi), create_graph=True)
    second = torch.autograd.grad(sum(g.sum() for g in first), (x, phi))
    assert all(bool(g.isfinite().all()) for g in (out, *first, *second))
