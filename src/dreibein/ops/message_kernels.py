"""The derivatives of the forms in `messages`, compiled; features are [N, 9, F] here.

Loops over receivers or senders own the rows that they write; loops over edges write one row of
numbers each, or add to a table. One thread: the training pass (`edge_passes`) is what is used
where speed counts, and it divides the atoms among threads.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from dreibein.ops.atom_kernels import dot
from dreibein.ops.atom_passes import over_arrays
from dreibein.ops.edge_kernels import PART, part_dots
from dreibein.ops.lanes import Array, Integer, Lanes, Vector, lane_count
from dreibein.ops.multilinear import Kernel, Plan
from dreibein.ops.splines import TAPS

Emit = Callable[..., None]


def _splats(array: Array, e: Integer, count: int) -> list[Vector]:
    return [array.splat(e, t) for t in range(count)]


def _nine(x: Array, i: Integer, c: Integer) -> list[Vector]:
    return [x.load(i, a, c) for a in range(9)]


def _control(table: Array, base: Integer, t: int, c: Integer) -> list[Vector]:
    return [table.load(base + t, part, c) for part in range(3)]


def _filters(taps: Array, table: Array, base: Integer, e: Integer, c: Integer) -> list[Vector]:
    weights = _splats(taps, e, TAPS)
    return [dot(weights, [table.load(base + t, part, c) for t in range(TAPS)]) for part in range(3)]


def _gather(lanes: Lanes, arrays: list[Array], rows: Integer, channels: Integer) -> None:
    taps, table, features, base, other, ptr, order, out = arrays
    with lanes.loop(0, rows) as i, lanes.loop(0, channels, lanes.size) as c:
        sums = [lanes.variable() for _ in range(9)]
        with lanes.loop(ptr.integer(i), ptr.integer(i + 1)) as place:
            e = order.integer(place)
            g = _filters(taps, table, base.integer(e), e, c)
            for a, v in enumerate(_nine(features, other.integer(e), c)):
                sums[a].add(v * g[PART[a]])
        for a, total in enumerate(sums):
            out.store(total.value, i, a, c)


def _dot(lanes: Lanes, arrays: list[Array], rows: Integer, channels: Integer) -> None:
    table, senders, receivers, base, sender, receiver, out = arrays
    with lanes.loop(0, rows) as e:
        sums = [lanes.variable() for _ in range(TAPS)]
        with lanes.loop(0, channels, lanes.size) as c:
            mine = _nine(receivers, receiver.integer(e), c)
            parts = part_dots(_nine(senders, sender.integer(e), c), mine)
            for t, total in enumerate(sums):
                total.add(dot(parts, _control(table, base.integer(e), t, c)))
        for t, total in enumerate(sums):
            out.put_total(total.value, e, t)


def _add_to_table(
    out: Array, weights: list[Vector], parts: list[Vector], base: Integer, c: Integer
) -> None:
    for t, weight in enumerate(weights):
        for part, value in enumerate(parts):
            row = base + t
            out.store(out.load(row, part, c) + weight * value, row, part, c)


def _scatter(lanes: Lanes, arrays: list[Array], rows: Integer, channels: Integer) -> None:
    taps, senders, receivers, base, sender, receiver, out = arrays
    with lanes.loop(0, rows) as e, lanes.loop(0, channels, lanes.size) as c:
        mine = _nine(receivers, receiver.integer(e), c)
        parts = part_dots(_nine(senders, sender.integer(e), c), mine)
        _add_to_table(out, _splats(taps, e, TAPS), parts, base.integer(e), c)


def _embed(lanes: Lanes, arrays: list[Array], rows: Integer, channels: Integer) -> None:
    taps, harmonics, table, pairs, base, pair, ptr, order, out = arrays
    with lanes.loop(0, rows) as i, lanes.loop(0, channels, lanes.size) as c:
        sums = [lanes.variable() for _ in range(9)]
        with lanes.loop(ptr.integer(i), ptr.integer(i + 1)) as place:
            e = order.integer(place)
            z = pairs.load(pair.integer(e), c)
            g = [z * v for v in _filters(taps, table, base.integer(e), e, c)]
            for a, total in enumerate(sums):
                total.add(harmonics.splat(e, a) * g[PART[a]])
        for a, total in enumerate(sums):
            out.store(total.value, i, a, c)


def _embed_taps(lanes: Lanes, arrays: list[Array], rows: Integer, channels: Integer) -> None:
    harmonics, table, pairs, receivers, base, pair, receiver, out = arrays
    with lanes.loop(0, rows) as e:
        sums = [lanes.variable() for _ in range(TAPS)]
        with lanes.loop(0, channels, lanes.size) as c:
            z, mine = pairs.load(pair.integer(e), c), _nine(receivers, receiver.integer(e), c)
            parts = [z * v for v in part_dots(_splats(harmonics, e, 9), mine)]
            for t, total in enumerate(sums):
                total.add(dot(parts, _control(table, base.integer(e), t, c)))
        for t, total in enumerate(sums):
            out.put_total(total.value, e, t)


def _embed_harmonics(lanes: Lanes, arrays: list[Array], rows: Integer, channels: Integer) -> None:
    taps, table, pairs, receivers, base, pair, receiver, out = arrays
    with lanes.loop(0, rows) as e:
        sums = [lanes.variable() for _ in range(9)]
        with lanes.loop(0, channels, lanes.size) as c:
            z = pairs.load(pair.integer(e), c)
            g = [z * v for v in _filters(taps, table, base.integer(e), e, c)]
            for a, v in enumerate(_nine(receivers, receiver.integer(e), c)):
                sums[a].add(g[PART[a]] * v)
        for a, total in enumerate(sums):
            out.put_total(total.value, e, a)


def _embed_pairs(lanes: Lanes, arrays: list[Array], rows: Integer, channels: Integer) -> None:
    taps, harmonics, table, receivers, base, pair, receiver, out = arrays
    with lanes.loop(0, rows) as e, lanes.loop(0, channels, lanes.size) as c:
        mine = _nine(receivers, receiver.integer(e), c)
        parts = part_dots(_splats(harmonics, e, 9), mine)
        total = dot(parts, _filters(taps, table, base.integer(e), e, c))
        which = pair.integer(e)
        out.store(out.load(which, c) + total, which, c)


def _embed_table(lanes: Lanes, arrays: list[Array], rows: Integer, channels: Integer) -> None:
    taps, harmonics, pairs, receivers, base, pair, receiver, out = arrays
    with lanes.loop(0, rows) as e, lanes.loop(0, channels, lanes.size) as c:
        mine, z = _nine(receivers, receiver.integer(e), c), pairs.load(pair.integer(e), c)
        parts = [z * v for v in part_dots(_splats(harmonics, e, 9), mine)]
        _add_to_table(out, _splats(taps, e, TAPS), parts, base.integer(e), c)


@lru_cache(maxsize=32)
def _compiled(emit: Emit) -> Callable[..., None]:
    kernel = over_arrays(emit)

    @numba.njit(nogil=True, error_model="numpy")
    def run(arrays, rows, channels):  # type: ignore[no-untyped-def]
        kernel(arrays, rows, channels)

    return run


def _kernel(emit: Emit, floats: str, integers: str, shape: str, loop: str) -> Kernel:
    """An operator on tensors.

    Args:
        emit: The loop; takes the arrays named, then the result.
        floats: Slots, in the order in which the loop takes them.
        integers: Entries of the plan likewise.
        shape: Of the result: E (rows) t (taps) a (harmonics) p (parts) n (components) f (channels).
        loop: What is looped over: rows of the result, or "edges".
    """

    def run(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
        first = next(arrays[n] for n in ("table", "receivers", "senders") if n in arrays)
        kind, channels = first.dtype, first.shape[-1]
        item = np.float32 if kind == torch.float32 else np.float64
        width = -(-channels // lane_count(item)) * lane_count(item)
        values = [_padded(n, arrays[n], width, item) for n in floats.split()]
        places = [plan[_PLAN[n]].numpy() for n in integers.split()]
        sizes = {"E": rows, "t": TAPS, "a": 9, "p": 3, "n": 9, "f": width}
        out = np.zeros(tuple(sizes[k] for k in shape), item)
        count = len(places[0]) if loop == "edges" else rows
        _compiled(emit)((*values, *places, out), count, width)
        found = torch.from_numpy(out)
        return found[..., :channels].contiguous() if shape[-1] == "f" else found

    return run


_PLAN = {
    name: place
    for place, name in enumerate(
        ("base", "sender", "receiver", "ptr_r", "order_r", "ptr_s", "order_s", "pair")
    )
}
_NARROW = ("taps", "harmonics")


def _padded(name: str, tensor: Tensor, width: int, item: Any) -> np.ndarray[Any, Any]:
    """A C-ordered array whose rows of channels are whole vectors."""
    missing = 0 if name in _NARROW else width - tensor.shape[-1]
    if missing:
        tensor = torch.nn.functional.pad(tensor, (0, missing))
    return np.ascontiguousarray(tensor.detach().numpy(), item)


MESSAGE = {
    "receivers": _kernel(_gather, "taps table senders", "base sender ptr_r order_r", "Enf", "rows"),
    "senders": _kernel(
        _gather, "taps table receivers", "base receiver ptr_s order_s", "Enf", "rows"
    ),
    "taps": _kernel(_dot, "table senders receivers", "base sender receiver", "Et", "edges"),
    "table": _kernel(_scatter, "taps senders receivers", "base sender receiver", "Epf", "edges"),
}
EMBEDDING = {
    "receivers": _kernel(
        _embed, "taps harmonics table pairs", "base pair ptr_r order_r", "Enf", "rows"
    ),
    "taps": _kernel(
        _embed_taps, "harmonics table pairs receivers", "base pair receiver", "Et", "edges"
    ),
    "harmonics": _kernel(
        _embed_harmonics, "taps table pairs receivers", "base pair receiver", "Ea", "edges"
    ),
    "pairs": _kernel(
        _embed_pairs, "taps harmonics table receivers", "base pair receiver", "Ef", "edges"
    ),
    "table": _kernel(
        _embed_table, "taps harmonics pairs receivers", "base pair receiver", "Epf", "edges"
    ),
}
