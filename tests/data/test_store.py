"""The HDF5 store holds what was read, is read frame by frame, and is whole or absent."""

import pickle

import h5py
import numpy as np
import pytest
import torch

from dreibein.data import DataConfig, load_data, write_hdf5
from dreibein.data.convert import convert_data
from dreibein.data.store import Store

from .conftest import labelled, strained_copper, waters


@pytest.fixture
def mixed(write, load):
    """Two sources, missing labels, kinds, an own label."""
    a = waters(5)
    a[2] = labelled(a[2], ("energy",), config_type="odd")
    for k, atoms in enumerate(a):
        atoms.info["gap"] = float(k)
    b = strained_copper(4)
    return load([write(a, "a.extxyz"), write(b, "b.extxyz")], keys={"gap": "gap"})


def assert_equal(one, other):
    assert set(one.keys()) == set(other.keys())
    for key in one.keys():  # noqa: SIM118 (PyG's Data)
        if isinstance(one[key], torch.Tensor):
            assert torch.equal(one[key], other[key]), key
            assert one[key].dtype == other[key].dtype, key
        else:
            assert one[key] == other[key], key


def test_round_trip(mixed, tmp_path, load):
    stored = load(str(write_hdf5(mixed, tmp_path / "d.h5")))
    assert len(stored) == 9
    assert set(stored.label_names) == set(mixed.label_names)
    assert stored.elements == mixed.elements
    for i in range(9):
        assert_equal(stored[i], mixed[i])
    assert stored.describe(7) == f"{tmp_path / 'd.h5'}, frame 7 (from {mixed.describe(7)})"
    np.testing.assert_array_equal(stored.geometry_hashes(), mixed.geometry_hashes())
    source = stored.provenance["sources"][0]
    assert source["kind"] == "dreibein structures, version 1"
    assert [s["name"] for s in source["written_from"]] == [
        s["name"] for s in mixed.provenance["sources"]
    ]
    assert source["keys"]["gap"]["frames"] == 5


def test_tables_from_any_order(mixed, tmp_path, load):
    stored = load(str(write_hdf5(mixed, tmp_path / "d.h5")))
    for frames in ([8, 0, 3], [2, 3, 4], [5], list(range(9))):
        a, b = stored.table(frames), mixed.table(frames)
        np.testing.assert_array_equal(a.pos, b.pos)
        np.testing.assert_array_equal(a.columns["forces"].mask, b.columns["forces"].mask)
        np.testing.assert_array_equal(a.columns["energy"].values, b.columns["energy"].values)


def test_stores_and_files_are_joined(mixed, tmp_path, write, load):
    path = str(write_hdf5(mixed, tmp_path / "d.h5"))
    data = load([write(waters(2), "c.extxyz"), path])
    assert len(data) == 11
    assert_equal(data[4].subgraph(torch.arange(3)), data[4])
    np.testing.assert_allclose(data[4].pos, mixed[2].pos)
    assert data.describe(4).startswith(path)
    again = load(str(write_hdf5(data.subset([10, 4, 0]), tmp_path / "e.h5")))
    assert [again.source_of(i)[1] for i in range(3)] == [3, 2, 0]


def test_same_data_same_hash(mixed, tmp_path, load):
    one = load(str(write_hdf5(mixed, tmp_path / "a.h5"))).provenance["sha256"]
    two = load(str(write_hdf5(mixed, tmp_path / "b.h5"))).provenance["sha256"]
    three = load(str(write_hdf5(mixed.subset([0, 1]), tmp_path / "c.h5"))).provenance["sha256"]
    assert one == two != three


def test_only_one_frame_is_read(mixed, tmp_path, monkeypatch):
    store = Store(write_hdf5(mixed, tmp_path / "d.h5"))
    store.frame(0)
    rows = []
    plain = h5py.Dataset.__getitem__

    def counting(self, key, *more):
        value = plain(self, key, *more)
        rows.append(np.shape(value)[0] if np.ndim(value) else 1)
        return value

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counting)
    store.frame(6)
    assert rows
    assert max(rows) == 4  # atoms of that frame


def test_pickling_leaves_the_handle_behind(mixed, tmp_path):
    store = Store(write_hdf5(mixed, tmp_path / "d.h5"))
    store.frame(1)
    copy = pickle.loads(pickle.dumps(store))
    assert copy._open is None
    np.testing.assert_array_equal(copy.frame(1)["pos"], store.frame(1)["pos"])


def test_keys_and_labels_of_a_store(mixed, tmp_path, load):
    path = str(write_hdf5(mixed, tmp_path / "d.h5"))
    with pytest.raises(ValueError, match="keys do not apply to a store, whose labels are energy"):
        load(path, keys={"dipole": "mu"})
    with pytest.raises(ValueError, match="the required label 'dipole' is in none of the 9 frames"):
        load(path, labels=["dipole"])


def test_units_of_a_store_are_settled(mixed, tmp_path, write, load):
    path = str(write_hdf5(mixed, tmp_path / "d.h5"))
    with pytest.raises(ValueError, match="units cannot be declared for a store, which is in eV an"):
        load(path, units={"energy": "Ha"})
    with pytest.raises(ValueError, match="the stress convention cannot be declared for a store"):
        load(path, stress_convention={"sign": "compression"})
    assert len(load([path, write(waters(2), "c.extxyz")], units={"energy": "eV"})) == 11


def test_foreign_cut_and_newer_files(mixed, tmp_path, load):
    path = tmp_path / "x.h5"
    path.write_bytes(b"no hdf5")
    with pytest.raises(ValueError, match=r"x.h5: not a whole HDF5 file"):
        load(str(path))
    with h5py.File(path, "w") as file:
        file["data"] = [1, 2]
    with pytest.raises(ValueError, match=r"x.h5: an HDF5 file, but not a store of this package"):
        load(str(path))
    write_hdf5(mixed, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"x.h5: not a whole HDF5 file"):
        load(str(path))
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(ValueError, match="store version 99 is newer than 1, the newest that this"):
        load(str(path))


def test_names_and_failures(mixed, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"a store's name ends in .h5 or .hdf5"):
        write_hdf5(mixed, tmp_path / "d.data")
    path = write_hdf5(mixed, tmp_path / "d.h5")
    before = path.read_bytes()

    def full(self, table, origin=()):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dreibein.data.store_writer.StoreWriter.append", full)
    with pytest.raises(OSError, match="No space left"):
        write_hdf5(mixed, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.glob("*.h5")] == ["d.h5"]
    assert not list(tmp_path.glob(".*"))


class TestConvert:
    def config(self, mixed, **options):
        names = [s["name"] for s in mixed.provenance["sources"]]
        return DataConfig(sources=names, keys={"gap": "gap"}, **options)

    @pytest.mark.parametrize("name", ["out.h5", "out.extxyz"])
    def test_sources_to_one_file(self, mixed, tmp_path, name):
        out = tmp_path / name
        frames, labels = convert_data(self.config(mixed, level_of_theory="EMT"), out)
        assert frames == 9
        assert set(labels) == {"energy", "forces", "stress", "gap"}
        data = load_data(DataConfig(sources=str(out), labels=["gap"]))
        for i in range(9):
            for name in (
                "pos",
                "energy",
                "forces",
                "forces_mask",
                "stress_mask",
                "gap",
                "gap_mask",
            ):
                np.testing.assert_allclose(data[i][name], mixed[i][name], atol=1e-7)
            assert data[i].config_type == mixed[i].config_type
        assert data.provenance["level_of_theory"] == "EMT"

    def test_partly_masked_forces_survive(self, write, load, tmp_path):
        frames = waters(2)
        frames[1].calc.results["forces"][2] = np.nan
        config = DataConfig(sources=write(frames), allow_nan=True)
        convert_data(config, tmp_path / "out.extxyz")
        data = load(str(tmp_path / "out.extxyz"), allow_nan=True)
        assert data[1].forces_mask.tolist() == [True, True, False]
        np.testing.assert_allclose(data[1].forces[0], frames[1].get_forces()[0], atol=1e-7)

    def test_nan_and_wrong_keys_leave_nothing(self, write, tmp_path):
        frames = waters(2)
        frames[1].calc.results["energy"] = np.nan
        with pytest.raises(ValueError, match="frame 1: NaN in 'energy'"):
            convert_data(DataConfig(sources=write(frames)), tmp_path / "out.h5")
        config = DataConfig(sources=write(waters(2)), keys={"energy": "nope"})
        with pytest.raises(ValueError, match="the key 'nope' asked for label 'energy' is in no fr"):
            convert_data(config, tmp_path / "out.h5")
        assert not list(tmp_path.glob("*.h5"))
