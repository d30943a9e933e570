"""TensorNet's parts: packed tensors, parameter counts, options, refusals."""

import pytest
import torch
from pydantic import ValidationError

from dreibein.models import TensorNetConfig, build_potential, parse_config
from dreibein.models.tensornet.edges import edge_tensors
from dreibein.models.tensornet.network import (
    ChannelMixing,
    block_norms,
    matrix_product,
    squared_norm,
)
from dreibein.models.tensornet.packing import BLOCKS, Packing, matrix_basis
from dreibein.neighbors import attach_neighbors
from dreibein.systems import make_structure
from dreibein.testing import random_rotation, sample_molecule
from dreibein.testing.probing import predict

X = torch.randn(4, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.randn(4, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


PACKING = Packing().double()
matrices, components = PACKING.matrices, PACKING.components


def count(potential) -> int:
    return sum(p.numel() for p in potential.parameters())


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
@pytest.mark.parametrize(("channels", "num_radial"), [(8, 4), (16, 10), (128, 32)])
@pytest.mark.parametrize("num_elements", [1, 5])
def test_number_of_parameters(layers, channels, num_radial, num_elements):
    """F channels, R radial functions, L layers, one row of the table per element that occurs:

    embedding 3RF + elements·F + 13F² + 11F; layer RF + 14F² + 6F; output 3F² + 7F;
    head F²/2 + F + 1 (F even).
    """
    config = TensorNetConfig(channels=channels, layers=layers, num_radial=num_radial)
    found = count(build_potential(config, elements=tuple(range(1, num_elements + 1))))
    f, r = channels, num_radial
    embedding = 3 * r * f + num_elements * f + 13 * f**2 + 11 * f
    layer = r * f + 14 * f**2 + 6 * f
    assert found == embedding + layers * layer + 3 * f**2 + 7 * f + f * f // 2 + f + 1


@pytest.mark.parametrize(
    ("layers", "num_radial", "rows", "published"),
    [
        (0, 32, 128, 301_441),
        (1, 32, 128, 535_681),
        (2, 32, 128, 769_921),
        (3, 32, 128, 1_004_161),
        (2, 32, 100, 766_337),
        (2, 64, 128, 790_401),
    ],
)
def test_published_counts_but_for_the_element_table(layers, num_radial, rows, published):
    """Published networks have a row for 100 or 128 elements; ours for those that occur."""
    config = TensorNetConfig(channels=128, layers=layers, num_radial=num_radial)
    ours = count(build_potential(config, elements=(1, 6, 8)))
    assert ours == published - (rows - 3) * 128


def test_the_basis_is_orthonormal():
    basis = matrix_basis().flatten(1)
    assert torch.allclose(basis @ basis.T, torch.eye(9).double(), atol=1e-15)


def test_the_basis_is_exact_after_a_trip_through_float32():
    there_and_back = Packing().float().double()
    assert torch.equal(there_and_back.basis, matrix_basis().flatten(1))


def test_spread_repeats_a_number_for_each_component_of_its_block():
    spread = PACKING.spread(torch.tensor([[[1.0], [2.0], [3.0]]]))
    assert spread.flatten().tolist() == [1.0] + [2.0] * 3 + [3.0] * 5


def test_packing_and_unpacking_are_inverse():
    assert torch.allclose(components(matrices(X)), X, atol=1e-14)


def test_the_blocks_are_trace_antisymmetric_and_symmetric_traceless():
    start = 0
    for size, law in zip(BLOCKS, ("I", "A", "S"), strict=True):
        only = torch.zeros_like(X)
        only[:, start : start + size] = X[:, start : start + size]
        m = matrices(only)
        trace = m.diagonal(dim1=1, dim2=2).sum(-1)
        if law == "I":
            eye = torch.eye(3).double()[None, :, :, None]
            assert torch.allclose(m, eye * trace[:, None, None] / 3, atol=1e-14)
        elif law == "A":
            assert torch.allclose(m, -m.transpose(1, 2), atol=1e-14)
        else:
            assert torch.allclose(m, m.transpose(1, 2), atol=1e-14)
            assert trace.abs().max() < 1e-14
        start += size


def test_norms_are_frobenius_norms():
    expected = matrices(X).square().sum((1, 2))
    assert torch.allclose(squared_norm(X), expected, atol=1e-13)
    assert torch.allclose(block_norms(X).sum(1), expected, atol=1e-13)


def test_matrix_product_is_that_of_each_channel():
    expected = torch.einsum("nabf,nbcf->nacf", matrices(X), matrices(Y))
    assert torch.allclose(matrix_product(matrices(X), matrices(Y)), expected, atol=1e-13)


def test_edge_tensors_are_unit_cross_and_dyad():
    r = torch.nn.functional.normalize(X[:, :3, 0], dim=1)
    packed = edge_tensors(r)
    zero = torch.zeros_like(r[:, 0])
    x, y, z = r.T
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).view(-1, 3, 3)
    eye = torch.eye(3).double()
    dyad = r[:, :, None] * r[:, None] - eye / 3
    found = matrices(packed[..., None])[..., 0]
    parts = packed.split(BLOCKS, dim=1)
    assert torch.allclose(found, eye + cross + dyad, atol=1e-14)
    assert torch.allclose(parts[0], torch.full_like(parts[0], 3**0.5))


def test_edge_tensors_turn_as_matrices():
    rotation = random_rotation(3)
    r = X[:, :3, 0]
    turned = matrices(edge_tensors(r @ rotation.T)[..., None])[..., 0]
    plain = matrices(edge_tensors(r)[..., None])[..., 0]
    assert torch.allclose(turned, rotation @ plain @ rotation.T, atol=1e-13)


def test_mixing_keeps_the_blocks_apart():
    mix = ChannelMixing(3).double()
    start = 0
    for size in BLOCKS:
        only = torch.zeros_like(X)
        only[:, start : start + size] = 1.0
        out = mix(only).detach()
        outside = torch.ones(9, dtype=torch.bool)
        outside[start : start + size] = False
        assert not out[:, outside].any()
        start += size


def tiny(**options):
    torch.manual_seed(0)
    config = TensorNetConfig(**({"channels": 8, "num_radial": 4, "cutoff": 3.0} | options))
    return build_potential(config, elements=(1, 8), dtype=torch.float64)


def test_charge_counts_from_the_first_layer_on():
    neutral, ion = (sample_molecule((1, 8), 4, charge=q, seed=1) for q in (0.0, 1.0))
    for layers, differs in ((0, False), (1, True), (2, True)):
        a, b = predict(tiny(layers=layers), [neutral, ion])
        assert (abs(float(a["energy"] - b["energy"])) > 1e-9) == differs


def test_the_order_of_elements_is_only_a_label():
    """Rows of the table are exchanged with the elements: the same function."""
    one = tiny()
    config = one.config
    other = build_potential(config, elements=(8, 1), dtype=torch.float64)
    weights = one.network.state_dict()
    table = "embedding.element.weight"
    other.network.load_state_dict(weights | {table: weights[table].flip(0)})
    molecule = sample_molecule((1, 8), 5, seed=2)
    a, b = (predict(p, [molecule])[0]["energy"] for p in (one, other))
    assert float(a) == float(b)


def test_elements_of_atomic_number_zero_and_gaps():
    config = TensorNetConfig(channels=4, layers=0, num_radial=4)
    potential = build_potential(config, elements=(0, 118))
    found = potential(attach_neighbors(make_structure([118, 0], torch.eye(3)[:2]), 5.0))
    assert torch.isfinite(found["forces"]).all()


@pytest.mark.parametrize("elements", [(), (-1,), (119,), (1, 200)])
def test_wrong_elements_are_refused(elements):
    with pytest.raises(ValueError, match="atomic numbers in 0"):
        build_potential(TensorNetConfig(channels=4), elements=elements)


def test_repeated_elements_are_refused():
    with pytest.raises(ValueError, match="twice"):
        build_potential(TensorNetConfig(channels=4), elements=(1, 8, 1))


@pytest.mark.parametrize(
    "wrong",
    [{"channels": 1}, {"layers": -1}, {"cutoff": 0.0}, {"radial": "besel"}, {"chanels": 8},
     {"symmetry": "O3"}, {"num_radial": 1}, {"knots": 5}, {"cutoff": float("nan")}],
)  # fmt: skip
def test_wrong_hyperparameters_are_refused(wrong):
    with pytest.raises(ValidationError):
        TensorNetConfig(**wrong)


def test_odd_channels_work():
    assert torch.isfinite(predict(tiny(channels=7), [sample_molecule((1, 8), 3)])[0]["energy"])


def test_configurations_by_name():
    assert parse_config({"channels": 16}) == TensorNetConfig(channels=16)
    values = TensorNetConfig(layers=1, radial="bessel").model_dump()
    assert parse_config(values) == TensorNetConfig(layers=1, radial="bessel")
    with pytest.raises(ValueError, match="unknown architecture 'tensornett': use tensornet"):
        parse_config({"architecture": "tensornett"})


def test_a_configuration_is_frozen():
    with pytest.raises(ValidationError):
        TensorNetConfig().channels = 3


def test_same_seed_same_weights():
    one, two = tiny(), tiny()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
