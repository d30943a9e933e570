"""Evaluation within a limit of memory gives the numbers of evaluation at once, in less memory."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from dreibein.models import TensorNetConfig, build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.neighbors.parts import Parts, Reach
from dreibein.nn import Committee, FrozenPotential, Potential, freeze
from dreibein.nn.memory import Cost, cost_of, groups, reaches
from dreibein.systems import join, make_structure
from laws.cases import CASES, ELEMENTS

WANTED = ("energy", "energies", "forces", "virial", "stress")
CUTOFF = 3.0
BOUND = {torch.float64: 1e-12, torch.float32: 1e-6}


def potential(dtype: torch.dtype = torch.float64, **options: object) -> Potential:
    torch.manual_seed(3)
    config = TensorNetConfig(**{"channels": 12, "cutoff": CUTOFF, "num_radial": 6, **options})
    model = build_potential(config, elements=ELEMENTS, scale=0.7, dtype=dtype)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def structure(atoms: int, side: float, seed: int = 0, cutoff: float = CUTOFF, **more) -> Data:
    generator = torch.Generator().manual_seed(seed)
    pos = side * torch.rand(atoms, 3, generator=generator, dtype=torch.float64)
    z = torch.tensor(ELEMENTS)[torch.randint(0, len(ELEMENTS), (atoms,), generator=generator)]
    return attach_neighbors(make_structure(z, pos, **more), cutoff)


def rod(atoms: int = 24, cutoff: float = CUTOFF, **more) -> Data:
    """Long and thin: parts have ends."""
    made = structure(atoms, 1.0, **more)
    made.pos = made.pos * torch.tensor([20.0, 2.5, 2.5], dtype=torch.float64)
    return attach_neighbors(made, cutoff)


def crystal(atoms: int = 5, **more) -> Data:
    """Smaller than the cutoff: every atom hears images of itself."""
    cell = torch.tensor([[2.8, 0.2, 0.0], [0.0, 2.6, 0.3], [-0.4, 0.0, 2.9]])
    return structure(atoms, 2.5, 5, cell=cell, **more)


def long_crystal() -> Data:
    return structure(24, 2.7, 7, cell=[2.7, 2.9, 14.0])


def by_owners(model: FrozenPotential, given: Data, size: int, reach=None) -> dict:
    """As within a limit, but every part owns so many atoms."""
    parts = Parts(given)
    results = []
    for k in range(parts.num_structures):
        whole = parts.together(k, k + 1)
        pieces = np.split(whole.atoms, np.arange(size, len(whole.atoms), size))
        chosen = [parts.around(piece, reach or reaches(model.potential)) for piece in pieces]
        results.append(model._summed(parts, whole, chosen, frozenset(WANTED))[0])
    return {name: torch.cat([one[name] for one in results]) for name in results[0]}


def difference(found: dict, exact: dict) -> float:
    """Largest difference of any quantity, relative to its largest value."""
    assert set(found) == set(exact)
    worst = 0.0
    for name, value in exact.items():
        assert torch.equal(found[name].isnan(), value.isnan())
        scale = value.nan_to_num().abs().max()
        worst = max(worst, float((found[name] - value).nan_to_num().abs().max() / scale))
    return worst


GIVEN = {
    "rod": rod(),
    "cell": crystal(),
    "ion": rod(20, charge=1.0),
    "long-cell": long_crystal(),
    "batch": join([rod(15), crystal(3), structure(1, 1.0)]),
}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize(
    ("backend", "dtype"), [("reference", torch.float64), ("fused", torch.float32)]
)
def test_parts_are_the_whole(name: str, layers: int, backend: str, dtype: torch.dtype) -> None:
    model, given = FrozenPotential(potential(dtype, layers=layers), backend), GIVEN[name]
    exact = model(given, WANTED)
    for size in (1, 7):
        assert difference(by_owners(model, given, size), exact) < BOUND[dtype]


@pytest.mark.parametrize("options", [{"symmetry": "SO(3)"}, {"head": "gated"}, {"channels": 17}])
def test_every_engine_takes_parts(options: dict) -> None:
    model = FrozenPotential(potential(layers=2, **options), "fused")
    exact = model(GIVEN["rod"], WANTED)
    assert difference(by_owners(model, GIVEN["rod"], 3), exact) < 1e-12


def test_threads_share_parts() -> None:
    model = FrozenPotential(potential(layers=2), "fused")
    given = structure(150, 9.0)
    exact, before = model(given, WANTED), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert difference(by_owners(model, given, 60), exact) < 1e-12
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("case", [c for c in CASES if c.extensive], ids=str)
def test_every_network_says_how_far_it_hears(case) -> None:
    """By parts of one atom; a reach one edge shorter shows unless it was said too generously."""
    model = case.build()
    given = rod(12, model.cutoff)
    whole = FrozenPotential(model, "reference")
    exact = whole(given, WANTED)
    assert difference(by_owners(whole, given, 1), exact) < 1e-12
    short = [Reach(reach.hops - 1, reach.cutoff) for reach in reaches(model)]
    assert difference(by_owners(whole, given, 1, short), exact) > 1e-9


@pytest.mark.parametrize("backend", ["reference", "fused"])
@pytest.mark.parametrize("terms", [(), ({"term": "dispersion_d2", "cutoff": 5.0}, "zbl")])
def test_a_limit_changes_no_number(backend: str, terms: tuple, caplog) -> None:
    model = potential(layers=1, terms=terms)
    single = [rod(24, model.cutoff), rod(8, model.cutoff), rod(9, model.cutoff)]
    exact = FrozenPotential(model, backend)(join(single), WANTED)
    skin = 0.5 if backend == "fused" and not terms else 0.0
    given = join([attach_neighbors(one, model.cutoff + skin) for one in single])
    limited = FrozenPotential(model, backend, memory=1.0)
    cost = limited._cost(backend == "fused")
    pairs = single[0].num_edges
    limited.memory = 0.75 * cost.of(24, pairs if not terms else pairs // 2, pairs)
    with caplog.at_level("INFO", "dreibein.nn.frozen"):
        assert difference(limited(given, WANTED), exact) < 1e-12
    assert "parts of at most" in caplog.text
    assert set(limited(given, ("energy",))) == {"energy"}
    assert "at most, " in limited.describe()


def test_a_limit_that_is_kept_anyway_changes_nothing() -> None:
    model, given = potential(), GIVEN["batch"]
    found, exact = FrozenPotential(model, memory=2.0**30)(given, WANTED), model(given, WANTED)
    assert all(torch.equal(found[name].nan_to_num(), exact[name].nan_to_num()) for name in exact)


def test_structures_are_grouped_whole_where_a_potential_permits_no_parts() -> None:
    model = potential(charge_channels=2)
    one = structure(6, 3.0)
    given = join([one, structure(6, 3.0, 1), one])
    exact = model(given, WANTED)
    limited = FrozenPotential(model, memory=1.0)
    limited.memory = 1.5 * limited._cost(False).of(6, 30, 30)
    assert difference(limited(given, WANTED), exact) < 1e-12
    limited.memory = 0.5 * limited._cost(False).of(6, one.num_edges, one.num_edges)
    with pytest.raises(ValueError, match=r"TensorNet cannot be evaluated in parts.*raise the"):
        limited(given, WANTED)


def test_groups_are_as_large_as_fits() -> None:
    assert groups([1.0] * 5, 2.0) == [(0, 2), (2, 4), (4, 5)]
    assert groups([3.0, 1.0, 1.0], 2.0) == [(0, 1), (1, 3)]
    assert groups([1.0], 0.5) == [(0, 1)]


def test_terms_without_an_end_are_refused() -> None:
    model = potential(
        terms=({"term": "coulomb", "charges": {"H": 0.1, "C": 0.0, "O": -0.1}, "method": "ewald"},)
    )
    given = attach_neighbors(structure(30, 9.0, cell=[9.0] * 3), model.cutoff)
    limited = FrozenPotential(model, memory=1.0)
    limited.memory = 0.2 * limited._cost(False).of(30, 100, given.num_edges)
    with pytest.raises(ValueError, match=r"coulomb .* cannot be evaluated in parts"):
        limited(given)


def test_what_cannot_be_kept_is_said_in_a_sentence() -> None:
    model, given = potential(), GIVEN["rod"]
    with pytest.raises(ValueError, match=r"a single atom \(number \d+\).*limit is 20 KiB: raise"):
        FrozenPotential(model, memory=20 * 2**10)(given)
    with pytest.raises(ValueError, match="memory limit is -1 bytes: give more than 0"):
        FrozenPotential(model, memory=-1)
    with pytest.raises(ValueError, match="and hessian cannot be computed in parts"):
        FrozenPotential(model, memory=20 * 2**10)(given, ("hessian",))
    limited = FrozenPotential(model, memory=1.0)
    limited.memory = 1.2 * limited._cost(False).of(24, given.num_edges, given.num_edges)
    with pytest.raises(ValueError, match="Hessians of several structures"):
        limited(join([given, given]), ("hessian",))


def test_a_committee_keeps_the_limit_of_each_member() -> None:
    committee = Committee([potential(layers=1), potential(layers=1)])
    limited, exact = freeze(committee, memory=1.5 * 2**20), committee(GIVEN["rod"], WANTED)
    assert all(member.memory == 1.5 * 2**20 for member in limited.members)
    assert difference(limited(GIVEN["rod"], WANTED), exact) < 1e-12


def test_the_engine_keeps_the_limit() -> None:
    model = potential(torch.float32, channels=64, layers=1)
    given = structure(1500, 27.0)
    plain, limited = FrozenPotential(model, "fused"), FrozenPotential(model, "fused", memory=1.0)
    whole = limited._cost(True).of(1500, given.num_edges, given.num_edges)
    limited.memory = whole / 3.0
    peaks = []
    for evaluate in (plain, limited):
        evaluate(GIVEN["cell"])  # compiled kernels and scratch are there
        tracemalloc.start()
        evaluate(given, WANTED)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < whole
    # flags and places of all atoms and pairs come on top
    assert peaks[1] < 1.1 * limited.memory + 20 * given.num_edges


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from nn.test_memory import WANTED, potential, structure
from dreibein.nn import FrozenPotential

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

model, given = potential(channels=32, layers=1), structure(1200, 25.0)
limited = FrozenPotential(model, "reference", memory=float({limit!r}))
limited(structure(8, 2.0), WANTED)
before = peak()
limited(given, WANTED)
print(peak() - before, limited._cost(False).of(1200, given.num_edges, given.num_edges))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_autograd_takes_less_memory_with_a_limit(request) -> None:
    tests = str(request.config.rootpath / "tests")
    taken = []
    for limit in ("1e12", str(100 * 2**20)):
        code = CHILD.format(tests=tests, limit=limit)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        used, estimate = map(float, done.stdout.split())
        taken.append(used)
    assert 0.3 * estimate < taken[0] < estimate
    assert taken[1] < 100 * 2**20 < 0.5 * taken[0]


def test_costs_are_of_atoms_and_pairs() -> None:
    assert Cost(100.0, 10.0, 5.0, 1.0).of(2, 3, 4, far=1) == 229.0
    few, many = (cost_of(potential(channels=c)) for c in (16, 32))
    assert 1.8 < many.pair / few.pair < 2.2
    assert 1.8 < many.atom / few.atom < 2.2
