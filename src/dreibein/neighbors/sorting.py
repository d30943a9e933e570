"""From pairs in any order to a `NeighborList`: sorted by receiver, then sender, then shift.

Large lists are sorted by counting, in two stable passes, first by sender and then by receiver. A
pass is the transposition of a sparse matrix (scipy's CSR to CSC, compiled), which gives the row
pointers on the way; the second pass even gives the senders. What does not fit into row and column
travels as one integer: the shift as a number in mixed radix.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreibein.neighbors.lists import NeighborList

__all__ = ["neighbor_list"]

# Below this many edges np.lexsort is faster than the set-up of the counting sort.
_SMALL = 5_000
# Largest table (rows) from which shifts are decoded; beyond, they are computed.
_TABLE_ROWS = 10_000

_Integers = NDArray[Any]  # integers of any width


def neighbor_list(
    sender: _Integers,
    receiver: _Integers,
    shift: _Integers,
    *,
    num_atoms: int,
    mirror: bool,
    repeats: bool,
) -> NeighborList:
    """Sort pairs by (receiver, sender, shift).

    Args:
        sender: [P] atom j.
        receiver: [P] atom i.
        shift: [P, 3] cells S.
        num_atoms: N.
        mirror: every pair stands for (i, j, S) and (j, i, −S).
        repeats: two edges may have the same sender and receiver (cells less than twice the
            cutoff wide); False saves one pass.
    """
    if len(sender) * (1 + mirror) < _SMALL:
        return _sort_small(sender, receiver, shift, num_atoms, mirror)
    return _sort_large(sender, receiver, shift, num_atoms, mirror, repeats)


def _sort_small(
    sender: _Integers, receiver: _Integers, shift: _Integers, num_atoms: int, mirror: bool
) -> NeighborList:
    """Sort by comparison."""
    if mirror:
        sender, receiver = np.concatenate((sender, receiver)), np.concatenate((receiver, sender))
        shift = np.concatenate((shift, -shift))
    order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], sender, receiver))
    edge_index = np.empty((2, len(order)), dtype=np.int64)
    edge_index[0], edge_index[1] = sender[order], receiver[order]
    row_ptr = np.searchsorted(edge_index[1], np.arange(num_atoms + 1))
    return NeighborList(
        torch.from_numpy(edge_index),
        torch.from_numpy(shift[order].astype(np.int64)),
        torch.from_numpy(row_ptr),
    )


def _sort_large(
    sender: _Integers,
    receiver: _Integers,
    shift: _Integers,
    num_atoms: int,
    mirror: bool,
    repeats: bool,
) -> NeighborList:
    """Sort by counting."""
    radix, code = _encode(shift)
    # Integers no wider than needed: memory traffic is the cost here.
    index = np.int32 if max(2 * len(code) + 1, num_atoms) < 2**31 else np.int64
    sender, receiver = sender.astype(index), receiver.astype(index)
    codes = radix[0] * radix[1] * radix[2]
    if mirror:
        sender, receiver = np.concatenate((sender, receiver)), np.concatenate((receiver, sender))
        code = np.concatenate((code, codes - 1 - code))
    if repeats:
        # numpy's stable sort of 16-bit integers is a counting sort too.
        order = np.argsort(code.astype(np.int16) if codes < 2**15 else code, kind="stable")
        sender, receiver, code = sender[order], receiver[order], code[order]

    # By sender, each edge a row of its own; then by receiver, each sender a row. Arrays are
    # overwritten and dropped at once: fresh memory costs more than arithmetic here.
    payload = receiver.astype(np.int32 if num_atoms * codes < 2**31 else np.int64, copy=False)
    np.multiply(payload, codes, out=payload)
    np.add(payload, code, out=payload)
    del receiver, code
    one_per_row = np.arange(len(sender) + 1, dtype=index)
    payload, row_ptr = _transpose(payload, sender, one_per_row, num_atoms)[1:]
    del sender, one_per_row
    receiver = payload // codes
    np.remainder(payload, codes, out=payload)
    receiver = receiver.astype(index, copy=False)
    sender, code, row_ptr = _transpose(payload, receiver, row_ptr, num_atoms)
    del receiver, payload

    pointers = torch.from_numpy(row_ptr.astype(np.int64))
    # Large results are allocated by numpy: it asks for huge pages, torch pays a fault every 4 kB.
    edge_index = np.empty((2, len(sender)), dtype=np.int64)
    edge_index[0] = sender
    edge_index[1] = np.repeat(np.arange(num_atoms), np.diff(row_ptr))
    return NeighborList(
        torch.from_numpy(edge_index), torch.from_numpy(_decode(code, radix)), pointers
    )


def _encode(shift: _Integers) -> tuple[tuple[int, int, int], _Integers]:
    """Number the shifts in their order from zero; −S is ``prod(radix) - 1 - code``."""
    reach = [max(int(column.max()), -int(column.min())) for column in shift.T]
    radix = (2 * reach[0] + 1, 2 * reach[1] + 1, 2 * reach[2] + 1)
    codes = radix[0] * radix[1] * radix[2]
    code = shift[:, 0].astype(np.int32 if codes < 2**31 else np.int64)
    for axis in (1, 2):
        np.multiply(code, radix[axis], out=code)
        np.add(code, shift[:, axis], out=code)
    return radix, code + (codes - 1) // 2


def _decode(code: _Integers, radix: tuple[int, int, int]) -> _Integers:
    """Turn numbers back into shifts, [E, 3] int64."""
    if radix[0] * radix[1] * radix[2] <= _TABLE_ROWS:
        return _shift_table(radix).take(code, axis=0)
    return np.stack(np.unravel_index(code, radix), axis=1) - np.array(radix) // 2


@lru_cache(maxsize=16)
def _shift_table(radix: tuple[int, int, int]) -> _Integers:
    digits = np.unravel_index(np.arange(radix[0] * radix[1] * radix[2]), radix)
    return np.stack(digits, axis=1) - np.array(radix) // 2


def _transpose(
    data: _Integers, columns: _Integers, row_ptr: _Integers, num_columns: int
) -> tuple[_Integers, _Integers, _Integers]:
    """Order ``data`` by column, stable; return its rows, itself, and the columns' pointers."""
    from scipy.sparse import csr_matrix  # slow to import and needed for large lists only

    shape = (len(row_ptr) - 1, num_columns)
    ordered = csr_matrix((data, columns, row_ptr), shape=shape, copy=False).tocsc()
    return ordered.indices, ordered.data, ordered.indptr
