"""Our way of joining structures is PyG's, only faster."""

import pytest
import torch
from torch_geometric.data import Batch

from dreibein.neighbors import attach_neighbors
from dreibein.systems import make_structure
from dreibein.train.frames import Frames, collate


def test_same_as_pyg(clusters):
    data = clusters(6)
    frames = Frames(data, 3.0, ("energy", "forces"))
    ours = frames[[4, 0, 3]]
    theirs = Batch.from_data_list([attach_neighbors(data[k], 3.0) for k in (4, 0, 3)])
    assert ours.num_graphs == theirs.num_graphs == 3
    for name in ("z", "pos", "cell", "pbc", "charge", "edge_index", "shift", "batch", "ptr"):
        assert torch.equal(ours[name], theirs[name]), name
    for name in ("energy", "forces", "frame"):
        assert torch.equal(ours[name], theirs[name]), name
    assert frames.describe(ours, 1) == "clusters.xyz, frame 0"


def test_neighbors_are_found_once(clusters, monkeypatch):
    calls = []

    def counted(structure, cutoff):
        calls.append(cutoff)
        return attach_neighbors(structure, cutoff)

    monkeypatch.setattr("dreibein.train.frames.attach_neighbors", counted)
    frames = Frames(clusters(3), 3.0, ("energy",))
    for _ in range(3):
        frames[[0, 1, 2]]
    assert len(calls) == 3


def test_a_copy_that_counts_nothing(clusters):
    frames = Frames(clusters(3), 3.0, ("energy", "forces"))
    batch = frames[[1, -1]]
    assert batch.energy_mask.tolist() == [True, False]
    atoms = batch.ptr.diff().tolist()
    assert batch.forces_mask.tolist() == [True] * atoms[0] + [False] * atoms[1]
    assert frames.describe(batch, 1) == "clusters.xyz, frame 0"


def test_a_field_that_some_structures_lack_is_refused():
    one = make_structure([1], torch.zeros(1, 3), energy=1.0).to_dict()
    two = make_structure([1], torch.zeros(1, 3)).to_dict()
    with pytest.raises(ValueError, match="some structures of a batch have the field 'energy'"):
        collate([two, one])
