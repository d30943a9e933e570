"""Cartesian tensors as irreps: orthogonal, equivariant, e3nn's basis."""

import e3nn.io
import e3nn.o3
import pytest
import torch

from dreibein.o3 import Irreps, TensorReps, act, bridge, random_rotations, solid_harmonics

TEXTS = ("2x0n+1x0p", "3x1n+2x1p", "2x2n+1x2p", "2x3n+1x3p", "1x4n+1x4p", "3x1n+1x4p+2x2n+1x0p")


def check_intertwining(forward, generator: torch.Generator) -> None:
    """to_irreps(act(T)) = act(to_irreps(T))."""
    for text in TEXTS:
        reps = TensorReps(text)
        for turn in random_rotations(3, generator=generator, improper=True):
            x = torch.randn(4, reps.dim, generator=generator)
            left = forward(reps, act(reps, turn, x))
            right = act(bridge.decompose(reps), turn, forward(reps, x))
            assert torch.allclose(left, right, atol=1e-12)


def test_the_bridge_intertwines_the_two_actions(generator):
    check_intertwining(bridge.to_irreps, generator)


@pytest.mark.parametrize(
    "mutant",
    [
        lambda reps, x: bridge.to_irreps(reps, x).flip(-1),
        lambda reps, x: x,
        lambda reps, x: bridge.to_irreps(reps, x).roll(1, -1),
    ],
)
def test_the_law_catches(mutant, generator):
    with pytest.raises(AssertionError):
        check_intertwining(mutant, generator)


@pytest.mark.parametrize("text", TEXTS)
def test_it_is_an_isometry_with_an_inverse(text, generator):
    reps = TensorReps(text)
    x = torch.randn(5, reps.dim, generator=generator)
    y = bridge.to_irreps(reps, x)
    assert y.shape[-1] == bridge.decompose(reps).dim == reps.dim
    assert torch.allclose(y.norm(dim=-1), x.norm(dim=-1), atol=1e-12)
    assert torch.allclose(bridge.to_cartesian(reps, y), x, atol=1e-13)


def test_known_decompositions():
    assert bridge.decompose(TensorReps("2n")) == Irreps("0e+1e+2e")
    assert bridge.decompose(TensorReps("3n")) == Irreps("0o+3x1o+2x2o+3o")
    assert bridge.decompose(TensorReps("4n")) == Irreps("3x0e+6x1e+6x2e+3x3e+4e")
    assert bridge.decompose(TensorReps("2p")) == Irreps("0o+1o+2o")


def test_a_symmetric_matrix_has_e3nns_components(generator):
    matrix = torch.randn(3, 3, generator=generator)
    symmetric = matrix + matrix.mT
    expected = e3nn.io.CartesianTensor("ij=ji").from_cartesian(symmetric)
    found = bridge.to_irreps(TensorReps("2n"), symmetric.flatten())
    assert torch.allclose(found[4:], expected[1:], atol=1e-6)
    exact = torch.einsum("ijm,ij->m", e3nn.o3.wigner_3j(1, 1, 2), symmetric) * 5**0.5
    assert torch.allclose(found[4:], exact, atol=1e-13)
    assert torch.allclose(found[0], symmetric.trace() / 3**0.5, atol=1e-13)
    assert torch.allclose(found[1:4], torch.zeros(3), atol=1e-13)


def test_the_antisymmetric_part_is_the_cross_product(generator):
    a, b = torch.randn(2, 3, generator=generator)
    found = bridge.to_irreps(TensorReps("2n"), torch.outer(a, b).flatten())
    assert torch.allclose(found[1:4], torch.linalg.cross(a, b) / 2**0.5, atol=1e-13)


@pytest.mark.parametrize("l", range(1, 5))
def test_the_traceless_part_of_a_power_is_the_harmonic(l, generator):
    r = torch.randn(3, generator=generator)
    power = r
    for _ in range(l - 1):
        power = torch.outer(power, r).flatten()
    harmonic = solid_harmonics(l, r, normalization="norm")[l * l :]
    embedded = bridge.symmetric_traceless(l).mT @ power
    assert torch.allclose(embedded / embedded.norm(), harmonic / harmonic.norm(), atol=1e-13)


def test_wrong_widths_name_the_representation():
    with pytest.raises(ValueError, match="2x2n"):
        bridge.to_irreps(TensorReps("2x2n"), torch.zeros(17))
    with pytest.raises(ValueError, match="2x0e"):
        bridge.to_cartesian(TensorReps("2x2n"), torch.zeros(17))
