"""Every backend lists exactly the pairs of ASE and of the definition."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list as ase_neighbor_list
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from dreibein.neighbors import NeighborList, attach_neighbors, find_neighbors, sorting

BACKENDS = ["vesin", "tree", "reference"]
PERIODICITIES = list(itertools.product([False, True], repeat=3))


@dataclass
class System:
    pos: np.ndarray
    cell: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: tuple[bool, bool, bool] = (True, True, True)
    cutoff: float = 3.0

    def search(self, backend: str = "vesin") -> NeighborList:
        return find_neighbors(self.pos, self.cell, self.pbc, self.cutoff, backend=backend)


def uniform(count: int, *edges: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.0, 1.0, (count, 3)) * edges


SKEWED = np.array([[3.0, 0.0, 0.0], [8.0, 2.5, 0.0], [-5.0, 7.0, 3.5]])
TURNED = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0] * [[4.0], [5.0], [6.0]]

SYSTEMS = {
    "one atom, cell a sixth of the cutoff": System(np.zeros((1, 3)), 0.5 * np.eye(3)),
    "one atom, no cell": System(np.ones((1, 3)), pbc=(False,) * 3),
    "one atom on a line": System(np.ones((1, 3)), np.eye(3), (False, True, False)),
    "two atoms, tiny cell": System(uniform(2, 1.0, 1.0, 1.0), np.diag([1.0, 1.2, 0.7]), cutoff=4.0),
    "two atoms, skewed cell": System(uniform(2, 3.0, 3.0, 3.0), SKEWED, cutoff=6.0),
    "flat triclinic cell": System(
        uniform(3, 3.0, 3.0, 3.0), np.array([[3.0, 0, 0], [2.9, 0.2, 0], [0, 0, 4.0]])
    ),
    "left-handed cell": System(uniform(7, 4.0, 4.0, 4.0), -SKEWED, (True, False, True), 5.0),
    "turned cell, negative coordinates": System(
        uniform(20, 5.0, 5.0, 5.0) - 30.0, TURNED, (True, False, True), 4.0
    ),
    "turned cell, open in two directions": System(
        uniform(20, 5.0, 5.0, 5.0) - 8.0, TURNED, (False, True, False), 4.0
    ),
    "slab without a third vector": System(
        uniform(12, 4.0, 4.0, 9.0), np.diag([4.0, 4.0, 0.0]), (True, True, False), 5.0
    ),
    "slab whose third vector lies in the plane": System(
        uniform(12, 4.0, 4.0, 9.0),
        np.array([[4.0, 0, 0], [0, 4, 0], [4, 4, 0]]),
        (True, True, False),
    ),
    "slab, atoms outside along the open direction": System(
        uniform(12, 4.0, 4.0, 60.0) - 30.0, 4 * np.eye(3), (True, True, False), 5.0
    ),
    "molecule in vacuum": System(uniform(9, 3.0, 3.0, 3.0), pbc=(False,) * 3, cutoff=2.0),
    "molecule with a cell that does not count": System(
        uniform(9, 6.0, 6.0, 6.0), 2.0 * np.eye(3), (False,) * 3
    ),
    "unwrapped by up to three cells": System(
        uniform(9, 4.0, 4.0, 4.0) + 4.0 * np.random.default_rng(1).integers(-3, 4, (9, 3)),
        4.0 * np.eye(3),
    ),
    "unwrapped by thousands of cells": System(
        uniform(9, 4.0, 4.0, 4.0) + 4.0 * np.random.default_rng(1).integers(-5000, 5000, (9, 3)),
        4.0 * np.eye(3) + 0.3,
    ),
    "atoms on the faces": System(
        np.array(list(itertools.product([0.0, 2.0, 4.0], repeat=3))), 4.0 * np.eye(3), cutoff=2.9
    ),
    "coincident atoms": System(
        np.array([[0.1, 0.2, 0.3]] * 2 + [[4.1, 0.2, 0.3]]), 4.0 * np.eye(3), (True, False, True)
    ),
    "many atoms, cell twice the cutoff": System(uniform(150, 6.1, 6.1, 6.1), 6.1 * np.eye(3)),
    "many atoms, cell below the cutoff": System(
        uniform(60, 3.0, 3.0, 3.0), 3.0 * np.eye(3) + 0.2, cutoff=4.0
    ),
}

# Shapes for which linked cells have no grid, or a very empty one: not for ASE's list either.
SPARSE = {
    "chain of a millimeter": System(
        np.repeat(uniform(300, 1e7, 0.0, 0.0), 2, axis=0) + uniform(600, 0.9, 0.0, 0.0, seed=1),
        pbc=(False,) * 3,
        cutoff=1.0,
    ),
    "periodic wire of a millimeter": System(
        np.repeat(uniform(60, 1e7, 0.5, 0.5), 2, axis=0), np.diag([1e7, 2.0, 2.0]), cutoff=2.5
    ),
    "layer of a millimeter": System(
        np.repeat(uniform(60, 1e7, 1e7, 0.5), 2, axis=0), np.diag([1e7, 1e7, 3.0]), cutoff=2.5
    ),
    "molecule that lost an atom": System(
        np.concatenate((uniform(20, 4.0, 4.0, 4.0), [[3e8, -2e9, 0.0]])), pbc=(False,) * 3
    ),
    "slab that lost an atom": System(
        np.concatenate((uniform(20, 4.0, 4.0, 4.0), [[3.0, 2.0, 1e7]])),
        4.0 * np.eye(3),
        (True, True, False),
    ),
    "cutoff below that of vesin": System(
        np.array([[0.0, 0, 0], [1e-8, 0, 0], [0, 1, 0]]), np.eye(3), cutoff=1e-7
    ),
}


def triples(sender: np.ndarray, receiver: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Rows i j S0 S1 S2 in ascending order: equal arrays are equal multisets."""
    rows = np.column_stack((receiver, sender, shift)).astype(np.int64)
    return rows[np.lexsort(rows.T[::-1])]


def edges(pairs: NeighborList) -> np.ndarray:
    return triples(pairs.sender.numpy(), pairs.receiver.numpy(), pairs.shift.numpy())


def same(a: NeighborList, b: NeighborList) -> bool:
    """Tell whether two lists hold the same edges in the same order with the same pointers."""
    return (
        torch.equal(a.edge_index, b.edge_index)
        and torch.equal(a.shift, b.shift)
        and torch.equal(a.row_ptr, b.row_ptr)
    )


def from_ase(system: System) -> np.ndarray:
    cell = np.where(np.array(system.pbc)[:, None], system.cell, 0.0)
    atoms = Atoms(np.ones(len(system.pos)), positions=system.pos, cell=cell, pbc=system.pbc)
    i, j, shift = ase_neighbor_list("ijS", atoms, system.cutoff)
    return triples(j, i, shift)


def check_contract(pairs: NeighborList, system: System) -> None:
    """The promises of `dreibein.neighbors.lists`."""
    count = len(system.pos)
    assert pairs.edge_index.dtype == pairs.shift.dtype == pairs.row_ptr.dtype == torch.int64
    assert pairs.edge_index.is_contiguous()
    assert pairs.shift.is_contiguous()
    assert pairs.edge_index.shape == (2, len(pairs))
    assert pairs.shift.shape == (len(pairs), 3)
    assert pairs.row_ptr.shape == (count + 1,)
    stored = np.column_stack((pairs.receiver, pairs.sender, pairs.shift))
    np.testing.assert_array_equal(stored, edges(pairs))
    assert len(np.unique(stored, axis=0)) == len(stored)
    opposite = triples(pairs.receiver.numpy(), pairs.sender.numpy(), -pairs.shift.numpy())
    np.testing.assert_array_equal(stored, opposite)
    for i in range(count):
        row = pairs.receiver[pairs.row_ptr[i] : pairs.row_ptr[i + 1]]
        assert bool((row == i).all())
    assert int(pairs.row_ptr[-1]) == len(pairs)
    assert not bool((pairs.shift != 0)[:, ~torch.tensor(system.pbc)].any())
    itself = (pairs.sender == pairs.receiver) & ~pairs.shift.any(dim=1)
    assert not bool(itself.any())
    vectors = pairs.vectors(torch.from_numpy(system.pos), torch.from_numpy(system.cell))
    assert bool((vectors.norm(dim=1) < system.cutoff * (1 + 1e-9)).all())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_agrees_with_ase(name: str, backend: str) -> None:
    system = SYSTEMS[name]
    pairs = system.search(backend)
    np.testing.assert_array_equal(edges(pairs), from_ase(system))
    check_contract(pairs, system)
    assert same(pairs, system.search("reference"))


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_systems(name: str) -> None:
    system = SPARSE[name]
    pairs = system.search("vesin")
    check_contract(pairs, system)
    assert len(pairs) > 0
    assert same(pairs, system.search("reference"))
    assert same(pairs, system.search("tree"))


@pytest.mark.parametrize("pbc", PERIODICITIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_all_periodicities(pbc: tuple[bool, bool, bool], backend: str) -> None:
    pos = uniform(6, 9.0, 9.0, 9.0) - 4.0
    for cell in (3.0 * np.eye(3), SKEWED, TURNED):
        system = System(pos, cell, pbc, 4.0)
        pairs = system.search(backend)
        np.testing.assert_array_equal(edges(pairs), from_ase(system))
        check_contract(pairs, system)


@settings(max_examples=100)
@given(
    seed=st.integers(0, 100_000),
    count=st.integers(0, 6),
    pbc=st.sampled_from(PERIODICITIES),
    size=st.sampled_from([0.7, 2.0, 6.0]),
    skew=st.sampled_from([0, 0, 1, 6]),
    spread=st.sampled_from([1.0, 5.0, 40.0]),
    cutoff=st.floats(0.5, 4.0),
)
def test_random_cells(
    seed: int, count: int, pbc: tuple, size: float, skew: int, spread: float, cutoff: float
) -> None:
    rng = np.random.default_rng(seed)
    cell = size * rng.normal(size=(3, 3))
    cell[1] += skew * cell[0]
    assume(np.prod(np.maximum(cutoff * np.linalg.norm(np.linalg.inv(cell), axis=0), 1.0)) < 1e4)
    system = System(spread * rng.normal(size=(count, 3)), cell, pbc, cutoff)
    pairs = system.search("reference")
    check_contract(pairs, system)
    assert same(pairs, system.search("vesin"))
    assert same(pairs, system.search("tree"))
    if count:
        np.testing.assert_array_equal(edges(pairs), from_ase(system))


@pytest.mark.parametrize("name", ["two atoms, tiny cell", "slab without a third vector"])
def test_a_missing_shell_of_images_is_noticed(name: str) -> None:
    system = SYSTEMS[name]
    pairs = system.search()
    size = pairs.shift.abs().amax(dim=1)
    mutant = pairs.select(size < size.max())
    assert 0 < len(mutant) < len(pairs)
    assert not same(mutant, pairs)
    assert not np.array_equal(edges(mutant), from_ase(system))
    check_contract(mutant, system)  # it looks right: only a comparison finds it


def test_a_wrong_shift_is_noticed() -> None:
    system = SYSTEMS["unwrapped by up to three cells"]
    pairs = system.search()
    mutant = NeighborList(pairs.edge_index, torch.zeros_like(pairs.shift), pairs.row_ptr)
    assert not same(mutant, pairs)
    with pytest.raises(AssertionError):
        check_contract(mutant, system)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_cutoff_itself_is_outside(backend: str) -> None:
    cubic = System(np.zeros((1, 3)), 3.0 * np.eye(3), cutoff=3.0)
    assert len(cubic.search(backend)) == 0
    cubic.cutoff = np.nextafter(3.0, 4.0)
    assert len(cubic.search(backend)) == 6
    pair = System(np.array([[0.0, 0, 0], [0, 0, 1.5]]), pbc=(False,) * 3, cutoff=1.5)
    assert len(pair.search(backend)) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_atoms_ten_billion_cells_away(backend: str) -> None:
    inside = np.round(uniform(9, 4.0, 4.0, 4.0) * 1024) / 1024  # exact wherever it is moved
    cells = np.random.default_rng(1).integers(-(10**10), 10**10, (9, 3))
    near = System(inside, 4.0 * np.eye(3))
    pairs, expected = (s.search(backend) for s in (System(inside + 4.0 * cells, near.cell), near))
    i, j = expected.receiver.numpy(), expected.sender.numpy()
    shift = expected.shift.numpy() + cells[i] - cells[j]
    np.testing.assert_array_equal(edges(pairs), triples(j, i, shift))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_atoms(backend: str) -> None:
    for pos in (np.zeros((0, 3)), torch.zeros(0, 3), []):
        pairs = find_neighbors(pos, np.eye(3), True, 2.0, backend=backend)
        check_contract(pairs, System(np.zeros((0, 3)), np.eye(3)))


def test_inputs_of_any_kind_give_one_list() -> None:
    system = SYSTEMS["turned cell, negative coordinates"]
    system = System(np.round(system.pos), np.round(system.cell) + np.eye(3), system.pbc, 4.1)
    expected = system.search()
    pos, cell, pbc = (torch.tensor(v) for v in (system.pos, system.cell, system.pbc))
    for x in (pos.float(), pos.int(), pos.clone().requires_grad_(), pos.tolist(), pos.numpy()):
        assert same(find_neighbors(x, cell, pbc, 4.1), expected)
    assert same(
        find_neighbors(np.asfortranarray(system.pos), cell.T.contiguous().T, pbc, 4.1), expected
    )
    assert same(find_neighbors(pos, cell[None].float(), pbc[None], 4.1), expected)
    assert same(find_neighbors(pos, None, False, 4.1), find_neighbors(pos, cell, [False] * 3, 4.1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pos": [[0.0, 0, 0], [np.nan, 0, 0]]}, r"position of atom 1 is \[nan, 0.0, 0.0\]"),
        ({"pos": [[0.0, np.inf, 0], [0, 0, 0]]}, r"position of atom 0 is .*1 of 2 atoms"),
        ({"pos": [[1e300, 0.0, 0]]}, r"position of atom 0 .*within 1e12 Å"),
        ({"pos": [0.0, 0.0, 0.0]}, r"shape \[atoms, 3\], not \[3\]"),
        ({"pos": [[0.0, 0.0]]}, r"shape \[atoms, 3\], not \[1, 2\]"),
        ({"cutoff": 0.0}, "cutoff must be a positive number of Å, not 0.0"),
        ({"cutoff": -1.0}, "cutoff must be a positive number of Å, not -1.0"),
        ({"cutoff": float("nan")}, "cutoff must be a positive number of Å, not nan"),
        ({"cutoff": float("inf")}, "cutoff must be a positive number of Å, not inf"),
        ({"cell": None}, "periodic along a but its cell .* has no such vector"),
        ({"cell": np.zeros((1, 3, 3))}, "periodic along a but its cell .* has no such vector"),
        ({"cell": [[1, 0, 0], [0, 1, 0], [1, 1, 0]]}, "is singular: vector c"),
        ({"cell": [[1, 0, 0], [0, np.nan, 0], [0, 0, 1]]}, "contains NaN or infinity"),
        ({"cell": [[np.inf] * 3] * 3, "pbc": False}, "contains NaN or infinity"),
        ({"cell": np.eye(2)}, r"cell must have the shape \[3, 3\], not \[2, 2\]"),
        ({"pbc": [True, False]}, r"one flag or three, not the shape \[2\]"),
        ({"backend": "vesn"}, r"unknown backend 'vesn'.*nearest: 'vesin'"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(arguments: dict, message: str) -> None:
    given = {"pos": np.zeros((1, 3)), "cell": np.eye(3), "pbc": True, "cutoff": 2.0} | arguments
    with pytest.raises(ValueError, match=message) as refusal:
        find_neighbors(**given)
    assert "\n" not in str(refusal.value)


def test_a_dependent_vector_in_an_open_direction_is_ignored() -> None:
    cell = np.array([[3.0, 0, 0], [0, 3.0, 0], [1.0, 2.0, 0]])
    slab = System(uniform(4, 3.0, 3.0, 3.0), cell, (True, True, False))
    assert same(slab.search(), System(slab.pos, np.diag([3.0, 3.0, 0.0]), slab.pbc).search())


@pytest.mark.parametrize("table", [0, 10_000])
@pytest.mark.parametrize(
    "name", [name for name, system in SYSTEMS.items() if len(system.pos) > 5] + ["dense"]
)
def test_sorting_by_counting_is_sorting(
    name: str, table: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = System(uniform(40, 2.0, 2.0, 2.0), 2.0 * np.eye(3) + 0.1, cutoff=4.5)
    system = dense if name == "dense" else SYSTEMS[name]
    monkeypatch.setattr(sorting, "_SMALL", 10**9)
    expected = system.search()
    monkeypatch.setattr(sorting, "_SMALL", 1)
    monkeypatch.setattr(sorting, "_TABLE_ROWS", table)
    assert same(system.search(), expected)
    assert same(system.search("reference"), expected)


def test_attach_returns_a_copy_that_batches() -> None:
    one = Data(
        z=torch.ones(3, dtype=torch.long),
        pos=torch.rand(3, 3, dtype=torch.float64),
        cell=2 * torch.eye(3, dtype=torch.float64)[None],
        pbc=torch.ones(1, 3, dtype=torch.bool),
    )
    attached = attach_neighbors(one, 2.5)
    assert "edge_index" not in one
    assert attached.pos is one.pos
    pairs = find_neighbors(one.pos, one.cell, one.pbc, 2.5)
    assert torch.equal(attached.edge_index, pairs.edge_index)
    assert torch.equal(attached.shift, pairs.shift)
    batch = Batch.from_data_list([attached, attached])
    assert torch.equal(batch.edge_index[:, len(pairs) :], pairs.edge_index + 3)
    with pytest.raises(ValueError, match="batch of 2: attach them before batching"):
        attach_neighbors(batch, 2.5)
