"""Functions of an edge in its receiver's frame: invariant, smooth, their input left alone."""

import math

import pytest
import torch

from dreibein.frames import Transport
from dreibein.nn import (
    AxialBessel,
    AxialGaussian,
    Bessel,
    EdgeEmbedding,
    HarmonicEmbedding,
    SphereEmbedding,
    UnitEmbedding,
)
from dreibein.nn.embeddings import fibonacci_sphere
from dreibein.o3 import Irreps, act, solid_harmonics
from nn.frame_samples import frames_of, randn, relative, sample, turns

EMBEDDINGS = {
    "harmonics": HarmonicEmbedding(3),
    "unit": UnitEmbedding(),
    "sphere": SphereEmbedding(20),
    "axial-gaussian": AxialGaussian(5.0, 6),
    "axial-bessel": AxialBessel(5.0, 5),
}
ALL = pytest.mark.parametrize("embedding", EMBEDDINGS.values(), ids=EMBEDDINGS.keys())
VECTOR = Irreps("1x1o")


@ALL
@pytest.mark.parametrize("name", ["soft", "gram_schmidt"])
def test_invariant_in_the_local_frame(embedding, name):
    vectors, transport = sample(name)
    r = randn(transport.edge_index.shape[1], 3, seed=2)
    before = embedding(transport.edges_to_local(VECTOR, r))
    for g in turns(reflect=name == "soft"):
        turned = Transport(frames_of(name, vectors @ g.T), transport.edge_index)
        assert relative(embedding(turned.edges_to_local(VECTOR, r @ g.T)), before) < 1e-12
        assert relative(embedding(r @ g.T), embedding(r)) > 1e-2  # without a frame


@ALL
def test_the_input_is_left_alone(embedding):
    r = randn(7, 3)
    kept = r.clone()
    embedding(r)
    assert torch.equal(r, kept)


@ALL
def test_width_type_and_derivatives(embedding):
    r = randn(4, 3, seed=3)
    r[0] = 0.0
    assert embedding(r).shape == (4, embedding.dim)
    assert embedding(r.float()).dtype == torch.float32
    r.requires_grad_()
    if not isinstance(embedding, UnitEmbedding):
        assert torch.autograd.gradgradcheck(embedding, r)
    assert torch.autograd.gradcheck(embedding, r)


@ALL
def test_a_direction_and_its_opposite_differ(embedding):
    r = randn(3, 3)
    assert relative(embedding(-r), embedding(r)) > 1e-2


def test_harmonics_are_those_of_the_group():
    r = torch.nn.functional.normalize(randn(5, 3), dim=-1)
    found = HarmonicEmbedding(3)(r)
    assert torch.equal(found, solid_harmonics(3, r))
    g = turns(True)[0]
    turned = act(Irreps.harmonics(3), g, found)
    assert relative(HarmonicEmbedding(3)(r @ g.T), turned) < 1e-13


def test_sphere_gaussians_are_distances_to_the_points():
    r = randn(5, 3)
    embedding = SphereEmbedding(12)
    squared = torch.cdist(r, embedding.points).square()
    assert relative(embedding(r), torch.exp(-squared / (2 * embedding.width**2))) < 1e-12


def test_points_are_spread_evenly():
    points = fibonacci_sphere(200)
    assert points.mean(0).norm() < 1e-2
    nearest = (torch.cdist(points, points) + 10 * torch.eye(200)).amin(1)
    assert nearest.min() > 0.7 * math.sqrt(4 * math.pi / 200)


def test_an_edge_embedding_joins_or_multiplies():
    lengths, units, vectors = randn(4).abs() + 0.5, randn(4, 3, seed=1), randn(4, 3, seed=2)
    radial, angular, axial = Bessel(5.0, 3), UnitEmbedding(), AxialGaussian(5.0, 2)
    joined = EdgeEmbedding(radial, 3, angular, axial)
    found = joined(lengths, units, vectors)
    assert found.shape == (4, joined.dim) == (4, 3 + 3 + 6)
    assert torch.equal(found[:, :3], radial(lengths))
    assert torch.equal(found[:, 3:6], units)
    product = EdgeEmbedding(radial, 3, angular, axial, product=True)
    found = product(lengths, units, vectors)
    assert found.shape == (4, product.dim) == (4, 9 + 6)
    outer = torch.einsum("er,ea->era", radial(lengths), units)
    assert torch.equal(found[:, :9], outer.flatten(1))


def test_errors():
    with pytest.raises(ValueError, match="needs angular ones"):
        EdgeEmbedding(Bessel(5.0, 3), 3, product=True)
    with pytest.raises(ValueError, match="num_axial >= 2, got 1"):
        AxialGaussian(5.0, 1)
    with pytest.raises(ValueError, match="num_axial >= 2, got 1"):
        AxialBessel(5.0, 1)
