"""Pairs nearer than allowed, and neighbors counted, in one pass over a neighbor list; compiled."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, Any]


@lru_cache(maxsize=1)
def domain_kernel() -> Callable[..., int]:
    """The compiled `scan(pos, cell, kind, sender, receiver, shift, nearest, square, counts)`.

    Args of the kernel:
        pos: [N, 3] Å.
        cell: [3, 3] Å, vectors as rows.
        kind: Element of each atom as an index [N].
        sender: [E] atom j.
        receiver: [E] atom i.
        shift: [E, 3] whole cells S.
        nearest: [kinds, kinds] squares of the distances that are allowed.
        square: Square of the cutoff; pairs beyond it are passed over.
        counts: [N] int64, filled with the neighbors within the cutoff.

    Returns:
        The pair whose squared distance is the smallest part of what is allowed, or -1 where all
        keep their distance.
    """

    @numba.njit(nogil=True, cache=True)
    def scan(
        pos: Array,
        cell: Array,
        kind: Array,
        sender: Array,
        receiver: Array,
        shift: Array,
        nearest: Array,
        square: float,
        counts: Array,
    ) -> int:
        counts[:] = 0
        worst, least = -1, 1.0
        for e in range(len(sender)):
            i, j = receiver[e], sender[e]
            x = pos[j, 0] - pos[i, 0]
            y = pos[j, 1] - pos[i, 1]
            z = pos[j, 2] - pos[i, 2]
            a, b, c = shift[e, 0], shift[e, 1], shift[e, 2]
            if a != 0 or b != 0 or c != 0:
                x += a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
                y += a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
                z += a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
            r = x * x + y * y + z * z
            if r < square:
                counts[i] += 1
                allowed = nearest[kind[i], kind[j]]
                if r < least * allowed:
                    least, worst = r / allowed, e
        return worst

    return scan
