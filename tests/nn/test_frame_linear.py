"""Linear layers conditioned on edge, head and element, against their definitions."""

import torch

from dreibein.nn import EdgeLinear, HeadedLinear, SpeciesLinear
from nn.frame_samples import randn, relative


def test_edge_linear_is_bilinear_of_limited_rank():
    layer = EdgeLinear(4, 5, 3).double()
    x, e = randn(6, 4), randn(6, 3, seed=1)
    w1, w2 = layer.edge, layer.mix
    matrix = torch.einsum("ok,ek->eok", w2.weight, e @ w1.weight.T + w1.bias)
    expected = torch.einsum("eok,ek->eo", matrix, x) + w2.bias
    assert relative(layer(x, e), expected) < 1e-13


def test_each_head_has_its_matrix():
    layer = HeadedLinear(3, 4, 2).double()
    x = randn(5, 3, 4)
    for h in range(3):
        expected = x[:, h] @ layer.weight[h] + layer.bias[h]
        assert relative(layer(x)[:, h], expected) < 1e-14
    plain = HeadedLinear(3, 4, 2, bias=False).double()
    assert plain(torch.zeros(5, 3, 4).double()).abs().max() == 0


def test_each_element_has_its_matrix():
    layer = SpeciesLinear(3, 4, 2).double()
    x, species = randn(5, 4).requires_grad_(), torch.tensor([2, 0, 2, 2, 0])
    found = layer(x, species)
    for k, row in enumerate(species.tolist()):
        assert relative(found[k], x[k] @ layer.weight[row] + layer.bias[row]) < 1e-14
    found.square().sum().backward()
    assert layer.weight.grad[1].abs().max() == 0 < layer.weight.grad[2].abs().max()
