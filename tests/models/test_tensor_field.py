"""Tensor field networks from a description, and the same description between local frames."""

import pytest
import torch

from dreibein.models import (
    LoCaFormer,
    LocalFieldConfig,
    TensorFieldConfig,
    TensorNetConfig,
    build_potential,
    load_model,
    parse_config,
    save_model,
)
from dreibein.models.local_field import Convolution as LocalFieldConvolution
from dreibein.neighbors import attach_neighbors
from dreibein.o3 import parse_reps
from dreibein.systems import make_structure
from dreibein.testing import assert_rotation, assert_targets_turn

SIZES = {"layers": 2, "channels": 8, "num_radial": 6}
ATTENTION = TensorFieldConfig(
    irreps="4x0e+4x1o", interaction="attention", heads=2, layers=1, channels=8, num_radial=6
)


def structure(cutoff):
    pos = torch.randn(5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return attach_neighbors(make_structure(torch.tensor([1, 6, 8, 1, 1]), pos), cutoff)


def test_description_between_local_frames():
    local = ATTENTION.local()
    assert local.reps == "4x0e+4x1o"
    assert (local.layers, local.heads, local.channels) == (1, 2, 8)
    assert (local.attention, local.lmax, local.cutoff) == ("softmax", 2, 5.0)
    potential = build_potential(local, elements=(1, 6, 8))
    assert isinstance(potential.network, LoCaFormer)
    assert potential(structure(potential.cutoff))["forces"].isfinite().all()


def test_terms_and_edges_are_kept():
    config = TensorFieldConfig(radial="bessel", cutoff=4.0, lmax=3, terms=({"term": "zbl"},))
    local = config.local()
    assert (local.radial, local.cutoff, local.lmax) == ("bessel", 4.0, 3)
    assert local.terms == config.terms


FORMS = {
    "convolution": TensorFieldConfig(irreps="4x0e+4x1o", **SIZES),
    "correlation": TensorFieldConfig(irreps="4x0e+4x1o", correlation=3, **SIZES),
    "painn": TensorFieldConfig(irreps="4x0e+4x1o", interaction="painn", **SIZES),
    "egnn": TensorFieldConfig(irreps="4x0e+1x1o", interaction="egnn", **SIZES),
    "tensornet": TensorNetConfig(**SIZES),
}


@pytest.mark.parametrize("name", FORMS)
def test_both_forms_of_every_description(name, tmp_path):
    """One description, two networks of equal features, layers and edges; both make files."""
    config = FORMS[name]
    local = config.local()
    assert isinstance(local, LocalFieldConfig)
    assert local.interaction == name.replace("correlation", "convolution")
    assert (local.layers, local.cutoff, local.num_radial) == (2, 5.0, 6)
    assert local.correlation == getattr(config, "correlation", 1)
    irreps = getattr(config, "irreps", "8x2n")
    assert local.reps == irreps
    data = structure(config.cutoff)
    for each in (config, local):
        potential = build_potential(each, elements=(1, 6, 8), dtype=torch.float64)
        found = potential(data)
        save_model(potential, tmp_path / "model.safetensors")
        again = load_model(tmp_path / "model.safetensors")
        assert again.config == each
        assert torch.equal(again(data)["forces"], found["forces"])
        assert found["forces"].abs().max() > 1e-6


@pytest.mark.parametrize("name", FORMS)
def test_every_weight_of_the_local_form_matters(name):
    """No weight is without effect on the energy of an ion."""
    potential = build_potential(FORMS[name].local(), elements=(1, 6, 8), dtype=torch.float64)
    ion = structure(potential.cutoff)
    ion.charge = torch.ones(1, dtype=torch.float64)
    energy = potential.train()(ion, ("energy",))["energy"].sum()
    weights = dict(potential.named_parameters())
    gradients = torch.autograd.grad(energy, list(weights.values()), allow_unused=True)
    for key, gradient in zip(weights, gradients, strict=True):
        assert gradient is not None, key
        assert gradient.abs().max() > 0, key


def test_products_at_an_atom_are_of_the_stated_degree():
    """With correlation 3 the update is a cubic of the messages, with 1 it is linear."""
    for correlation in (1, 3):
        config = FORMS["correlation"].local().model_copy(update={"correlation": correlation})
        layer = LocalFieldConvolution(parse_reps(config.reps), config, 9).double()
        sums = torch.linspace(-1, 1, 8, dtype=torch.float64)[None]
        line = torch.arange(6, dtype=torch.float64)[:, None] * sums
        values = layer.products(line)
        assert values.diff(n=correlation, dim=0).abs().max() > 1e-3
        differences = values.diff(n=correlation + 1, dim=0)
        assert differences.abs().max() < 1e-9


def test_tensornet_without_a_local_form():
    with pytest.raises(ValueError, match="no charge_channels"):
        TensorNetConfig(charge_channels=2).local()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"irreps": "4x1o"}, "begin with scalars"),
        ({"irreps": "4x0e+3x1o", "interaction": "painn"}, "scalars and vectors"),
        ({"irreps": "4x0e+2x1o", "interaction": "egnn"}, "scalars and vectors"),
        ({"irreps": "4x0e+4x1o", "interaction": "painn", "correlation": 2}, "correlation is of"),
        ({"irreps": "4x0e+4x1o", "symmetry": "SO(3)"}, "add 0o"),
        ({"irreps": "4x0e", "targets": {"dipole": {}}}, "add 1o"),
        ({"irreps": "4x0e+3x1o", "interaction": "attention"}, "heads do not divide"),
    ],
)
def test_impossible_descriptions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TensorFieldConfig(**options)


@pytest.mark.parametrize("correlation", [1, 2])
def test_backends_agree(correlation):
    """The plain reference gives the same energies and forces as the compiled product."""
    config = parse_config(
        {"architecture": "tensor_field", "irreps": "4x0e+4x1o", "correlation": correlation,
         "layers": 2, "channels": 8, "num_radial": 6}
    )  # fmt: skip
    potential = build_potential(config, elements=(1, 6, 8), dtype=torch.float64)
    data = structure(potential.cutoff)
    fused = potential(data)
    for layer in potential.network.layers:
        forward = layer.product.forward
        layer.product.forward = lambda *inputs, f=forward: f(*inputs, backend="reference")
    plain = potential(data)
    for name in ("energy", "forces"):
        assert torch.dist(fused[name], plain[name]) < 1e-12


def test_pseudoscalars_make_a_chiral_energy():
    """SO(3) reads 0o into the energy: turns change nothing, a mirror does."""
    irreps = {"irreps": "2x0e+2x0o+2x1o+2x1e", "lmax": 1}
    torch.manual_seed(4)
    for symmetry, mirrored in (("O(3)", True), ("SO(3)", False)):
        config = TensorFieldConfig(symmetry=symmetry, **irreps, **SIZES | {"layers": 3})
        potential = build_potential(config, elements=(1, 6, 8), dtype=torch.float64)
        data = structure(potential.cutoff)
        assert_rotation(potential, data)
        mirror = data.clone()
        mirror.pos = -data.pos
        mirror = attach_neighbors(mirror, potential.cutoff)
        energies = [potential(each, ("energy",))["energy"].item() for each in (data, mirror)]
        assert (abs(energies[0] - energies[1]) < 1e-12) == mirrored


@pytest.mark.parametrize("form", ["tensor", "local"])
@pytest.mark.parametrize("name", FORMS)
def test_targets_of_every_form_turn(name, form):
    """Of irreps without 2e a polarizability is made of products of vectors."""
    targets = {"dipole": {}, "polarizability": {}}
    config = parse_config(FORMS[name].model_dump() | {"targets": targets})
    config = config.local() if form == "local" else config
    potential = build_potential(config, elements=(1, 6, 8), dtype=torch.float64)
    errors = assert_targets_turn(potential, structure(potential.cutoff))
    assert set(errors) == set(targets)


def test_elements_are_named_once():
    with pytest.raises(ValueError, match="named twice"):
        build_potential(TensorFieldConfig(irreps="4x0e+4x1o"), elements=(1, 8, 1))
