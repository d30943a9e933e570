"""Localized networks: whole models, training, no traces, errors."""

import pytest
import torch
import torch_geometric.nn as pyg
from torch import nn

from dreibein.frames import Frames
from dreibein.nn import FrameSequential, GCNConv
from dreibein.nn.localization import localize
from dreibein.o3 import act, parse_reps
from nn.convolution_cases import NODES, REPS, WIDTH, make_graph, mlp, orthogonal

FRAMELESS = Frames(torch.eye(3, dtype=torch.float64).expand(NODES, 3, 3))


class Own(pyg.MessagePassing):
    """A layer of a user: other names, other direction."""

    def __init__(self):
        super().__init__(aggr="mean", flow="target_to_source")
        self.message_map, self.update_map = mlp(2 * WIDTH + 3, WIDTH), mlp(2 * WIDTH, WIDTH)

    def forward(self, h, edge_index, edge_vectors, velocity):
        return self.propagate(edge_index, h=h, v=edge_vectors, velocity=velocity)

    def message(self, h_i, h_j, v, velocity_j):
        return self.message_map(torch.cat((h_i, h_j, v + velocity_j), -1))

    def update(self, messages, h):
        return self.update_map(torch.cat((messages, h), -1))


class Network(nn.Module):
    """A network of a user: widths change, a norm over the batch stands between the layers."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = pyg.GATConv(WIDTH, 2 * WIDTH), nn.BatchNorm1d(2 * WIDTH)
        self.second = pyg.GINConv(mlp(2 * WIDTH, WIDTH))

    def forward(self, x, edge_index):
        return self.second(self.norm(self.first(x, edge_index)).relu(), edge_index)


def check(network, *, reps=REPS, arguments=lambda graph: {}, **options):
    """As it was with identity frames, equivariant with others; returns the localized network."""
    network, graph = network.double(), make_graph()
    wrapped = localize(network, reps, **options)
    plain = network(graph.x, graph.edge_index, **arguments(graph))
    found = wrapped(graph.x, FRAMELESS, graph.edge_index, **arguments(graph))
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)
    out = wrapped(graph.x, graph.frames, graph.edge_index, **arguments(graph))
    for g in orthogonal(2, torch.Generator().manual_seed(1)):
        turned = graph.turned(g)
        found = wrapped(turned.x, turned.frames, graph.edge_index, **arguments(turned))
        expected = act(parse_reps(REPS), g, out)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    return wrapped


def test_a_users_own_layer():
    check(
        Own(),
        reps={"h": REPS, "velocity": "1x1o"},
        edge_reps={"edge_vectors": "1x1o"},
        arguments=lambda graph: {"edge_vectors": graph.edge_attr, "velocity": graph.normal},
    )


def test_a_users_own_network():
    check(Network().eval(), hidden_reps=f"{REPS}+{REPS}")


@pytest.mark.parametrize("model", [pyg.GIN, pyg.GAT, pyg.GraphSAGE, pyg.PNA])
def test_models_of_pyg(model):
    options = {"aggregators": ["mean"], "scalers": ["identity"], "deg": torch.tensor([0, 3, 4])}
    model = model(WIDTH, WIDTH, 3, **(options if model is pyg.PNA else {}))
    check(model.eval())


def test_messages_against_the_flow_reach_the_copies():
    wrapped = check(
        pyg.Sequential(
            "x, edge_index", [(pyg.DirGNNConv(pyg.SAGEConv(16, 16)), "x, edge_index -> x")]
        )
    )
    assert "DirGNNConv" in str(wrapped)


def test_statistics_of_batches_are_those_of_nodes():
    graph = make_graph()
    for make in (
        lambda: pyg.CGConv(WIDTH, 3, batch_norm=True),
        lambda: pyg.GINEConv(nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16)), edge_dim=3),
    ):
        torch.manual_seed(0)
        plain = make().double()
        wrapped = localize(make().double(), REPS, edge_reps="1x1o")
        wrapped.network.load_state_dict(plain.state_dict())
        expected = plain(graph.x, graph.edge_index, graph.edge_attr)
        found = wrapped(graph.x, FRAMELESS, graph.edge_index, graph.edge_attr)
        torch.testing.assert_close(found, expected)
        for ours, theirs in zip(wrapped.network.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs)
        found.sum().backward()
        expected.sum().backward()
        for ours, theirs in zip(wrapped.network.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)


def test_nothing_of_a_call_stays():
    network, graph = pyg.GCNConv(WIDTH, WIDTH, cached=True).double(), make_graph()
    before = dict(network.__dict__)
    wrapped = localize(network, REPS)
    wrapped(graph.x, graph.frames, graph.edge_index)
    assert network.__dict__ == before
    assert network._cached_edge_index is None
    other = make_graph(seed=4)
    found = wrapped(other.x, FRAMELESS, other.edge_index)
    torch.testing.assert_close(found, network(other.x, other.edge_index))


def test_local_layers_stack():
    graph, rep = make_graph(), parse_reps(REPS)
    layers = [pyg.GATConv(WIDTH, WIDTH).double(), pyg.GATConv(WIDTH, WIDTH).double()]
    x = graph.frames.to_local(rep, graph.x)
    for layer in layers:
        x = localize(layer, REPS, local=True)(x, graph.frames, graph.edge_index)
    together = pyg.Sequential("x, e", [(layer, "x, e -> x") for layer in layers])
    expected = localize(together, REPS)(graph.x, graph.frames, graph.edge_index)
    torch.testing.assert_close(graph.frames.to_global(rep, x), expected)


def test_errors_are_one_sentence():
    graph, layer = make_graph(), pyg.GATConv(WIDTH, WIDTH, edge_dim=3).double()
    x, edges = graph.x, graph.edge_index
    wrapped = localize(layer, REPS, edge_reps="1x1o")
    for call, said in [
        (lambda: wrapped(x, edges), "the second argument of a localized network is its Frames"),
        (lambda: wrapped(x, edge_index=edges), "is its Frames, got nothing: call it as localized("),
        (lambda: wrapped(x, None, edges), "is its Frames, got nothing"),
        (lambda: wrapped(x, torch.eye(3), edges), "is its Frames, got Tensor"),
        (
            lambda: wrapped(x, Frames(torch.eye(4)[None]), edges),
            "matrices [N, 3, 3], got",
        ),
        (
            lambda: wrapped(x, graph.frames, edges, x, 1, 2, 3),
            "which takes (x, frames, edge_index",
        ),
        (lambda: localize(layer, "4x0e+1x1o"), 'the width 16, but Irreps("4x0e+1x1o") has 7'),
        (lambda: wrapped(x, graph.frames, edges, edge_atr=1), "did you mean 'edge_attr'?"),
        (lambda: wrapped(x[:, :5], graph.frames, edges), "last dimension 16, got the shape"),
        (lambda: wrapped(x[:5], graph.frames, edges), "meet frames of 9"),
        (lambda: wrapped((x, x), graph.frames, edges), "is a pair of features"),
        (lambda: localize(layer, {"z": REPS}), "has no argument 'z'"),
        (lambda: localize(layer, REPS, edge_reps={"edge_atr": "1o"}), "did you mean 'edge_attr'?"),
        (
            lambda: localize(pyg.GATConv(16, 8).double(), REPS)(x, graph.frames, edges),
            "pass out_reps of that width",
        ),
        (
            lambda: localize(Network().double(), REPS)(x, graph.frames, edges),
            "the node features x have the width 32",
        ),
    ]:
        with pytest.raises(ValueError, match=r".") as error:
            call()
        assert said in str(error.value)
        assert "\n" not in str(error.value)
    invariant = localize(pyg.GATConv(16, 8).double(), REPS, out_reps="")
    assert invariant(x, graph.frames, edges).shape == (NODES, 8)


@pytest.mark.parametrize("option", ["reps", "out_reps", "edge_reps", "hidden_reps"])
def test_unknown_notation_shows_its_position(option):
    given = {"reps": REPS} | {option: "4x0e+1x1q"}
    with pytest.raises(ValueError, match="found 'q', at position 8") as error:
        localize(pyg.GATConv(WIDTH, WIDTH, edge_dim=3), **given)
    notation, mark = str(error.value).splitlines()[1:]
    assert notation[len(mark) - 1] == "q"


def test_layers_whose_representations_differ_are_both_named():
    first, second = GCNConv("4x0e", "2x1o"), GCNConv("2x1e", "4x0e")
    with pytest.raises(ValueError, match=r"layer 1 .*Irreps\(\"2x1e\"\).*Irreps\(\"2x1o\"\)"):
        FrameSequential(first, second)
