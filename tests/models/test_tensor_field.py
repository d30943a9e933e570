"""Tensor field networks from a description, and the same description between local frames."""

import pytest
import torch

from dreibein.models import LoCaFormer, TensorFieldConfig, build_potential, parse_config
from dreibein.neighbors import attach_neighbors
from dreibein.systems import make_structure

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
    convolution = ATTENTION.model_copy(update={"interaction": "convolution"})
    assert convolution.local().attention == "sum"


def test_terms_and_edges_are_kept():
    config = TensorFieldConfig(radial="bessel", cutoff=4.0, lmax=3, terms=({"term": "zbl"},))
    local = config.local()
    assert (local.radial, local.cutoff, local.lmax) == ("bessel", 4.0, 3)
    assert local.terms == config.terms


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"irreps": "4x1o"}, "begin with scalars"),
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


def test_elements_are_named_once():
    with pytest.raises(ValueError, match="named twice"):
        build_potential(TensorFieldConfig(irreps="4x0e+4x1o"), elements=(1, 8, 1))
