"""EdgeConv and GCNConv between frames."""

import pytest
import torch
from torch import nn

from dreibein.frames import Frames, Transport, identity
from dreibein.nn import EdgeConv, FrameSequential, GCNConv
from dreibein.o3 import parse_reps
from nn.frame_samples import NUM_NODES, REPS, equivariance_error, randn, relative, sample

OUT = "2x0n+1x1n+1x2e"
ALL = pytest.mark.parametrize("reps", REPS.values(), ids=REPS.keys())


def edge_conv(reps, out=OUT):
    torch.manual_seed(0)
    width, out_dim = parse_reps(reps).dim, parse_reps(out).dim
    network = nn.Sequential(nn.Linear(2 * width, 16), nn.SiLU(), nn.Linear(16, out_dim))
    return EdgeConv(reps, out, network.double()).double()


def gcn(reps, out=OUT):
    torch.manual_seed(0)
    return GCNConv(reps, out).double()


@ALL
@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("build", [edge_conv, gcn])
def test_equivariant(build, reps, reflect):
    assert equivariance_error(build(reps), reps, OUT, "soft", reflect=reflect) < 1e-12


@ALL
@pytest.mark.parametrize("build", [edge_conv, gcn])
def test_equivariant_with_hard_frames(build, reps):
    assert equivariance_error(build(reps), reps, OUT, "gram_schmidt") < 1e-12


@pytest.mark.parametrize("build", [edge_conv, gcn])
def test_without_frames_it_is_caught(build):
    reps = REPS["irreps"]
    assert equivariance_error(build(reps), reps, OUT, "soft", bare=True) > 1e-2


def test_three_layers_in_sequence():
    layers = FrameSequential(
        gcn("4x0n+2x1n", "2x0n+2x1n"),
        nn.SiLU(),
        edge_conv("2x0n+2x1n", "4x0n+2x1n"),
        nn.LayerNorm(10).double(),
        gcn("4x0n+2x1n", "1x1n"),
    )
    assert equivariance_error(layers, "4x0n+2x1n", "1x1n", "soft", reflect=True) < 1e-12


def test_representations_that_do_not_meet_are_both_named():
    with pytest.raises(ValueError, match=r'layer 1 \(GCNConv\).*"4x1o".*"2x1o"'):
        FrameSequential(gcn("4x0e", "2x1o"), gcn("4x1o", "2x0e"))


def test_gcn_with_the_laboratory_frame_is_the_published_matrix():
    _, transport = sample()
    layer = gcn("5x0n", "3x0n")
    x, w = randn(NUM_NODES, 5), randn(30, seed=2).abs()
    adjacency = torch.eye(NUM_NODES).double()
    adjacency[transport.receiver, transport.sender] = w
    root = adjacency.sum(1).rsqrt()
    expected = layer.linear(root[:, None] * adjacency * root @ x)
    plain = Transport(identity(dtype=torch.float64), transport.edge_index)
    assert relative(layer(x, plain, w), expected) < 1e-13


def test_an_edge_of_no_weight_is_no_edge():
    _, transport = sample()
    keep = torch.arange(30) != 7
    fewer = Transport(Frames(transport.frames.matrices), transport.edge_index[:, keep])
    x, w = randn(NUM_NODES, 7), torch.ones(30).double()
    w[7] = 0.0
    for layer in (gcn("4x0n+1x1n"), edge_conv("4x0n+1x1n")):
        args = (w,) if isinstance(layer, GCNConv) else (None, w)
        less = (w[keep],) if isinstance(layer, GCNConv) else (None, w[keep])
        assert relative(layer(x, transport, *args), layer(x, fewer, *less)) < 1e-13


def test_one_frame_may_serve_all_nodes():
    """A layer is as large as its features, not as its frames (`identity()` is one frame)."""
    _, transport = sample()
    layer, x = edge_conv("4x0n+1x1n"), randn(NUM_NODES, 7)
    plain = Transport(identity(dtype=torch.float64), transport.edge_index)
    eye = Frames(torch.eye(3).double().expand(NUM_NODES, 3, 3))
    assert relative(layer(x, plain), layer(x, Transport(eye, transport.edge_index))) < 1e-13


def test_edge_features_reach_the_network():
    torch.manual_seed(0)
    layer = EdgeConv("2x0n", "1x1n", nn.Linear(2 * 2 + 3, 3)).double()
    _, transport = sample()
    x, edge = randn(NUM_NODES, 2), randn(30, 3)
    expected = layer.network(torch.cat((x[transport.receiver], x[transport.sender], edge), -1))
    summed = torch.zeros(NUM_NODES, 3).double().index_add(0, transport.receiver, expected)
    assert relative(layer(x, transport, edge), summed) < 1e-13


def test_a_network_of_the_wrong_width_is_named():
    layer = EdgeConv("2x0n", "1x1n", nn.Linear(4, 5).double())
    with pytest.raises(ValueError, match=r'returns 5 numbers, but TensorReps\("1x1n"\) has 3'):
        layer(randn(NUM_NODES, 2), sample()[1])
