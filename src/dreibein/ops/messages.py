"""Messages and embeddings of TensorNet as multilinear forms of edges, tables and features.

With the taps w [E, 6] of edges e = (i <- j), control points c [K, 3, F], features Y [M, 9, F] of
senders and X [N, 9, F] of receivers, nine numbers h [E, 9] of an edge's direction, a row
Z [Q, F] for each pair of elements, and p(a) the part of component a:

    message    T = sum_e sum_{t, a, f} w_et c[k_e + t, p(a), f] Y[j, a, f] X[i, a, f]
    embedding  T = sum_e sum_{t, a, f} w_et c[k_e + t, p(a), f] h_ea Z[q_e, f] X[i, a, f]

`message` and `embedding` are dT/dX; the other derivatives are an edge dot product, a scatter to
the knots, the sum over the reversed graph, sums over pairs. Nothing is stored per edge and
channel, and derivatives of every order are operators of the same family (`Form`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dreibein.ops.message_kernels import EMBEDDING as EMBEDDING_KERNELS
from dreibein.ops.message_kernels import MESSAGE as MESSAGE_KERNELS
from dreibein.ops.multilinear import Form, Kernel, Plan
from dreibein.ops.splines import TAPS

PART = (0, 1, 1, 1, 2, 2, 2, 2, 2)


@dataclass(frozen=True)
class EdgeTable:
    """Which rows meet at an edge, in any order of edges.

    Attributes:
        plan: base, sender, receiver, then starts and order of the edges grouped by receiver and
            by sender, then the row of Z; int32.
        num_receivers: N.
        num_senders: M.
    """

    plan: tuple[Tensor, ...]
    num_receivers: int
    num_senders: int


def edge_table(
    base: Tensor, edge_index: Tensor, num_atoms: int, pair: Tensor | None = None
) -> EdgeTable:
    """The table of edges (row 0 the sender, row 1 the receiver) with first control points `base`.

    Args:
        base: k_e [E].
        edge_index: [2, E].
        num_atoms: Senders and receivers.
        pair: q_e [E]; 0 where there is no embedding.
    """
    sender, receiver = edge_index[0], edge_index[1]
    grouped = [part for keys in (receiver, sender) for part in _grouped(keys, num_atoms)]
    pair = torch.zeros_like(base) if pair is None else pair
    integers = (base, sender, receiver, *grouped, pair)
    plan = tuple(part.to(torch.int32).contiguous() for part in integers)
    return EdgeTable(plan, num_atoms, num_atoms)


def message(
    taps: Tensor, table: Tensor, features: Tensor, edges: EdgeTable, *, backend: str = "fused"
) -> Tensor:
    """M_i = sum_{e: j -> i} g(e) Y_j, [N, 9, F], with filters g(e) = sum_t w_et c[k_e + t].

    Args:
        taps: w [E, 6], the envelope included.
        table: c [K, 3, F].
        features: Y [M, 9, F].
        edges: Who meets whom.
        backend: "fused" (on CUDA: Triton) or "reference".
    """
    arrays = {"taps": taps, "table": table, "senders": features}
    return MESSAGE("receivers", arrays, edges.plan, edges.num_receivers, backend=backend)


def embedding(
    taps: Tensor,
    harmonics: Tensor,
    table: Tensor,
    pairs: Tensor,
    edges: EdgeTable,
    *,
    backend: str = "fused",
) -> Tensor:
    """X_i = sum_e h_e Z_q(e) g(e), [N, 9, F].

    Args:
        taps: w [E, 6], the envelope included.
        harmonics: h [E, 9].
        table: c [K, 3, F].
        pairs: Z [Q, F].
        edges: Who meets whom, and q.
        backend: "fused" (on CUDA: Triton) or "reference".
    """
    arrays = {"taps": taps, "harmonics": harmonics, "table": table, "pairs": pairs}
    return EMBEDDING("receivers", arrays, edges.plan, edges.num_receivers, backend=backend)


def _grouped(keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    ordered, order = keys.sort(stable=True)
    # counting them would make a GPU wait
    bounds = torch.arange(count + 1, device=keys.device, dtype=keys.dtype)
    return torch.searchsorted(ordered, bounds), order


# references: what the forms say, one array of edges and channels after the other


def _spread(parts: Tensor) -> Tensor:
    return parts[:, list(PART)]


def _part_sums(x: Tensor) -> Tensor:
    return torch.stack([part.sum(1) for part in x.split((1, 3, 5), dim=1)], dim=1)


def _points(plan: Plan) -> Tensor:
    """Control points [E, 6] of each edge."""
    return plan[0].long().unsqueeze(1) + torch.arange(TAPS, device=plan[0].device)


def _filters(arrays: dict[str, Tensor], plan: Plan) -> Tensor:
    rows = _points(plan)
    return torch.einsum("et,etpf->epf", arrays["taps"], arrays["table"][rows])


def _tensors(arrays: dict[str, Tensor], plan: Plan) -> Tensor:
    """What meets the filter and X at an edge [E, 9, F]."""
    if "senders" in arrays:
        return arrays["senders"][plan[1].long()]
    return arrays["harmonics"].unsqueeze(-1) * arrays["pairs"][plan[-1].long()].unsqueeze(1)


def _to_filters(arrays: dict[str, Tensor], plan: Plan) -> Tensor:
    """dT/dg [E, 3, F]."""
    return _part_sums(_tensors(arrays, plan) * arrays["receivers"][plan[2].long()])


def _to_receivers(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    messages = _spread(_filters(arrays, plan)) * _tensors(arrays, plan)
    return _sum(messages, plan[2], rows)


def _to_senders(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    pulls = _spread(_filters(arrays, plan)) * arrays["receivers"][plan[2].long()]
    return _sum(pulls, plan[1], rows)


def _to_taps(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    points = _points(plan)
    return torch.einsum("epf,etpf->et", _to_filters(arrays, plan), arrays["table"][points])


def _to_table(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    points = _points(plan)
    spread = torch.einsum("et,epf->etpf", arrays["taps"], _to_filters(arrays, plan))
    return _sum(spread.flatten(0, 1), points.flatten(), rows)


def _weighted(arrays: dict[str, Tensor], plan: Plan) -> Tensor:
    """G X [E, 9, F]."""
    return _spread(_filters(arrays, plan)) * arrays["receivers"][plan[2].long()]


def _to_harmonics(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    return torch.einsum("eaf,ef->ea", _weighted(arrays, plan), arrays["pairs"][plan[-1].long()])


def _to_pairs(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    return _sum(
        torch.einsum("eaf,ea->ef", _weighted(arrays, plan), arrays["harmonics"]), plan[-1], rows
    )


def _sum(values: Tensor, index: Tensor, rows: int) -> Tensor:
    return values.new_zeros(rows, *values.shape[1:]).index_add(0, index.long(), values)


def _channels(arrays: dict[str, Tensor]) -> int:
    name = next(n for n in ("table", "receivers", "senders", "pairs") if n in arrays)
    return arrays[name].shape[-1]


_SHAPES = {
    "taps": lambda arrays, plan, rows: (rows, TAPS),
    "harmonics": lambda arrays, plan, rows: (rows, 9),
    "table": lambda arrays, plan, rows: (rows, 3, _channels(arrays)),
    "pairs": lambda arrays, plan, rows: (rows, _channels(arrays)),
    "senders": lambda arrays, plan, rows: (rows, 9, _channels(arrays)),
    "receivers": lambda arrays, plan, rows: (rows, 9, _channels(arrays)),
}
_REFERENCES = {
    "taps": _to_taps,
    "harmonics": _to_harmonics,
    "table": _to_table,
    "pairs": _to_pairs,
    "senders": _to_senders,
    "receivers": _to_receivers,
}


def _form(name: str, slots: tuple[str, ...], kernels: dict[str, Kernel]) -> Form:
    return Form(
        name,
        slots,
        kernels,
        {slot: _REFERENCES[slot] for slot in slots},
        {slot: _SHAPES[slot] for slot in slots},
    )


MESSAGE = _form("message", ("taps", "table", "senders", "receivers"), MESSAGE_KERNELS)
EMBEDDING = _form(
    "embedding", ("taps", "harmonics", "table", "pairs", "receivers"), EMBEDDING_KERNELS
)
