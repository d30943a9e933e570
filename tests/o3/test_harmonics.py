"""Solid harmonics against e3nn's spherical ones."""

import e3nn.o3
import pytest
import torch

from dreibein.o3 import Irreps, act, random_rotations, solid_harmonics


@pytest.mark.parametrize("normalization", ["component", "norm"])
def test_unit_vectors_agree_with_e3nn(normalization, generator):
    r = torch.nn.functional.normalize(torch.randn(100, 3, generator=generator), dim=-1)
    expected = e3nn.o3.spherical_harmonics(
        list(range(9)), r, normalize=False, normalization=normalization
    )
    assert torch.allclose(solid_harmonics(8, r, normalization=normalization), expected, atol=1e-13)


def test_they_turn_with_the_vector_and_scale_by_degree(generator):
    turn = random_rotations(1, generator=generator)[0] * -1
    r = torch.randn(7, 3, generator=generator)
    turned = solid_harmonics(6, r @ turn.mT)
    assert torch.allclose(turned, act(Irreps.harmonics(6), turn, solid_harmonics(6, r)), atol=1e-10)
    powers = torch.cat([torch.full((2 * l + 1,), 2.0**l) for l in range(7)])
    assert torch.allclose(solid_harmonics(6, 2 * r), powers * solid_harmonics(6, r), rtol=1e-12)


def test_derivatives_exist_at_zero_and_on_the_axis():
    for r in (torch.zeros(3), torch.tensor([0.0, 1.0, 0.0])):
        r.requires_grad_()
        assert torch.autograd.gradcheck(lambda r: solid_harmonics(4, r), r)
        assert torch.autograd.gradgradcheck(lambda r: solid_harmonics(3, r), r)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"vectors \[\.\.\., 3\]"):
        solid_harmonics(1, torch.zeros(4))
    with pytest.raises(ValueError, match="integral"):
        solid_harmonics(1, torch.zeros(3), normalization="integral")
