"""Memory of large results is used again, and never while somebody holds it."""

import numpy as np
import pytest

from dreibein.ops.workspaces import recycled, release

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
