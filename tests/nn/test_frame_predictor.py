"""Learned frames turn with the structure, are smooth, and the same twice at symmetric sites."""

from functools import partial

import pytest
import torch
from ase.build import bulk, molecule

from dreibein.frames import gram_schmidt, polar, soft_frames
from dreibein.neighbors import attach_neighbors
from dreibein.nn import FramePredictor
from dreibein.nn.radial import radial_basis
from dreibein.systems import from_ase, make_structure
from dreibein.systems.graphs import make_graph
from nn.frame_samples import randn, relative, turns

CUTOFF = 4.0
CONSTRUCTIONS = {
    "soft": soft_frames,
    "gram_schmidt": partial(gram_schmidt, group="O(3)"),
    "polar": partial(polar, group="O(3)"),
}


def predictor(construct=soft_frames):
    torch.manual_seed(0)
    weights = torch.nn.Sequential(
        torch.nn.Linear(2 * 3 + 8, 16), torch.nn.SiLU(), torch.nn.Linear(16, 3)
    )
    return FramePredictor(weights.double(), CUTOFF, construct=construct)


def frames(predictor, structure, pos=None):
    structure = attach_neighbors(structure, CUTOFF)
    pos = structure.pos if pos is None else pos
    graph = make_graph(structure, pos, structure.cell, torch.float64)
    scalars = torch.stack([graph.z / 10, (graph.z == 1).double(), graph.z**0.5], -1)
    lengths = graph.vectors.norm(dim=-1)
    radial = radial_basis("expnorm", CUTOFF, 8)(lengths)
    return predictor(scalars, radial, graph.vectors, graph.edge_index)


def cluster(seed=0):
    pos = 1.5 * randn(6, 3, seed=seed) + torch.arange(6)[:, None] * 0.3
    return make_structure([1, 6, 8, 1, 6, 7], pos)


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("construct", CONSTRUCTIONS.values(), ids=CONSTRUCTIONS.keys())
def test_frames_turn_with_the_structure(construct, reflect):
    structure = cluster()
    before = frames(predictor(construct), structure).matrices
    for g in turns(reflect):
        turned = make_structure(structure.z, structure.pos @ g.T)
        assert relative(frames(predictor(construct), turned).matrices, before @ g.T) < 1e-12


def test_weights_that_see_the_axes_are_caught():
    class Mutant(FramePredictor):
        def vectors(self, scalars, radial, vectors, edge_index):
            return super().vectors(scalars, radial * vectors[:, :1], vectors, edge_index)

    mutant = Mutant(predictor().weights, CUTOFF)
    structure, g = cluster(), turns(False)[0]
    turned = make_structure(structure.z, structure.pos @ g.T)
    before = frames(mutant, structure).matrices
    assert relative(frames(mutant, turned).matrices, before @ g.T) > 1e-3


@pytest.mark.parametrize(
    ("structure", "site", "rank"),
    [
        (molecule("H2O"), 0, 1),
        (molecule("CH4"), 0, 0),
        (molecule("NH3"), 0, 1),
        (molecule("CO2"), 0, 0),
        (molecule("C6H6"), 0, 1),
        (bulk("Cu"), 0, 0),
        (bulk("C"), 0, 0),
    ],
    ids=["H2O", "CH4", "NH3", "CO2", "C6H6", "Cu", "diamond"],
)
def test_symmetric_sites_keep_what_symmetry_permits(structure, site, rank):
    """As many axes as the site's group leaves fixed, twice the same, with finite derivatives."""
    structure, soft = from_ase(structure), predictor()
    pos = structure.pos.clone().requires_grad_()
    first, second = frames(soft, structure, pos).matrices, frames(soft, structure).matrices
    assert torch.equal(first, second)
    values = torch.linalg.svdvals(first.detach()[site])
    assert int((values > 1e-6).sum()) == rank
    (gradient,) = torch.autograd.grad(first.square().sum(), pos, create_graph=True)
    assert torch.isfinite(gradient).all()
    assert torch.isfinite(torch.autograd.grad(gradient.square().sum(), pos)[0]).all()


def test_a_neighbor_enters_smoothly():
    """Value, slope and curvature of the matrices do not jump at the cutoff."""
    soft, h = predictor(), 1e-3
    base = torch.tensor([[0.0, 0, 0], [1.1, 0.2, 0], [-0.3, 1.2, 0.4], [0.5, -0.4, 1.3]])

    def site(x):
        pos = torch.cat((base.double(), torch.tensor([[x, 0.0, 0.0]]).double()))
        return frames(soft, make_structure([6, 1, 8, 1, 1], pos)).matrices[0]

    inside = [site(CUTOFF - k * h) for k in (1, 2, 3, 4)]
    outside = site(CUTOFF + h)
    assert (inside[0] - outside).abs().max() < 1e-7
    curvature = (inside[0] - 2 * inside[1] + inside[2]) / h**2
    assert curvature.abs().max() < 0.05
    assert (site(CUTOFF - 1.0) - outside).abs().max() > 1e-2


def test_an_atom_alone_has_no_frame():
    alone = make_structure([6], torch.zeros(1, 3).double())
    assert frames(predictor(), alone).matrices.abs().max() == 0
