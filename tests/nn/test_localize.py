"""Localized convolutions: as they were without frames, equivariant with them."""

import re

import pytest
import torch
import torch_geometric.nn.conv as conv

from dreibein.frames import Frames, identity
from dreibein.nn.localization import REASONS, localize
from dreibein.nn.localization.copies import Copies
from dreibein.o3 import act, parse_reps
from nn.convolution_cases import (
    CASES,
    CASES_BY_NAME,
    REPS,
    WIDTH,
    errors,
    in_each_frame,
    make_graph,
    orthogonal,
)
from nn.convolution_table import DOCUMENT, document, without_numbers

TOLERANCE = 1e-12
ONE_HOP = [case for case in CASES if case.one_hop]
# sums of neighbors with invariant weights: no frame may show in the result
LINEAR = ["APPNP", "LGConv", "SimpleConv", "WLConvContinuous"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_layer_is_equivariant_and_as_it_was_without_frames(case):
    assert max(errors(case).values()) < TOLERANCE


@pytest.mark.parametrize("case", ONE_HOP, ids=lambda case: case.name)
def test_every_receiver_sees_its_neighbors_in_its_own_frame(case):
    found, expected = in_each_frame(case, case.build())
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("name", LINEAR)
def test_linear_messages_do_not_depend_on_frames(name):
    assert _change_by_frames(name) < TOLERANCE


def _change_by_frames(name: str) -> float:
    case, graph = CASES_BY_NAME[name], make_graph()
    layer = case.build()
    out = case.localized(layer, graph, graph.frames)
    return float((out - case.plain(layer, graph)).detach().abs().max())


def test_a_skipped_transport_is_caught(monkeypatch):
    def gathered(self, x, rep, glob=None):
        return x.index_select(0, self.source)

    monkeypatch.setattr(Copies, "expand", gathered)
    for case in (CASES_BY_NAME["GATConv"], CASES_BY_NAME["PointNetConv"]):
        found, expected = in_each_frame(case, case.build())
        assert float((found - expected).abs().max()) > 1e-2
    assert min(_change_by_frames(name) for name in LINEAR) > 1e-2


def test_a_skipped_second_hop_is_caught(monkeypatch):
    refill = Copies.refill
    monkeypatch.setattr(Copies, "refill", lambda self, out, dim, known: refill(self, out, dim, ()))
    assert _change_by_frames("APPNP") > 1e-2


def test_a_transport_that_forgets_the_global_frame_is_caught(monkeypatch):
    case = CASES_BY_NAME["GATConv"]
    enter = "dreibein.nn.localization.carriage.turn"
    monkeypatch.setattr(enter, lambda frames, rep, x, back=False: x)
    assert errors(case)["equivariance"] > 1e-2


@pytest.mark.parametrize("name", ["GATConv", "PointNetConv", "APPNP", "NNConv"])
def test_soft_frames_and_moved_positions(name):
    case, graph = CASES_BY_NAME[name], make_graph()
    layer = case.build()
    generator = torch.Generator().manual_seed(3)
    soft = torch.randn(9, 3, 3, generator=generator, dtype=torch.float64) * 0.5
    graph.frames = Frames(soft)
    out = case.localized(layer, graph, graph.frames)
    for g in orthogonal(2, generator):
        turned = graph.turned(g)
        turned.pos = turned.pos + torch.tensor([0.5, -2.0, 3.0])
        found = case.localized(layer, turned, turned.frames)
        torch.testing.assert_close(found, act(parse_reps(REPS), g, out), rtol=0, atol=1e-11)


def test_one_frame_for_all_nodes():
    case, graph = CASES_BY_NAME["TAGConv"], make_graph()
    layer = case.build()
    one = graph.frames.matrices[:1]
    found = case.localized(layer, graph, Frames(one, uniform=True))
    expected = case.localized(layer, graph, Frames(one.expand(9, 3, 3).contiguous()))
    torch.testing.assert_close(found, expected)
    nothing = case.localized(layer, graph, identity(dtype=torch.float64))
    torch.testing.assert_close(nothing, case.plain(layer, graph))


def test_at_least_35_layers_and_every_class_has_a_result_or_a_reason():
    assert len(CASES) >= 35
    assert {*CASES_BY_NAME, *REASONS, "MessagePassing"} == {*conv.__all__}
    assert not {*CASES_BY_NAME} & {*REASONS}


def test_the_table_in_the_documents_is_up_to_date():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert without_numbers(text) == without_numbers(document(measure=False)), (
        "run python tests/nn/convolution_table.py --write"
    )
    recorded = [float(number) for number in re.findall(r"(\d+e[-+]\d+) \|", text)]
    assert len(recorded) == 2 * len(CASES)
    assert max(recorded) < TOLERANCE


ATTENTIVE = {
    "GATConv": lambda: conv.GATConv(WIDTH, 4, heads=4, edge_dim=3),
    "GATConv without loops": lambda: conv.GATConv(WIDTH, 16, edge_dim=3, add_self_loops=False),
    "GATv2Conv": lambda: conv.GATv2Conv(WIDTH, 4, heads=4, edge_dim=3),
    "TransformerConv": lambda: conv.TransformerConv(WIDTH, 4, heads=4, edge_dim=3),
}


@pytest.mark.parametrize("name", ATTENTIVE)
def test_attention_weights_are_returned(name):
    """On the edges of the layer, its own numbers without frames, invariant with them."""
    torch.manual_seed(0)
    layer, graph = ATTENTIVE[name]().double(), make_graph()
    wrapped = localize(layer, REPS, edge_reps="1x1o")

    def call(graph, frames):
        options = {"edge_attr": graph.edge_attr, "return_attention_weights": True}
        return wrapped(graph.x, frames, graph.edge_index, **options)

    out, (edges, weights) = call(graph, identity(dtype=torch.float64))
    plain, (plain_edges, plain_weights) = layer(
        graph.x, graph.edge_index, graph.edge_attr, return_attention_weights=True
    )
    assert torch.equal(edges, plain_edges)
    torch.testing.assert_close((out, weights), (plain, plain_weights))
    out, (edges, weights) = call(graph, graph.frames)
    assert weights.shape == plain_weights.shape
    assert float((weights - plain_weights).detach().abs().max()) > 1e-2
    for g in orthogonal(2, torch.Generator().manual_seed(2)):
        turned = graph.turned(g)
        found, (again, same) = call(turned, turned.frames)
        torch.testing.assert_close(same, weights, rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(found, act(parse_reps(REPS), g, out), rtol=0, atol=TOLERANCE)
        assert torch.equal(again, edges)


def test_an_attention_loss_over_pairs_without_edges_is_refused():
    graph, layer = make_graph(), conv.SuperGATConv(WIDTH, 4, heads=4).double()
    wrapped = localize(layer, REPS)
    with pytest.raises(ValueError, match="SuperGATConv cannot be localized in training mode") as e:
        wrapped(graph.x, graph.frames, graph.edge_index)
    assert "call eval() on the layer" in str(e.value)
    assert "\n" not in str(e.value)
    layer.eval()
    wrapped(graph.x, graph.frames, graph.edge_index).sum().backward()
    assert layer.lin.weight.grad is not None


@pytest.mark.parametrize("name", ["HypergraphConv", "WLConv", "PANConv"])
def test_layers_that_cannot_be_wrapped_say_why(name):
    made = {"HypergraphConv": (16, 16), "WLConv": (), "PANConv": (16, 16, 2)}
    with pytest.raises(ValueError, match="cannot be localized: ") as error:
        localize(getattr(conv, name)(*made[name]), REPS)
    assert REASONS[name] in str(error.value)
