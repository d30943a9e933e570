"""Edge vectors are r_ij = x_j + S·cell - x_i, formed in float64 and then cast."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dreibein.neighbors import attach_neighbors, find_neighbors
from dreibein.systems import batch_index, edge_vectors, join, make_graph, make_structure
from dreibein.testing import sample_crystal, sample_molecule

CUTOFF = 3.0
CRYSTAL = attach_neighbors(sample_crystal((1, 8), 3, seed=1), CUTOFF)
MOLECULE = attach_neighbors(sample_molecule((1, 8), 4, charge=1.0, seed=2), CUTOFF)
ZEROS = torch.zeros(3, dtype=torch.int64)


def test_by_the_definition():
    vectors = edge_vectors(CRYSTAL.pos, CRYSTAL.cell, CRYSTAL.edge_index, CRYSTAL.shift, ZEROS)
    for e, (j, i) in enumerate(CRYSTAL.edge_index.T.tolist()):
        image = sum(CRYSTAL.shift[e, k] * CRYSTAL.cell[0, k] for k in range(3))
        expected = CRYSTAL.pos[j] + image - CRYSTAL.pos[i]
        assert torch.allclose(vectors[e], expected, rtol=0, atol=1e-14)
    assert float(vectors.norm(dim=1).max()) < CUTOFF


def test_agrees_with_the_neighbor_list():
    pairs = find_neighbors(CRYSTAL.pos, CRYSTAL.cell, CRYSTAL.pbc, CUTOFF)
    expected = pairs.vectors(CRYSTAL.pos, CRYSTAL.cell)
    found = edge_vectors(CRYSTAL.pos, CRYSTAL.cell, pairs.edge_index, pairs.shift, ZEROS)
    assert torch.allclose(found, expected, rtol=0, atol=1e-14)


def test_opposite_edges_are_opposite():
    vectors = make_graph(CRYSTAL, CRYSTAL.pos, CRYSTAL.cell, torch.float64).vectors
    assert torch.allclose(vectors.sum(0), torch.zeros(3).double(), atol=1e-12)


def test_differentiable_in_positions_and_cell():
    def vectors(pos, cell):
        return edge_vectors(pos, cell, CRYSTAL.edge_index, CRYSTAL.shift, ZEROS)

    inputs = (CRYSTAL.pos.clone().requires_grad_(), CRYSTAL.cell.clone().requires_grad_())
    assert torch.autograd.gradcheck(vectors, inputs)


@given(order=st.permutations(range(4)))
def test_a_batch_uses_each_structures_own_cell(order):
    parts = [
        CRYSTAL,
        MOLECULE,
        attach_neighbors(sample_crystal((1,), 1, seed=4), CUTOFF),
        attach_neighbors(sample_crystal((8,), 2, pbc=(True, False, False), seed=5), CUTOFF),
    ]
    parts = [parts[k] for k in order]
    batch = join(parts)
    graph = make_graph(batch, batch.pos, batch.cell, torch.float64)
    each = [make_graph(part, part.pos, part.cell, torch.float64) for part in parts]
    assert torch.equal(graph.vectors, torch.cat([g.vectors for g in each]))
    assert torch.equal(graph.charge, torch.cat([g.charge for g in each]))
    assert graph.num_structures == 4
    assert graph.num_atoms == sum(g.num_atoms for g in each)
    assert (graph.receiver.diff() >= 0).all()
    assert torch.equal(graph.batch[graph.sender], graph.batch[graph.receiver])


def test_a_single_structure_is_a_batch_of_one():
    batch, count = batch_index(MOLECULE)
    assert count == 1
    assert batch.tolist() == [0] * 4
    joined = join([MOLECULE])
    one = make_graph(MOLECULE, MOLECULE.pos, MOLECULE.cell, torch.float64)
    same = make_graph(joined, joined.pos, joined.cell, torch.float64)
    assert torch.equal(one.vectors, same.vectors)
    assert torch.equal(one.batch, same.batch)
    assert one.charge.tolist() == same.charge.tolist() == [1.0]


def test_vectors_are_formed_before_the_cast():
    """In float32 the difference of positions 1000 Å away would be off by 1e-5 Å and more."""
    far = attach_neighbors(make_structure(MOLECULE.z, MOLECULE.pos + 1000.0), CUTOFF)
    near = make_graph(MOLECULE, MOLECULE.pos, MOLECULE.cell, torch.float32).vectors
    away = make_graph(far, far.pos, far.cell, torch.float32).vectors
    assert away.dtype == torch.float32
    assert float((near - away).abs().max()) < 3e-7
    naive = edge_vectors(far.pos.float(), far.cell, far.edge_index, far.shift, ZEROS)
    assert float((near - naive).abs().max()) > 1e-5


def test_without_neighbors_it_says_what_to_call():
    lonely = make_structure([1], torch.zeros(1, 3))
    with pytest.raises(ValueError, match="attach_neighbors"):
        make_graph(lonely, lonely.pos, lonely.cell, torch.float64)


def test_a_structure_without_charge_is_neutral():
    bare = MOLECULE.clone()
    del bare.charge
    graph = make_graph(bare, bare.pos, bare.cell, torch.float32)
    assert graph.charge.tolist() == [0.0]
    assert graph.charge.dtype == torch.float32
