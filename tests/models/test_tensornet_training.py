"""The fused training pass gives what autograd gives twice over the reference."""

import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dreibein.models import TensorNetConfig, build_potential
from dreibein.models.tensornet.edges import features_at_nodes
from dreibein.models.tensornet.filters import table_of
from dreibein.models.tensornet.gradients import energies_and_pull, in_threads
from dreibein.neighbors import attach_neighbors
from dreibein.systems import join, make_structure
from dreibein.systems.graphs import make_graph
from dreibein.testing import sample_molecule

CUTOFF = 3.5
OPTIONS = [
    {"layers": 0},
    {"layers": 1},
    {"layers": 2, "knots": 11},
    {"layers": 1, "symmetry": "SO(3)"},
    {"layers": 1, "envelope": "cosine", "radial": "bessel"},
    {"layers": 1, "radial": "gaussian"},
    {"layers": 1, "self_loops": False, "charge_scale": 0.3},
]


def potential(dtype=torch.float64, **options):
    sizes = {"channels": 16, "num_radial": 6, "cutoff": CUTOFF, "knots": 24}
    torch.manual_seed(0)
    config = TensorNetConfig(**(sizes | options))
    return build_potential(config, elements=(1, 6, 8), scale=1.5, dtype=dtype).train()


def batch(sizes=(30, 5, 1, 40, 17), seed=0):
    return join(
        [
            attach_neighbors(
                sample_molecule((1, 6, 8), n, seed=seed + k, charge=float(k % 3 - 1)), CUTOFF
            )
            for k, n in enumerate(sizes)
        ]
    )


def crystal():
    cell = torch.tensor([[4.0, 0.0, 0.0], [0.5, 4.2, 0.0], [0.3, 0.2, 3.9]], dtype=torch.float64)
    pos = torch.tensor([[0.1, 0.2, 0.3], [1.9, 2.0, 1.7], [0.3, 2.2, 2.1]], dtype=torch.float64)
    return attach_neighbors(make_structure([8, 1, 6], pos, cell=cell, pbc=True), CUTOFF)


def relative(a, b):
    return float((a - b).detach().abs().max() / b.detach().abs().max().clamp(min=1e-12))


def errors(network, structures, seed=0):
    """Largest relative differences of energies, pull and parameter gradients."""
    dtype = next(network.parameters()).dtype
    graph = make_graph(structures, structures.pos, structures.cell, dtype)
    vectors = graph.vectors.clone().requires_grad_()
    energies = network(dataclasses.replace(graph, vectors=vectors))
    (pull,) = torch.autograd.grad(energies.sum(), vectors, create_graph=True)
    fused = energies_and_pull(network, graph)
    generator = torch.Generator().manual_seed(seed)
    seeds = [torch.randn(x.shape, dtype=dtype, generator=generator) for x in (energies, pull)]
    parameters = list(network.parameters())
    found, expected = (
        torch.autograd.grad(list(pair), parameters, seeds, allow_unused=True)
        for pair in (fused, (energies, pull))
    )
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if b is not None]
    assert len(pairs) == len(parameters)
    worst = max(relative(a, b) for a, b in pairs)
    return relative(fused[0], energies), relative(fused[1], pull), worst


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_double_backward_of_the_reference(options):
    assert max(errors(potential(**options).network, batch())) < 1e-11


@pytest.mark.parametrize("filters", ["embedding.distance", "interactions.0.filter"])
def test_tables_are_those_of_the_network_at_the_nodes(filters):
    network = potential(layers=1).network
    module, grid = network.get_submodule(filters), network.grid
    features = network.radial(grid.nodes)
    control = grid.coefficients(module(features)).unflatten(1, (3, -1))
    first, taps = grid.taps(torch.zeros(1, dtype=torch.float64))
    here = torch.tensordot(taps[0], control[int(first) :][: len(taps[0])], 1)
    generator = torch.Generator().manual_seed(0)
    seeds = [torch.randn(x.shape, dtype=x.dtype, generator=generator) for x in (control, here)]
    found = table_of(module, grid, features)
    assert max(relative(a, b) for a, b in zip(found, (control, here), strict=True)) < 1e-12
    parameters = list(module.parameters())
    slopes = (
        torch.autograd.grad(list(pair), parameters, seeds) for pair in (found, (control, here))
    )
    assert max(relative(a, b) for a, b in zip(*slopes, strict=True)) < 1e-11


def test_features_at_the_nodes_have_no_subnormal_numbers():
    network = potential(torch.float32, num_radial=32, knots=128).network
    tiny = torch.finfo(torch.float32).tiny
    plain = network.radial(network.grid.nodes.float())
    assert ((plain != 0.0) & (plain.abs() < tiny)).any()
    found = features_at_nodes(network.radial, network.grid, plain)
    assert not ((found != 0.0) & (found.abs() < tiny)).any()
    torch.testing.assert_close(found, plain, rtol=0.0, atol=1e-19)


def test_float32():
    energies, pull, gradients = errors(potential(torch.float32, layers=2).network, batch())
    assert energies < 1e-5
    assert pull < 1e-5
    assert gradients < 3e-5


@settings(max_examples=8)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 1000))
def test_any_batch(sizes, seed):
    structures = batch(tuple(sizes), seed)
    if structures.edge_index.shape[1] == 0:
        return
    assert max(errors(NETWORK, structures, seed)) < 1e-10


NETWORK = potential(layers=1, channels=8).network


def test_atoms_without_neighbors():
    alone = make_structure([8], torch.zeros(1, 3))
    far = make_structure([1, 6], torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]))
    structures = join([attach_neighbors(s, CUTOFF) for s in (alone, far)])
    p = potential()
    found = p(structures)
    assert torch.equal(found["forces"], torch.zeros(3, 3, dtype=torch.float64))
    found["energy"].sum().backward()
    fused = [q.grad.clone() for q in p.parameters() if q.grad is not None]
    p.zero_grad()
    p.network.backend = "reference"
    p(structures)["energy"].sum().backward()
    expected = [q.grad for q in p.parameters() if q.grad is not None]
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(fused, expected, strict=True))


@pytest.mark.parametrize("compute", [("energy", "forces"), ("forces", "stress"), ("virial",)])
def test_the_potential_gives_the_same_with_both_backends(compute):
    results = {}
    for backend in ("fused", "reference"):
        p = potential()
        p.network.backend = backend
        found = p(join([crystal(), crystal()]), compute=compute)
        sum((value**3).sum() for value in found.values()).backward()
        results[backend] = (found, [q.grad for q in p.parameters()])
    (a, da), (b, db) = results["fused"], results["reference"]
    assert a.keys() == b.keys()
    assert all(relative(a[name], b[name]) < 1e-12 for name in a)
    assert all(relative(x, y) < 1e-10 for x, y in zip(da, db, strict=True) if y is not None)


def test_a_graph_can_be_differentiated_twice_and_memory_is_not_shared():
    p, other = potential(layers=1), batch((7, 3), seed=9)
    found = p(batch(), compute=("forces",))["forces"]
    p(other, compute=("forces",))  # another graph while the first is alive
    weight = p.network.out.weight
    first = torch.autograd.grad(found.pow(2).sum(), weight, retain_graph=True)[0]
    again = torch.autograd.grad(found.pow(2).sum(), weight)[0]
    assert torch.equal(first, again)


def test_the_number_of_threads_changes_nothing_but_rounding():
    gradients = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            p = potential(layers=1)
            p(batch(), compute=("forces",))["forces"].pow(2).sum().backward()
            gradients.append(p.network.out.weight.grad)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(relative(g, gradients[0]) < 1e-12 for g in gradients)


def test_matrix_products_of_a_thread_stay_in_it():
    before, seen = torch.get_num_threads(), [0, 0]

    def work(place):
        seen[place] = torch.get_num_threads()

    try:
        torch.set_num_threads(2)
        for _ in range(3):
            in_threads(work, 2)
            assert seen == [1, 1]
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_hessians_and_copies_take_the_reference_path():
    p = potential(layers=1, channels=8)
    p(batch((4,)))["forces"].sum().backward()
    clone = copy.deepcopy(p)
    molecule = batch((4,))
    hessian = clone(molecule, compute=("hessian",))["hessian"].flatten(0, 1).flatten(1)
    assert torch.allclose(hessian, hessian.T, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"knots": 0}, "knots is 0"),
        ({"channels": 7}, "not a multiple"),
        ({"head": "gated"}, "its head"),
    ],
)
def test_a_fused_backend_that_does_not_exist_is_refused(options, reason):
    p = potential(**options)
    assert p(batch((3,)))["forces"].requires_grad  # auto takes the reference
    p.network.backend = "fused"
    with pytest.raises(ValueError, match=reason):
        p(batch((3,)))
