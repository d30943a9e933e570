"""Named arrays that are reused from step to step: fresh memory costs page faults at every call."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SLACK = 64
"""Elements after an array that a kernel on whole vectors may touch."""

_MOST_VIEWS = 4096

_LINE_BYTES = 64
"""A cache line. A vector that lies across two of them costs two loads, and NumPy begins arrays at
multiples of 16 bytes."""


_SECOND_LEVEL = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
_USUAL_SECOND_LEVEL = 1 << 20


@lru_cache(maxsize=1)
def core_cache_bytes() -> int:
    """Size of the second-level cache of a core; 1 MiB where the system does not tell."""
    try:
        text = _SECOND_LEVEL.read_text(encoding="ascii").strip()
        return int(text.removesuffix("K")) << 10
    except (OSError, ValueError):
        return _USUAL_SECOND_LEVEL


def aligned(*shape: int, dtype: np.dtype[Any] | type) -> np.ndarray[Any, Any]:
    """An array of any content that begins with a cache line.

    >>> aligned(3, 5, dtype=np.float32).ctypes.data % 64
    0
    """
    count, item = math.prod(shape), np.dtype(dtype).itemsize
    memory = np.empty(count + _LINE_BYTES // item, dtype)
    first = -memory.ctypes.data % _LINE_BYTES // item
    return memory[first : first + count].reshape(shape)


def realigned(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy in C order that begins with a cache line."""
    copy = aligned(*x.shape, dtype=x.dtype)
    copy[...] = x
    return copy


class Workspace:
    """Arrays by name; a name keeps its memory while the shapes asked for fit into it.

    Args:
        dtype: Of the elements.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.numpy_type = np.float32 if dtype == torch.float32 else np.float64
        self._memory: dict[str, np.ndarray[Any, Any]] = {}
        self._arrays: dict[tuple[Any, ...], np.ndarray[Any, Any]] = {}
        self._tensors: dict[tuple[Any, ...], Tensor] = {}

    def array(self, name: str, *shape: int) -> np.ndarray[Any, Any]:
        """The array of this name; what it held before is undefined when the shape has changed."""
        found = self._arrays.get((name, shape))
        if found is not None:
            return found
        size = 1
        for length in shape:
            size *= length
        memory = self._memory.get(name)
        if memory is None or len(memory) < size + _SLACK:
            # half as much again, or every batch a little larger than the last would allocate
            memory = aligned(size + size // 2 + _SLACK, dtype=self.numpy_type)
            memory.fill(0.0)
            self._memory[name] = memory
            self._forget(name)
        if len(self._arrays) > _MOST_VIEWS:
            self._arrays.clear()
            self._tensors.clear()
        found = self._arrays[name, shape] = memory[:size].reshape(shape)
        return found

    def tensor(self, name: str, *shape: int) -> Tensor:
        """The same memory as a tensor."""
        found = self._tensors.get((name, shape))
        if found is None:
            found = self._tensors[name, shape] = torch.from_numpy(self.array(name, *shape))
        return found

    def flat(self, name: str, size: int) -> np.ndarray[Any, Any]:
        """The memory of an array of `size` elements as [1, 1, n], n a whole number of vectors."""
        self.array(name, size)
        whole = -(-size // 16) * 16
        key = (name, ("flat", size))
        found = self._arrays.get(key)
        if found is None:
            found = self._arrays[key] = self._memory[name][:whole].reshape(1, 1, whole)
        return found

    def _forget(self, name: str) -> None:
        self._arrays = {k: v for k, v in self._arrays.items() if k[0] != name}
        self._tensors = {k: v for k, v in self._tensors.items() if k[0] != name}


_POOL: dict[torch.dtype, list[Workspace]] = {}


def borrow(dtype: torch.dtype) -> Workspace:
    """A workspace for one computation; `give_back` it."""
    pool = _POOL.setdefault(dtype, [])
    return pool.pop() if pool else Workspace(dtype)


def give_back(workspace: Workspace) -> None:
    """Let others use a workspace."""
    _POOL.setdefault(workspace.dtype, []).append(workspace)


@contextmanager
def borrowed(dtype: torch.dtype) -> Iterator[Workspace]:
    """A workspace within the context."""
    workspace = borrow(dtype)
    try:
        yield workspace
    finally:
        give_back(workspace)


_SPARE: list[np.ndarray[Any, Any]] = []
_SPARE_COUNT = 2
_SPARE_BYTES = 1 << 20
_LOCK = Lock()
_HELD_HERE = 3
"""References of an array that nobody else has: the list, a local name, and `getrefcount`."""


def recycled(*shape: int, dtype: np.dtype[Any] | type) -> tuple[np.ndarray[Any, Any], Tensor]:
    """An array of any content, and the same memory as a tensor that may be given away.

    Large results come back to memory of an earlier one whose tensors are all gone: of two hundred
    megabytes, page faults cost more than the arithmetic. The last two are kept, `release` frees.
    """
    with _LOCK:
        for array in _SPARE:
            free = sys.getrefcount(array) == _HELD_HERE
            if free and array.shape == shape and array.dtype == dtype:
                return array, torch.from_numpy(array)
        array = aligned(*shape, dtype=dtype)
        tensor = torch.from_numpy(array)
        if array.nbytes >= _SPARE_BYTES:
            _SPARE.append(array)
            del _SPARE[:-_SPARE_COUNT]
        return array, tensor


def release() -> None:
    """Free the memory of all workspaces that are not in use."""
    _POOL.clear()
    _SPARE.clear()
