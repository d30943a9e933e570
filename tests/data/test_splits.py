"""Splits: the seed alone decides, equal geometries stay together, wrong portions are refused."""

import numpy as np
import pytest

from dreibein.data import DataConfig, load_splits, split_indices
from dreibein.data.splits import count_of

from .conftest import waters


def hashes(number):
    return np.arange(number, dtype=np.uint64)


def test_counts_are_met_and_sides_are_apart():
    sides = split_indices(hashes(100), {"validation": 10, "test": 20}, seed=3)
    assert [len(sides[k]) for k in ("train", "validation", "test")] == [70, 10, 20]
    assert sorted(i for side in sides.values() for i in side) == list(range(100))


def test_the_seed_decides():
    one = split_indices(hashes(50), {"validation": 5}, seed=1)
    assert one == split_indices(hashes(50), {"validation": 5}, seed=1)
    assert one != split_indices(hashes(50), {"validation": 5}, seed=2)
    # fixed for all releases
    assert one["validation"] == [0, 4, 5, 23, 25]


def test_training_frames_can_be_limited():
    sides = split_indices(hashes(100), {"validation": 10}, 25, seed=0)
    assert len(sides["train"]) == 25
    assert not set(sides["train"]) & set(sides["validation"])


def test_equal_geometries_stay_together():
    repeated = np.repeat(hashes(20), 5)
    sides = split_indices(repeated, {"validation": 25}, seed=0)
    assert len(sides["validation"]) == 25
    kinds = {side: set(repeated[frames].tolist()) for side, frames in sides.items()}
    assert not kinds["train"] & kinds["validation"]


@pytest.mark.parametrize(
    ("portion", "message"),
    [
        (11, "validation: 11 frames asked for, but there are only 10"),
        (1.5, "validation: 1.5 is no fraction below 1; for a count write a whole number"),
        (-1, "validation: -1 is no number of frames; give a count or a fraction"),
    ],
)
def test_wrong_portions(portion, message):
    with pytest.raises(ValueError, match=message):
        count_of(portion, 10, "validation")


def test_too_few_frames():
    with pytest.raises(
        ValueError, match="10 frames are too few for validation 5, test 5 and at least 1 to train"
    ):
        split_indices(hashes(10), {"validation": 5, "test": 5})
    with pytest.raises(ValueError, match="too few for validation 5 and train 6: hold out fewer"):
        split_indices(hashes(10), {"validation": 5}, 6)


def test_load_splits(write):
    config = DataConfig(sources=write(waters(20)), validation=0.25, test=3, split_seed=7)
    splits = load_splits(config)
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [12, 5, 3]
    record = splits.record()
    assert record["seed"] == 7
    assert record["data_sha256"] == splits.train.provenance["sha256"]
    assert sorted(record["train"] + record["validation"] + record["test"]) == list(range(20))
    np.testing.assert_allclose(
        splits.test[0].pos, splits.train.subset([0])._parts[0].frame(record["test"][0])["pos"]
    )


def test_sides_from_their_own_sources(write):
    train, other = write(waters(6), "train.extxyz"), write(waters(4, seed=9), "other.extxyz")
    splits = load_splits(DataConfig(sources=train, validation=2, test=[other]))
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [4, 2, 4]
    assert splits.test.describe(0).endswith("other.extxyz, frame 0")
    none = load_splits(DataConfig(sources=train, validation=None))
    assert none.validation is None
    assert none.test is None
    assert len(none.train) == 6


def test_leaks_between_sources_are_told(write):
    frames = waters(6)
    train, test = write(frames, "train.extxyz"), write(frames[2:4], "test.extxyz")
    splits = load_splits(DataConfig(sources=train, validation=None, test=[test]))
    (note,) = splits.notes
    assert note.startswith("2 of 2 test frames have the geometry of a training frame (first: ")
    assert note.endswith("test.extxyz, frame 0): errors on them are too good")
    assert load_splits(DataConfig(sources=train, validation=2)).notes == ()
