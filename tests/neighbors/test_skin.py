"""A list with a skin equals a fresh list at every step, and is searched less often."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dreibein.neighbors import NeighborList, SkinNeighbors, find_neighbors

CUTOFF, SKIN = 3.0, 0.8
PERIODICITIES = [(True,) * 3, (False,) * 3, (True, False, True), (False, True, False)]


def same(a: NeighborList, b: NeighborList) -> bool:
    return (
        torch.equal(a.edge_index, b.edge_index)
        and torch.equal(a.shift, b.shift)
        and torch.equal(a.row_ptr, b.row_ptr)
    )


def start(count: int = 40, edge: float = 7.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    cell = edge * np.eye(3) + rng.normal(size=(3, 3))
    return torch.from_numpy(rng.uniform(size=(count, 3)) @ cell), torch.from_numpy(cell)


def walk(
    neighbors: SkinNeighbors,
    pbc: tuple[bool, bool, bool],
    *,
    steps: int = 60,
    stride: float = 0.03,
    strain: float = 0.0,
    edge: float = 7.0,
    count: int = 40,
) -> int:
    """Count the steps at which the list differs from a fresh one."""
    rng = np.random.default_rng(1)
    pos, cell = start(count, edge)
    periodic = torch.tensor(pbc)
    wrong = 0
    for _ in range(steps):
        found = neighbors(pos, cell, periodic)
        wrong += not same(found, find_neighbors(pos, cell, periodic, CUTOFF))
        deform = torch.from_numpy(np.eye(3) + strain * rng.normal(size=(3, 3)))
        pos, cell = pos @ deform, cell @ deform
        pos = pos + stride * torch.from_numpy(rng.normal(size=tuple(pos.shape)))
    return wrong


@pytest.mark.parametrize("pbc", PERIODICITIES)
@pytest.mark.parametrize("strain", [0.0, 0.003])
@pytest.mark.parametrize(("edge", "count"), [(1.8, 5), (7.0, 40)])
def test_equals_a_fresh_list_along_a_walk(
    pbc: tuple, strain: float, edge: float, count: int
) -> None:
    neighbors = SkinNeighbors(CUTOFF, SKIN)
    assert walk(neighbors, pbc, strain=strain, edge=edge, count=count) == 0
    assert neighbors.calls == 60
    assert 1 < neighbors.builds < 30


def test_a_list_that_is_never_searched_again_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SkinNeighbors, "_covers", lambda *_: True)
    assert walk(SkinNeighbors(CUTOFF, SKIN), (True,) * 3, stride=0.1) > 0
    # Atoms at rest in a cell that deforms: only the cell tells.
    assert walk(SkinNeighbors(CUTOFF, SKIN), (True,) * 3, stride=0.0, strain=0.03) > 0


def test_rebuilds_exactly_when_an_atom_has_moved_more_than_half_the_skin() -> None:
    pos, cell = start()
    neighbors = SkinNeighbors(CUTOFF, SKIN)
    pbc = torch.ones(3, dtype=torch.bool)
    neighbors(pos, cell, pbc)
    for distance, builds in [(0.2, 1), (0.399, 1), (0.401, 2), (0.401, 2)]:
        moved = pos.clone()
        moved[7, 1] += distance
        neighbors(moved, cell, pbc)
        assert neighbors.builds == builds


def test_compression_and_expansion_rebuild_in_time() -> None:
    pos, cell = start()
    pbc = torch.ones(3, dtype=torch.bool)
    for factor, builds in [(0.99, 1), (0.78, 2), (1.2, 1), (2.0, 1)]:
        neighbors = SkinNeighbors(CUTOFF, SKIN)
        neighbors(pos, cell, pbc)
        found = neighbors(pos * factor, cell * factor, pbc)
        assert same(found, find_neighbors(pos * factor, cell * factor, pbc, CUTOFF))
        assert neighbors.builds == builds  # an affine expansion brings nobody nearer


def test_a_cell_that_changes_without_its_atoms_rebuilds() -> None:
    pos, cell = start(edge=4.0)
    pbc = torch.ones(3, dtype=torch.bool)
    neighbors = SkinNeighbors(CUTOFF, SKIN)
    neighbors(pos, cell, pbc)
    sheared = cell.clone()
    sheared[1, 0] += 1.5
    assert same(neighbors(pos, sheared, pbc), find_neighbors(pos, sheared, pbc, CUTOFF))
    assert neighbors.builds == 2


def test_an_atom_that_is_wrapped_rebuilds() -> None:
    pos, cell = start()
    pbc = torch.ones(3, dtype=torch.bool)
    neighbors = SkinNeighbors(CUTOFF, SKIN)
    neighbors(pos, cell, pbc)
    pos = pos.clone()
    pos[3] += cell[0]
    assert same(neighbors(pos, cell, pbc), find_neighbors(pos, cell, pbc, CUTOFF))


def test_a_position_tensor_changed_in_place_is_noticed() -> None:
    pos, cell = start()
    pbc = torch.ones(3, dtype=torch.bool)
    neighbors = SkinNeighbors(CUTOFF, SKIN)
    neighbors(pos, cell, pbc)
    pos[5] += 1.0
    assert same(neighbors(pos, cell, pbc), find_neighbors(pos, cell, pbc, CUTOFF))
    assert neighbors.builds == 2


def test_other_atoms_or_periodicity_rebuild() -> None:
    pos, cell = start()
    neighbors = SkinNeighbors(CUTOFF, SKIN)
    for x, pbc in [
        (pos, (True, True, True)),
        (pos, (True, True, False)),
        (pos[:-1], (True, True, False)),
        (pos[:0], (True, True, False)),
        (pos, (False, False, False)),
    ]:
        periodic = torch.tensor(pbc)
        found = neighbors(x, cell[None], periodic[None])
        assert same(found, find_neighbors(x, cell, periodic, CUTOFF))
    assert neighbors.builds == neighbors.calls == 5


def test_no_skin_searches_on_every_change() -> None:
    neighbors = SkinNeighbors(CUTOFF, 0.0)
    assert walk(neighbors, (True,) * 3, steps=5) == 0
    assert neighbors.builds == 5


def test_positions_that_are_not_numbers_are_refused() -> None:
    pos, cell = start()
    pbc = torch.ones(3, dtype=torch.bool)
    neighbors = SkinNeighbors(CUTOFF, SKIN)
    neighbors(pos, cell, pbc)
    pos = pos.clone()
    pos[2, 0] = float("nan")
    with pytest.raises(ValueError, match="position of atom 2"):
        neighbors(pos, cell, pbc)


@pytest.mark.parametrize("skin", [-0.1, float("nan"), float("inf")])
def test_bad_skins_are_refused(skin: float) -> None:
    with pytest.raises(ValueError, match="skin must be zero or a positive number of Å"):
        SkinNeighbors(CUTOFF, skin)


def test_a_bad_cutoff_is_refused_before_the_skin_hides_it() -> None:
    with pytest.raises(ValueError, match="cutoff must be a positive number of Å"):
        SkinNeighbors(-0.1, SKIN)
