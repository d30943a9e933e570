"""Products with packed weights equal numpy's for every shape that leaves a tile incomplete."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreibein.ops.lanes import lane_count
from dreibein.ops.matmul import add_outer, add_product, matmul, pack, pack_again


@given(
    rows=st.integers(0, 20),
    inner=st.integers(1, 40),
    vectors=st.integers(1, 9),
    first=st.integers(0, 3),
    double=st.booleans(),
)
def test_it_is_the_product(rows: int, inner: int, vectors: int, first: int, double: bool) -> None:
    dtype = np.float64 if double else np.float32
    rng = np.random.default_rng(rows + 100 * inner)
    columns = vectors * lane_count(dtype)
    x = rng.standard_normal((first + rows + 2, inner)).astype(dtype)
    weights = rng.standard_normal((inner, columns)).astype(dtype)
    out = np.full((first + rows + 2, columns), 7.0, dtype)
    matmul(x, pack(weights), out, first, rows)
    span = slice(first, first + rows)
    scale = np.abs(x[span]) @ np.abs(weights)
    assert np.all(np.abs(out[span] - x[span] @ weights) <= 4 * np.finfo(dtype).eps * scale + 1e-30)
    assert np.all(out[:first] == 7.0)
    assert np.all(out[first + rows :] == 7.0)


@given(
    rows=st.integers(0, 20) | st.integers(46, 100),
    inner=st.integers(1, 40),
    vectors=st.integers(1, 9),
    double=st.booleans(),
)
def test_products_add_to_what_is_there(rows: int, inner: int, vectors: int, double: bool) -> None:
    dtype = np.float64 if double else np.float32
    rng = np.random.default_rng(rows + 100 * inner)
    columns = vectors * lane_count(dtype)
    x, start = (rng.standard_normal((rows, n)).astype(dtype) for n in (inner, columns))
    weights = rng.standard_normal((inner, columns)).astype(dtype)
    out, outer = start.copy(), weights.copy()
    add_product(x, pack(weights), out)
    add_outer(x, start, outer)
    eps = 4 * np.finfo(dtype).eps
    scale = np.abs(start) + np.abs(x) @ np.abs(weights)
    assert np.all(np.abs(out - (start + x @ weights)) <= eps * scale + 1e-30)
    scale = np.abs(weights) + np.abs(x).T @ np.abs(start)
    assert np.all(np.abs(outer - (weights + x.T @ start)) <= eps * scale + 1e-30)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_packing_for_both_ways(dtype: type) -> None:
    lanes = lane_count(dtype)
    weights = np.random.default_rng(0).standard_normal((2, 3 * lanes, 2 * lanes)).astype(dtype)
    forward = np.empty((2, 3, 2 * lanes, lanes), dtype)
    back = np.empty((2, 2, 3 * lanes, lanes), dtype)
    pack_again(weights, forward, back)
    assert np.array_equal(forward, pack(weights.transpose(0, 2, 1)))
    assert np.array_equal(back, pack(weights))


@pytest.mark.parametrize("shape", [(3, 16), (2, 3, 32)])
def test_packing_keeps_every_weight(shape: tuple[int, ...]) -> None:
    weights = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    assert sorted(pack(weights).ravel()) == sorted(weights.ravel())
