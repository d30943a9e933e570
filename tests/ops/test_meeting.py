"""Threads that meet see what the others wrote before."""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

from dreibein.ops.meeting import meet


@numba.njit(nogil=True)
def rounds(count, threads, own, written, sums):
    """Write, meet, sum what all wrote, meet; many times."""
    for k in range(len(sums)):
        written[own] = k * (own + 1)
        meet(count, threads)
        sums[k] = written.sum()
        meet(count, threads)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_everyone_is_there_before_anyone_goes_on(threads: int) -> None:
    count, written = np.zeros(1, np.int64), np.zeros(threads)
    sums = np.zeros((threads, 200))
    with ThreadPoolExecutor(threads) as pool:
        waiting = [
            pool.submit(rounds, count, threads, own, written, sums[own]) for own in range(threads)
        ]
        for one in waiting:
            one.result(timeout=60)
    expected = np.arange(200) * threads * (threads + 1) / 2
    np.testing.assert_array_equal(sums, np.tile(expected, (threads, 1)))
