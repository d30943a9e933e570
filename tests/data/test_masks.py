"""Missing labels are masked; NaN is refused by frame unless allowed."""

import numpy as np
import pytest
from torch_geometric.data import Batch

from .conftest import labelled, waters


def test_missing_labels_are_zero_and_masked(write, load):
    frames = waters(4)
    frames[1] = labelled(frames[1], ("energy",))
    data = load(write(frames))
    assert "energy_mask" not in data[0]
    assert data[0].forces_mask.tolist() == [True] * 3
    assert data[1].forces_mask.tolist() == [False] * 3
    assert not data[1].forces.any()
    batch = Batch.from_data_list([data[i] for i in range(4)])
    assert batch.forces_mask.sum() == 9
    assert data.provenance["keys"]["forces"][0]["frames"] == 3


def test_nan_names_file_and_frame(write, load):
    frames = waters(4)
    frames[2].calc.results["energy"] = np.nan
    path = write(frames)
    with pytest.raises(
        ValueError,
        match=r"data.extxyz, frame 2: NaN in 'energy' \(energy\); remove the frames or set "
        "allow_nan to mask them",
    ):
        load(path)
    data = load(path, allow_nan=True)
    assert [bool(data[i].energy_mask) for i in range(4)] == [True, True, False, True]
    lax = load(path, strict=False)
    assert "frame 2: NaN in 'energy'" in lax.provenance["problems"][0]


def test_nan_forces_are_masked_by_atom(write, load):
    frames = waters(4)
    frames[1].calc.results["forces"][2] = np.nan
    frames[3].calc.results["forces"][:] = np.nan
    path = write(frames)
    with pytest.raises(ValueError, match="frame 1 and 1 more: 4 atoms with NaN in 'forces'"):
        load(path)
    data = load(path, allow_nan=True)
    assert data[1].forces_mask.tolist() == [True, True, False]
    assert data[3].forces_mask.tolist() == [False] * 3
    assert np.isfinite(data[1].forces).all()


def test_nan_positions_are_always_refused(write, load):
    frames = waters(2)
    frames[1].positions[1] = np.nan
    path = write(frames)
    for options in ({}, {"allow_nan": True}, {"strict": False}):
        with pytest.raises(ValueError, match="frame 1: the position of atom 1 is NaN or infinite"):
            load(path, **options)


def test_nan_cells_are_refused(write, load):
    frames = waters(2)
    frames[1].cell = np.diag([1.0, 1.0, np.nan])
    with pytest.raises(ValueError, match="frame 1: the cell contains NaN or infinity"):
        load(write(frames, "data.traj"))


def test_dummy_atoms_are_refused(write, load):
    frames = waters(2)
    frames[1].numbers[0] = 0
    with pytest.raises(ValueError, match=r"frame 1: atom 0 has no element \(atomic number 0\)"):
        load(write(frames))
