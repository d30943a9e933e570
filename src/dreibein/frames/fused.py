"""The sums of `kernels`, compiled by numba: loops over nodes and edges around the blocks of `simd`.

Every receiver is owned by one thread, which walks over its edges; nothing is stored per edge but
the result. Results are allocated by numpy, which asks for huge
pages: fresh memory costs a fifth of torch's.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from .simd import block_operation

Array = np.ndarray[Any, Any]
Kernel = Callable[..., None]
Ranges = list[tuple[int, int]]
Job = tuple[Kernel, Array, list[Array], int, int]
"""Kernel, its matrices, its second array (one for all threads, or one each), start, channels."""

_SERIAL_WORK = 1 << 16
"""Components below which threads cost more than they save."""

_CACHED_WORK = 1 << 18
"""Components of edges that all jobs visit before the next range: about the size of a cache."""

_compile = numba.njit(nogil=True, error_model="numpy")


@lru_cache(maxsize=128)
def carry_kernel(size: int, item: int) -> Kernel:
    """y_e = D_i x_j for blocks of one size; d holds the transposed matrices."""
    turn = block_operation("turn", size, item)
    square = size * size * item

    @_compile
    def kernel(first, last, d, x, y, ptr, order, source, start, mul):  # type: ignore[no-untyped-def]
        matrices, rows, to = d.ctypes.data, x.ctypes.data, y.ctypes.data
        width = x.shape[1]
        for i in range(first, last):
            for p in range(ptr[i], ptr[i + 1]):
                row = rows + (source[order[p]] * width + start) * item
                turn(matrices + i * square, row, to + (order[p] * width + start) * item, mul)

    return kernel


@lru_cache(maxsize=128)
def gather_kernel(size: int, item: int) -> Kernel:
    """x_j += D_i^T y_e for blocks of one size, receiver by receiver."""
    turn_add = block_operation("turn_add", size, item)
    square = size * size * item

    @_compile
    def kernel(first, last, d, y, x, ptr, order, sender, start, mul):  # type: ignore[no-untyped-def]
        matrices, rows, to = d.ctypes.data, y.ctypes.data, x.ctypes.data
        width = y.shape[1]
        for i in range(first, last):
            for p in range(ptr[i], ptr[i + 1]):
                row = rows + (order[p] * width + start) * item
                place = to + (sender[order[p]] * width + start) * item
                turn_add(matrices + i * square, row, place, mul)

    return kernel


@lru_cache(maxsize=128)
def outer_kernel(size: int, item: int) -> Kernel:
    """D_i = sum_e y_e x_j^T for blocks of one size."""
    outer_add = block_operation("outer", size, item)
    square = size * size * item

    @_compile
    def kernel(first, last, d, y, x, ptr, order, source, start, mul):  # type: ignore[no-untyped-def]
        matrices, left, rows = d.ctypes.data, y.ctypes.data, x.ctypes.data
        width = y.shape[1]
        for i in range(first, last):
            for p in range(ptr[i], ptr[i + 1]):
                row = rows + (source[order[p]] * width + start) * item
                outer_add(matrices + i * square, left + (order[p] * width + start) * item, row, mul)

    return kernel


@_compile
def copy_kernel(first, last, d, x, y, ptr, order, source, start, mul):  # type: ignore[no-untyped-def]
    """y_e = x_j where the matrix is one."""
    for i in range(first, last):
        for p in range(ptr[i], ptr[i + 1]):
            row = x[source[order[p]], start : start + mul]
            to = y[order[p], start : start + mul]
            for u in range(mul):
                to[u] = row[u]


@_compile
def sum_kernel(first, last, d, y, x, ptr, order, sender, start, mul):  # type: ignore[no-untyped-def]
    """x_j += y_e where the matrix is one."""
    for i in range(first, last):
        for p in range(ptr[i], ptr[i + 1]):
            row = y[order[p], start : start + mul]
            to = x[sender[order[p]], start : start + mul]
            for u in range(mul):
                to[u] += row[u]


def carry(
    d: Tensor, x: Tensor, sender: Tensor, ptr: Tensor, order: Tensor, blocks: list[Any]
) -> Tensor:
    """y_e = D_i x_j."""
    out: Array = np.empty((len(sender), x.shape[1]), _type(x))
    jobs: list[Job] = []
    for mul, size, start, offset in blocks:
        if offset < 0:
            jobs.append((copy_kernel, out, [out], start, mul))
        else:
            matrix = _array(_square(d, size, offset).mT)
            jobs.append((carry_kernel(size, out.itemsize), matrix, [out], start, mul))
    pieces = _pieces(_array(ptr), x.shape[1])
    _run(jobs, pieces, _array(x), _array(ptr), _array(order), _array(sender))
    return torch.from_numpy(out)


def gather(
    d: Tensor,
    y: Tensor,
    sender: Tensor,
    ptr: Tensor,
    order: Tensor,
    blocks: list[Any],
    num_senders: int,
) -> Tensor:
    """x_j = sum_e D_i^T y_e."""
    pieces = _pieces(_array(ptr), y.shape[1])
    totals = _totals(_array(sender), num_senders, pieces, y)
    jobs = _gather_jobs(d, totals, blocks)
    _run(jobs, pieces, _array(y), _array(ptr), _array(order), _array(sender))
    return torch.from_numpy(totals[0] if len(totals) == 1 else totals.sum(0))


def outer(
    y: Tensor,
    x: Tensor,
    sender: Tensor,
    ptr: Tensor,
    order: Tensor,
    blocks: list[Any],
    width: int,
) -> Tensor:
    """D_i = sum_e y_e x_j^T on the blocks."""
    parts: dict[int, Array] = {}
    jobs = _outer_jobs(x, parts, blocks, len(ptr) - 1)
    pieces = _pieces(_array(ptr), x.shape[1])
    _run(jobs, pieces, _array(y), _array(ptr), _array(order), _array(sender))
    return _packed(parts, len(ptr) - 1, width, y)


def pull(
    d: Tensor,
    y: Tensor,
    x: Tensor,
    sender: Tensor,
    ptr: Tensor,
    order: Tensor,
    blocks: list[Any],
) -> tuple[Tensor, Tensor]:
    """`outer(y, x)` and `gather(d, y)` in one pass over y."""
    parts: dict[int, Array] = {}
    pieces = _pieces(_array(ptr), y.shape[1])
    totals = _totals(_array(sender), len(x), pieces, y)
    jobs = _outer_jobs(x, parts, blocks, len(ptr) - 1) + _gather_jobs(d, totals, blocks)
    _run(jobs, pieces, _array(y), _array(ptr), _array(order), _array(sender))
    total = totals[0] if len(totals) == 1 else totals.sum(0)
    return _packed(parts, len(ptr) - 1, d.shape[1], y), torch.from_numpy(total)


def _gather_jobs(d: Tensor, totals: Array, blocks: list[Any]) -> list[Job]:
    jobs: list[Job] = []
    for mul, size, start, offset in blocks:
        if offset < 0:
            jobs.append((sum_kernel, totals[0], list(totals), start, mul))
        else:
            matrix = _array(_square(d, size, offset))
            kernel = gather_kernel(size, totals.itemsize)
            jobs.append((kernel, matrix, list(totals), start, mul))
    return jobs


def _outer_jobs(x: Tensor, parts: dict[int, Array], blocks: list[Any], rows: int) -> list[Job]:
    jobs: list[Job] = []
    for mul, size, start, offset in blocks:
        if offset >= 0:
            part = parts.setdefault(offset, np.zeros((rows, size, size), _type(x)))
            jobs.append((outer_kernel(size, part.itemsize), part, [_array(x)], start, mul))
    return jobs


def _packed(parts: dict[int, Array], rows: int, width: int, like: Tensor) -> Tensor:
    out: Array = np.empty((rows, width), _type(like))
    for offset, part in parts.items():
        out[:, offset : offset + part.shape[1] ** 2] = part.reshape(rows, -1)
    return torch.from_numpy(out)


def _totals(sender: Array, count: int, pieces: list[Ranges], like: Tensor) -> Array:
    """Zeros for sums over senders: one array for each thread, as two may meet at one sender."""
    apart = len(pieces) == 1 or (len(sender) == count and (sender == np.arange(count)).all())
    return np.zeros((1 if apart else len(pieces), count, like.shape[1]), _type(like))


def _square(d: Tensor, size: int, offset: int) -> Tensor:
    return d[:, offset : offset + size * size].unflatten(1, (size, size))


def _array(tensor: Tensor) -> Array:
    return tensor.detach().contiguous().numpy()


def _type(like: Tensor) -> type:
    return np.float32 if like.dtype == torch.float32 else np.float64


def _pieces(ptr: Array, width: int) -> list[Ranges]:
    """Ranges of rows: for each thread as many edges, each range small enough for the cache."""
    rows, edges = len(ptr) - 1, int(ptr[-1])
    count = max(1, min(torch.get_num_threads(), edges * width // _SERIAL_WORK))
    step = max(1, _CACHED_WORK * rows // max(1, edges * width))
    ends = [edges * k // count for k in range(1, count)]
    cuts = [0, *(int(np.searchsorted(ptr, end)) for end in ends), rows]
    return [
        [(begin, min(begin + step, last)) for begin in range(first, last, step)]
        for first, last in pairwise(cuts)
    ]


def _run(
    jobs: list[Job], pieces: list[Ranges], first: Array, ptr: Array, order: Array, sender: Array
) -> None:
    """Every job over all rows; all jobs of a range run while its edges are in the cache."""

    def work(place: int) -> None:
        for begin, end in pieces[place]:
            for kernel, matrix, seconds, start, mul in jobs:
                second = seconds[place % len(seconds)]
                kernel(begin, end, matrix, first, second, ptr, order, sender, start, mul)

    if len(pieces) == 1:
        work(0)
        return
    pool = _pool(len(pieces), os.getpid())
    for done in [pool.submit(work, place) for place in range(len(pieces))]:
        done.result()


@lru_cache(maxsize=4)
def _pool(count: int, process: int) -> ThreadPoolExecutor:
    """Threads of this process; a forked one makes its own."""
    return ThreadPoolExecutor(count, thread_name_prefix="dreibein")
