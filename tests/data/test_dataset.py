"""Data sets: fresh structures, subsets, joined sources, neighbors, workers."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

from dreibein.data import StructureDataset, with_neighbors, write_hdf5
from dreibein.neighbors import attach_neighbors
from dreibein.systems import FIELDS

from .conftest import strained_copper, waters


def test_fields_have_their_shapes(write, load):
    structure = load(write(strained_copper(3)))[1]
    for name in (
        "z",
        "pos",
        "cell",
        "pbc",
        "charge",
        "spin",
        "frame",
        "energy",
        "forces",
        "stress",
    ):
        field = FIELDS[name]
        lead = 4 if field.scope == "atom" else 1
        assert structure[name].shape == (lead, *field.shape), name
        assert structure[name].dtype == field.dtype, name
    assert int(structure.frame) == 1


def test_structures_are_copies(write, load):
    data = load(write(waters(2)))
    data[0].pos += 100.0
    data[0].forces.zero_()
    assert float(data[0].pos.abs().max()) < 10.0
    assert data[0].forces.abs().max() > 0


def test_subset_counts_anew_and_describes(write, load):
    data = load([write(waters(3), "a.extxyz"), write(waters(4, seed=1), "b.extxyz")])
    part = data.subset([5, 2])
    assert [int(s.frame) for s in part] == [0, 1]
    assert part.describe(0).endswith("b.extxyz, frame 2")
    assert part.indices == (5, 2)
    assert part.subset([1]).indices == (2,)
    np.testing.assert_allclose(part[0].pos, data[5].pos)
    with pytest.raises(IndexError, match="of 7"):
        data.subset([7])
    with pytest.raises(IndexError, match="frame 2 of a data set of 2 frames"):
        part[2]
    np.testing.assert_allclose(part[-1].pos, part[1].pos)


def test_sources_with_different_labels_are_joined(write, load):
    data = load([write(waters(2), "a.extxyz"), write(strained_copper(2), "b.extxyz")])
    assert data.label_names == ("energy", "forces", "stress")
    assert data.elements == (1, 8, 29)
    batch = Batch.from_data_list(list(data))
    assert batch.stress_mask.tolist() == [False, False, True, True]
    assert batch.stress.shape == (4, 3, 3)
    assert "forces_mask" not in batch
    assert data.subset([0]).elements == (1, 8)


def test_clashing_shapes_are_refused(write, load):
    a, b = waters(2), waters(2)
    for atoms in a:
        atoms.info["quad"] = np.zeros(5)
    for atoms in b:
        atoms.info["quad"] = 1.0
    with pytest.raises(
        ValueError, match=r"label 'quad' is 5 per frame in .*a.extxyz, frame 0 but one number per"
    ):
        load([write(a, "a.extxyz"), write(b, "b.extxyz")], labels=["quad"])


def test_blocks_and_tables_agree(write, load):
    data = load([write(waters(5), "a.extxyz"), write(strained_copper(4), "b.extxyz")])
    blocks = list(data.blocks(2))
    assert [len(b) for b in blocks] == [2, 2, 2, 2, 1]
    table = data.table([8, 0, 5])
    assert table.sizes.tolist() == [4, 3, 4]
    np.testing.assert_allclose(table.pos[4:7], data[0].pos)
    np.testing.assert_allclose(table.columns["stress"].values[2], data[5].stress[0])


def test_an_empty_choice_is_refused(write, load):
    with pytest.raises(ValueError, match="the data set holds no frames"):
        load(write(waters(2))).table([])


def test_provenance_says_everything(write, load):
    path = write(waters(2))
    source = load(path, level_of_theory="EMT").provenance["sources"][0]
    assert source["name"] == path
    assert len(source["sha256"]) == 64
    assert source["frames"] == 2
    assert load(path, level_of_theory="EMT").provenance["level_of_theory"] == "EMT"
    other = load(write(waters(2, seed=3), "b.extxyz")).provenance["sha256"]
    assert source["sha256"] != other


def test_level_of_theory_is_read(write, load):
    frames = waters(2)
    for atoms in frames:
        atoms.info["level_of_theory"] = "GFN2-xTB"
    assert load(write(frames)).provenance["level_of_theory"] == "GFN2-xTB"


class TestNeighbors:
    def test_lists_are_found_once_and_right(self, write, load, monkeypatch):
        data = load(write(strained_copper(3)))
        near = with_neighbors(data, 4.0)
        first = [near[i] for i in range(3)]
        monkeypatch.setattr("dreibein.data.neighbor_cache.attach_neighbors", None)
        for i in range(3):
            expected = attach_neighbors(data[i], 4.0)
            for structure in (first[i], near[i]):
                assert torch.equal(structure.edge_index, expected.edge_index)
                assert torch.equal(structure.shift, expected.shift)
                assert structure.edge_index.dtype == torch.int64
        assert near.label_names == data.label_names
        assert near.elements == (29,)
        assert near.describe(2) == data.describe(2)
        assert len(near.subset([1])) == 1

    def test_molecules_need_no_shifts(self, write, load):
        near = with_neighbors(load(write(waters(2))), 4.0)
        assert near[0].edge_index.shape == (2, 6)
        assert not near[0].shift.any()
        assert near[0].shift.shape == (6, 3)

    def test_the_cache_is_bounded(self, write, load):
        from dreibein.data import NeighborDataset

        near = NeighborDataset(load(write(waters(3))), 4.0, cache_bytes=100)
        assert all(near[i].edge_index.shape == (2, 6) for _ in range(2) for i in range(3))
        assert len(near._cache) == 2

    def test_cutoff_must_be_positive(self, write, load):
        with pytest.raises(ValueError, match="the cutoff must be positive, not 0"):
            with_neighbors(load(write(waters(2))), 0)


@pytest.mark.parametrize("store", [False, True])
def test_loader_workers_see_the_same_frames(write, load, tmp_path, store):
    data = load(write(waters(8)))
    if store:
        assert data[0] is not None
        data = load(str(write_hdf5(data, tmp_path / "s.h5")))
        assert data[3] is not None  # opened in this process before the workers start
    near = with_neighbors(data, 3.0)
    alone = torch.cat([near[i].pos for i in range(8)])
    loader = DataLoader(near, batch_size=3, num_workers=2)
    assert torch.equal(torch.cat([batch.pos for batch in loader]), alone)


def test_repr(write, load):
    assert repr(load(write(waters(2)))) == "StructureDataset(2 frames: energy, forces)"
    assert repr(StructureDataset([])) == "StructureDataset(0 frames: no labels)"
