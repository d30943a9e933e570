"""Layers that need no frames: they commute with O(3), and are what e3nn's are where it has them."""

import pytest
import torch

from dreibein.nn.transfer import EquivariantLinear, EquivariantNorm, Gate, NodeProduct
from dreibein.o3 import Irreps, act, random_rotations

IRREPS = Irreps("4x0e+4x0o+4x1o+4x1e+4x2e")
LAYERS = {
    "linear": EquivariantLinear(IRREPS, Irreps("3x1o+5x0e+2x2e+1x1o+1x3o")).double(),
    "norm": EquivariantNorm(IRREPS).double(),
    "gate": Gate(IRREPS).double(),
    "square": NodeProduct(IRREPS).double(),
}


@pytest.mark.parametrize("name", LAYERS)
def test_equivariant(name):
    layer = LAYERS[name]
    inputs = layer.irreps_in if name in ("linear", "gate") else layer.irreps
    outputs = layer.irreps_out if name == "linear" else layer.irreps
    x = torch.randn(5, inputs.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    function = (lambda x: layer(x, x)) if name == "square" else layer
    for turn in random_rotations(3, generator=torch.Generator().manual_seed(1), improper=True):
        found = function(act(inputs, turn, x))
        assert torch.dist(found, act(outputs, turn, function(x))) < 1e-12


def test_linear_is_that_of_e3nn():
    o3 = pytest.importorskip("e3nn.o3")
    ours = EquivariantLinear(Irreps("4x0e+3x1o+2x1o"), Irreps("5x1o"), bias=False).double()
    theirs = o3.Linear("4x0e+3x1o+2x1o", "5x1o", f_out=None).double()
    weights = ours.weights["0"].detach() * 5**0.5
    with torch.no_grad():
        theirs.weight.copy_(torch.cat([weights[:3].flatten(), weights[3:].flatten()]))
    x = torch.randn(6, 19, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.dist(ours(x), theirs(x)) < 1e-5  # e3nn keeps its norm in float32


def test_norm_is_smooth_at_zero():
    layer = LAYERS["norm"]
    x = torch.zeros(1, IRREPS.dim, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert gradient.isfinite().all()
    assert second.isfinite().all()


def test_unequal_channels_are_refused():
    with pytest.raises(ValueError, match="equal channels"):
        NodeProduct(Irreps("4x0e+3x1o"))
