"""Parts of structures hold what is heard, each atom is owned once, and a part is smaller."""

import numpy as np
import pytest
import torch

from dreibein.neighbors import attach_neighbors
from dreibein.neighbors.parts import Parts, Reach
from dreibein.systems import join, make_structure

CUTOFF = 2.0


def chain(atoms: int = 10, **more):
    """Atoms 1.5 Å apart: each has its two next ones as neighbors."""
    pos = torch.zeros(atoms, 3)
    pos[:, 0] = 1.5 * torch.arange(atoms)
    return make_structure([1] * atoms, pos, **more)


@pytest.mark.parametrize("hops", [0, 1, 2, 3])
def test_hops_are_counted_along_the_list(hops):
    parts = Parts(attach_neighbors(chain(), CUTOFF))
    part = parts.around(np.array([4]), [Reach(hops, CUTOFF)])
    assert sorted(part.atoms) == list(range(4 - hops, 5 + hops))
    assert part.levels == tuple(2 * h + 1 for h in range(hops + 1))
    assert len(part.pairs) == max(0, 2 * (2 * hops - 1))  # those at the end hear none


def test_pairs_beyond_the_cutoff_are_no_neighbors():
    parts = Parts(attach_neighbors(chain(), 2.0 * CUTOFF))
    assert len(parts.around(np.array([4]), [Reach(1, CUTOFF)]).atoms) == 3
    assert len(parts.around(np.array([4]), [Reach(1, 2.0 * CUTOFF)]).atoms) == 5


def test_reaches_are_united():
    parts = Parts(attach_neighbors(chain(), 3.5))
    part = parts.around(np.array([4]), [Reach(1, CUTOFF), Reach(1, 3.5)])
    assert list(part.atoms) == [4, 3, 5, 2, 6]
    assert part.levels == (1, 3)


def test_a_part_through_the_boundary_keeps_its_images():
    ring = chain(4, cell=[6.0, 9.0, 9.0], pbc=[True, False, False])
    parts = Parts(attach_neighbors(ring, CUTOFF))
    part = parts.around(np.array([0]), [Reach(1, CUTOFF)])
    assert sorted(part.atoms) == [0, 1, 3]
    taken = parts.take(part)
    vectors = taken.pos[taken.edge_index[0]] - taken.pos[taken.edge_index[1]]
    vectors = vectors + taken.shift.double() @ taken.cell[0]
    assert vectors.norm(dim=1).tolist() == pytest.approx([1.5, 1.5])


def test_what_is_taken_is_of_its_structure():
    both = [chain(3, charge=1.0), chain(5, charge=-2.0)]
    parts = Parts(join([attach_neighbors(one, CUTOFF) for one in both]))
    second = parts.take(parts.together(1, 2))
    assert second.charge.tolist() == [-2.0]
    assert second.batch.tolist() == [0] * 5
    assert int(second.edge_index.max()) == 4
    assert (second.edge_index[1].diff() >= 0).all()


def test_halves_own_every_atom_once_and_lie_side_by_side():
    parts = Parts(attach_neighbors(chain(11), CUTOFF))
    left, right = parts.halves(np.arange(11))
    assert sorted([*left, *right]) == list(range(11))
    assert left.max() < right.min()


def test_an_unsorted_list_is_refused():
    given = attach_neighbors(chain(), CUTOFF)
    given.edge_index = given.edge_index.flip(1)
    with pytest.raises(ValueError, match="not sorted by receiver"):
        Parts(given)
