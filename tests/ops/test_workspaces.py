"""Memory of large results is used again, and never while somebody holds it."""

import numpy as np
import pytest
import torch

from dreibein.ops import workspaces
from dreibein.ops.workspaces import (
    Workspace,
    aligned,
    core_cache_bytes,
    realigned,
    recycled,
    release,
)

SHAPE = (512, 1024)


@pytest.fixture(autouse=True)
def _nothing_kept():
    release()
    yield
    release()


def test_memory_comes_back():
    array, tensor = recycled(*SHAPE, dtype=np.float32)
    assert tensor.data_ptr() == array.ctypes.data
    place = tensor.data_ptr()
    del array, tensor
    assert recycled(*SHAPE, dtype=np.float32)[1].data_ptr() == place


HOLDERS = {
    "tensor": lambda tensor: tensor,
    "view": lambda tensor: tensor[3:4].T,
    "array": lambda tensor: tensor.numpy()[1:],
    "detached": lambda tensor: tensor.detach(),
}


@pytest.mark.parametrize("hold", HOLDERS)
def test_held_memory_does_not(hold):
    array, tensor = recycled(*SHAPE, dtype=np.float32)
    place, held = tensor.data_ptr(), HOLDERS[hold](tensor)
    del array, tensor
    assert recycled(*SHAPE, dtype=np.float32)[1].data_ptr() != place
    del held
    assert recycled(*SHAPE, dtype=np.float32)[1].data_ptr() == place


def test_other_shapes_types_and_small_results_are_new():
    array, tensor = recycled(*SHAPE, dtype=np.float32)
    del array, tensor
    assert recycled(SHAPE[0], SHAPE[1] // 2, dtype=np.float64)[1].shape == (512, 512)
    assert recycled(2, 3, dtype=np.float32)[1].shape == (2, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1,), (7, 5), (3, 11, 9, 8)])
def test_vectors_do_not_lie_across_cache_lines(shape, dtype):
    """Whatever NumPy's own memory begins at."""
    held = [aligned(*shape, dtype=dtype) for _ in range(5)]  # held, so that places differ
    workspace = Workspace(torch.float32 if dtype == np.float32 else torch.float64)
    held += [workspace.array(f"{k}", *shape) for k in range(5)]
    for array in held:
        assert array.ctypes.data % 64 == 0
        assert (array.shape, array.dtype, array.flags.c_contiguous) == (shape, dtype, True)


def test_realigned_is_a_copy_in_c_order():
    x = np.arange(24.0).reshape(4, 6).T
    copy = realigned(x)
    np.testing.assert_array_equal(copy, x)
    assert copy.flags.c_contiguous
    assert copy.ctypes.data % 64 == 0
    copy[0, 0] = 5.0
    assert x[0, 0] == 0.0


@pytest.mark.parametrize(
    ("told", "size"), [("2048K\n", 2 << 20), ("what?\n", 1 << 20), (None, 1 << 20)]
)
def test_the_cache_is_as_large_as_the_system_says(tmp_path, monkeypatch, told, size):
    path = tmp_path / "size"
    if told is not None:
        path.write_text(told)
    monkeypatch.setattr(workspaces, "_SECOND_LEVEL", path)
    core_cache_bytes.cache_clear()
    assert core_cache_bytes() == size
    core_cache_bytes.cache_clear()
