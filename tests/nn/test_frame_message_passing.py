"""Declared arguments arrive in the receiver's frame; nothing of a call stays on the layer."""

import copy

import pytest
import torch
from torch_geometric.nn import MessagePassing

from dreibein.frames import Frames, Transport
from dreibein.nn import FrameMessagePassing, LearnedTransition, carried
from dreibein.o3 import act, parse_reps
from nn.frame_samples import (
    NUM_NODES,
    REPS,
    edges,
    equivariance_error,
    randn,
    relative,
    sample,
)


class Nonlinear(FrameMessagePassing):
    """tanh of both ends: invariant only when x_j is written in the receiver's axes."""

    def __init__(self, reps):
        super().__init__({"x": reps})
        self.mix = torch.nn.Linear(2 * parse_reps(reps).dim, parse_reps(reps).dim).double()

    def forward(self, x, transport):
        return self.propagate(transport.edge_index, transport=transport, x=x)

    def message(self, x_i, x_j):
        return torch.tanh(self.mix(torch.cat((x_i, x_j), -1)))


class Arrived(FrameMessagePassing):
    """Returns what arrives at each edge."""

    def forward(self, x, transport, **more):
        return self.propagate(transport.edge_index, transport=transport, x=x, **more)

    def message(self, x_j):
        return x_j

    def aggregate(self, inputs):
        return inputs


class Uncarried(MessagePassing):
    """The mutant: a neighbor's features as the neighbor wrote them."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, transport):
        return self.propagate(transport.edge_index, x=x)

    def message(self, x_i, x_j):
        return self.layer.message(x_i, x_j)


def build(reps, seed=0):
    torch.manual_seed(seed)
    return Nonlinear(reps).double()


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("reps", REPS.values(), ids=REPS.keys())
def test_a_nonlinear_layer_is_equivariant(reps, reflect):
    assert equivariance_error(build(reps), reps, reps, "soft", reflect=reflect) < 1e-12


@pytest.mark.parametrize("reps", REPS.values(), ids=REPS.keys())
def test_hard_frames_too_under_rotations(reps):
    assert equivariance_error(build(reps), reps, reps, "gram_schmidt") < 1e-12


def test_a_layer_without_frames_is_caught():
    reps = REPS["cartesian"]
    assert equivariance_error(build(reps), reps, reps, "soft", bare=True) > 1e-2


def test_features_that_are_not_carried_depend_on_the_senders_axes():
    """Turning one sender's axes, and nothing else, changes what others read without (1)."""
    reps = parse_reps("1x0n+2x1n")
    layer = build("1x0n+2x1n")
    _, transport = sample("gram_schmidt")
    x = randn(NUM_NODES, reps.dim, seed=1)
    turn = torch.linalg.qr(randn(3, 3, seed=9))[0]
    matrices = transport.frames.matrices.clone()
    matrices[0] = turn @ matrices[0]
    other = x.clone()
    other[0] = act(reps, turn, x[0])
    again = Transport(Frames(matrices), transport.edge_index)
    assert relative(layer(other, again)[1:], layer(x, transport)[1:]) < 1e-12
    mutant = Uncarried(layer)
    assert relative(mutant(other, again)[1:], mutant(x, transport)[1:]) > 1e-2


def test_what_arrives_is_the_definition():
    reps = parse_reps(REPS["irreps"])
    _, transport = sample("gram_schmidt")
    x = randn(NUM_NODES, reps.dim)
    r, (j, i) = transport.frames.matrices, transport.edge_index
    expected = act(reps, r[i] @ r[j].mT, x[j])
    assert relative(Arrived({"x": reps})(x, transport), expected) < 1e-13


def test_the_decorator_and_the_class_agree():
    reps = parse_reps("2x0n+2x1n+1x2n")

    class Decorated(MessagePassing):
        def forward(self, x, transport):
            return self.propagate(transport.edge_index, transport=transport, x=x)

        @carried(x=reps)
        def message(self, x_i, x_j):
            return torch.tanh(x_i * x_j)

    class Classed(FrameMessagePassing):
        def forward(self, x, transport):
            return self.propagate(transport.edge_index, transport=transport, x=x)

        def message(self, x_i, x_j):
            return torch.tanh(x_i * x_j)

    for name in ("soft", "gram_schmidt"):
        _, transport = sample(name)
        x = randn(NUM_NODES, reps.dim)
        assert relative(Decorated()(x, transport), Classed({"x": reps})(x, transport)) < 1e-13


def test_edge_vectors_are_written_in_the_receivers_axes():
    class Vectors(Arrived):
        def message(self, x_j, r):
            return r

    _, transport = sample()
    r = randn(transport.edge_index.shape[1], 3)
    found = Vectors({"x": "1x0n"}, to_local={"r": "1x1n"})(
        torch.ones(NUM_NODES, 1).double(), transport, r=r
    )
    assert relative(found, transport.edges_to_local(parse_reps("1x1n"), r)) < 1e-15


def test_senders_and_receivers_may_be_other_nodes():
    reps = parse_reps("1x1n")
    _, here = sample(seed=1, num_nodes=3)
    _, there = sample(seed=2, num_nodes=2)
    edge_index = torch.tensor([[0, 1, 2, 2], [0, 0, 1, 0]])
    transport = Transport(here.frames, edge_index, targets=there.frames)

    class Sum(FrameMessagePassing):
        def forward(self, x, transport):
            return self.propagate(transport.edge_index, transport=transport, x=x)

        def message(self, x_i, x_j):
            return x_i * 0 + x_j

    x, y = randn(3, 3), randn(2, 3)
    expected = transport.sum(reps, x)
    assert relative(Sum({"x": reps})((x, y), transport), expected) < 1e-13


def test_nothing_stays_on_the_layer():
    layer = build(REPS["partly-learned"])
    before = {name: id(value) for name, value in vars(layer).items()}
    _, transport = sample()
    layer(randn(NUM_NODES, layer.carried["x"].dim), transport)
    assert {name: id(value) for name, value in vars(layer).items()} == before


def test_two_graphs_at_once_and_one_inside_the_other():
    """Calls do not see each other, before a backward pass or within one."""
    layer = build("1x0n+1x1n")

    class Nested(FrameMessagePassing):
        def forward(self, x, transport, other):
            return self.propagate(transport.edge_index, transport=transport, x=x, other=[other])

        def message(self, x_j, other):
            inner, transport = other[0]
            return x_j + layer(inner, transport).sum()

    (_, first), (_, second) = sample(seed=1), sample(seed=2)
    x = randn(NUM_NODES, 4).requires_grad_()
    alone = [torch.autograd.grad(layer(x, t).square().sum(), x)[0] for t in (first, second)]
    both = [layer(x, t).square().sum() for t in (first, second)]
    together = torch.autograd.grad(sum(both), x)[0]
    assert relative(together, alone[0] + alone[1]) < 1e-14
    nested = Nested({"x": "1x0n+1x1n"})
    expected = Arrived({"x": "1x0n+1x1n"})(x, first) + layer(x, second).sum()
    found = nested(x, first, (x, second))
    assert relative(found, torch.zeros_like(found).index_add(0, edges()[1], expected)) < 1e-14


def test_a_copy_uses_its_own_weights():
    layer = build("1x0n+1x1n")
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.mix.weight.zero_()
        twin.mix.bias.zero_()
    _, transport = sample()
    x = randn(NUM_NODES, 4)
    assert twin(x, transport).abs().max() == 0 < layer(x, transport).abs().max()


def test_derivatives_with_respect_to_features_and_frames():
    layer = build("1x0n+1x1n+1x2e")
    x = randn(3, 9).requires_grad_()
    matrices = randn(3, 3, 3, seed=3).requires_grad_()

    def run(x, matrices):
        return layer(x, Transport(Frames(matrices), edges(3)))

    assert torch.autograd.gradcheck(run, (x, matrices))
    assert torch.autograd.gradgradcheck(run, (x, matrices))


def test_errors():
    class Layer(FrameMessagePassing):
        def forward(self, x, transport=None, edge_index=None):
            edge_index = transport.edge_index if edge_index is None else edge_index
            return self.propagate(edge_index, transport=transport, x=x)

        def message(self, x_j, edge_weight=None):
            return x_j

    with pytest.raises(ValueError, match=r"Layer has no argument 'y_j' to carry.*'x_j'"):
        Layer({"y": "1x1n"})
    with pytest.raises(ValueError, match=r"no argument 'edge_wieght' .*'edge_weight'"):
        Layer({"x": "1x1n"}, to_local={"edge_wieght": "1x1n"})
    with pytest.raises(ValueError, match=r"no argument 'z_j'.*'x_j'"):
        carried(z="1x0n")(lambda self, x_j: x_j)
    with pytest.raises(ValueError, match="leave flow as it is"):
        Layer({"x": "1x1n"}, flow="target_to_source")
    layer, (_, transport) = Layer({"x": "1x1n"}), sample()
    with pytest.raises(ValueError, match=r'argument \'x\'.*TensorReps\("1x1n"\).*\[6, 4\]'):
        layer(randn(NUM_NODES, 4), transport)
    with pytest.raises(ValueError, match="Layer has no frames: pass transport"):
        layer(randn(NUM_NODES, 3), edge_index=edges())
    with pytest.raises(ValueError, match="2 edges meet a transport of 30"):
        layer(randn(NUM_NODES, 3), transport, edges(2))
    with pytest.raises(ValueError, match="carries 'x', but propagate was not given it"):
        layer.propagate(edges(), transport=transport)


def test_a_decorated_message_needs_frames():
    class Decorated(MessagePassing):
        def forward(self, x, transport):
            return self.propagate(edges(), transport=transport, x=x)

        @carried(x=lambda layer: parse_reps("1x1n"))
        def message(self, x_j):
            return x_j

    with pytest.raises(ValueError, match="message has no frames: pass transport"):
        Decorated()(randn(NUM_NODES, 3), None)


def test_parts_of_one_width_share_a_learned_map():
    assert len(LearnedTransition(parse_reps("m4+2x0e+m4+m6")).maps) == 2
