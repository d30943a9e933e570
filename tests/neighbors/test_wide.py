"""Cutoffs far beyond a molecule: every pair, and no walk through empty space."""

import torch

from dreibein.neighbors import find_neighbors


def test_a_cutoff_of_a_micrometer_finds_every_pair_of_a_molecule():
    pos = torch.arange(12, dtype=torch.float64).view(4, 3).square()
    near = find_neighbors(pos, torch.zeros(3, 3).double(), torch.zeros(3).bool(), 1e4)
    pairs = {(int(j), int(i)) for j, i in zip(near.sender, near.receiver, strict=True)}
    assert pairs == {(j, i) for j in range(4) for i in range(4) if i != j}
    assert not near.shift.any()
