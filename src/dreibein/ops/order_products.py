"""Linear maps that keep the order m, with matrices for each edge.

Features x of edges are written in axes along the edge. A sector s is a matrix W_s that K components
share, such as the orders -m ... m of two degrees, or cosine and sine of one order:

    T = sum_e sum_s sum_ab W_s[e, a, b] sum_k f_ak x[e, i_ak] g_bk y[e, o_bk]                    (1)

with constant factors f and g. The derivative by y is a map of x equivariant under turns about the
edge, all a Clebsch-Gordan product with harmonics of the edge can be; the other two are its
transpose and an outer product, so derivatives of every order are operators of the family (`Form`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dreibein.ops import order_kernels
from dreibein.ops.multilinear import Form, Plan

Places = tuple[tuple[tuple[int, float], ...], ...]
"""For every row (column) of a matrix its K components: column of the features, and factor."""


@dataclass(frozen=True)
class Sector:
    """One matrix of (1): which components its rows and columns are; the same K everywhere."""

    inward: Places
    outward: Places

    @property
    def size(self) -> int:
        """Weights of one edge."""
        return len(self.inward) * len(self.outward)


@dataclass(frozen=True)
class OrderTable:
    """All sectors as tensors; `plan` is what the operators take."""

    plan: tuple[Tensor, ...]
    num_weights: int


def order_table(
    sectors: list[Sector], width_in: int, width_out: int, offsets: list[int] | None = None
) -> OrderTable:
    """The table of sectors; their matrices stand in a row of weights, row by row.

    Args:
        sectors: In any order.
        width_in: Columns of x.
        width_out: Columns of y.
        offsets: Where each matrix begins; by default one after the other.
    """
    rows, start, end, place = [], 0, 0, 0
    for number, sector in enumerate(sectors):
        count = len(sector.inward[0])
        shape = (len(sector.inward), len(sector.outward))
        begin = place if offsets is None else offsets[number]
        rows.append((start, shape[0], end, shape[1], count, begin))
        start, end = start + shape[0] * count, end + shape[1] * count
        place += sector.size
    inward = [entry for sector in sectors for row in sector.inward for entry in row]
    outward = [entry for sector in sectors for row in sector.outward for entry in row]
    tables = [torch.tensor(rows, dtype=torch.int64).reshape(-1, 6)]
    for entries in (inward, outward):
        tables.append(torch.tensor([column for column, _ in entries], dtype=torch.int64))
        tables.append(torch.tensor([factor for _, factor in entries], dtype=torch.float64))
    # lengths as shapes: an operator's result has a known width without reading a tensor
    widths = [torch.empty(size, dtype=torch.int8) for size in (width_in, place, width_out)]
    return OrderTable((*tables, *widths, *_lines(sectors, [row[5] for row in rows])), place)


def _lines(sectors: list[Sector], places: list[int]) -> list[Tensor]:
    """The tables of `order_lanes`: sectors, lines and their factors, what stands in the lines."""
    inward, outward, heads, factors = _Lines(), _Lines(), [], []
    pairs: list[tuple[int, int]] = []
    for sector, place in zip(sectors, places, strict=True):
        count = len(sector.inward[0])
        heads.append((len(pairs), len(sector.inward), len(sector.outward), count, place))
        for k in range(count):
            left, one = inward.add(sector.inward, k)
            right, other = outward.add(sector.outward, k)
            pairs.append((left, right))
            factors.append(one * other)
    return [
        torch.tensor(heads, dtype=torch.int64).reshape(-1, 5),
        torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        torch.tensor(factors, dtype=torch.float64),
        *inward.tables(),
        *outward.tables(),
    ]


class _Lines:
    """Lines of one side, each kept once: columns of features side by side, and their factors."""

    def __init__(self) -> None:
        self._starts: dict[tuple[tuple[int, float], ...], int] = {}
        self._entries: list[tuple[int, float]] = []

    def add(self, places: Places, k: int) -> tuple[int, float]:
        """Where the line of component k begins, and a factor of the whole line."""
        line = tuple(row[k] for row in places)
        shared = line[0][1] if len({factor for _, factor in line}) == 1 else 1.0
        if shared != 1.0:
            line = tuple((column, 1.0) for column, _ in line)
        if line not in self._starts:
            self._starts[line] = len(self._entries)
            self._entries.extend(line)
        return self._starts[line], shared

    def tables(self) -> list[Tensor]:
        """Columns and factors."""
        columns = torch.tensor([column for column, _ in self._entries], dtype=torch.int64)
        return [columns, torch.tensor([f for _, f in self._entries], dtype=torch.float64)]


def order_product(x: Tensor, weights: Tensor, table: OrderTable, *, backend: str) -> Tensor:
    """Features y [E, width_out] of x [E, width_in] and weights [E, num_weights]; see (1).

    Args:
        x: Features of edges, in axes along the edge.
        weights: W, sector by sector.
        table: Who meets whom.
        backend: "fused" or "reference".
    """
    return ORDER_PRODUCT("y", {"x": x, "weights": weights}, table.plan, len(x), backend=backend)


@dataclass(frozen=True)
class _Side:
    """The components of one side of a sector, [rows * K] flattened."""

    places: Tensor
    factors: Tensor
    count: int

    def read(self, x: Tensor) -> Tensor:
        """[E, K, rows]."""
        values = x.index_select(1, self.places) * self.factors.to(x.dtype)
        return values.unflatten(1, (-1, self.count)).mT

    def add(self, total: Tensor, values: Tensor) -> Tensor:
        """`total` with values [E, K, rows] added at their places."""
        flat = values.mT.flatten(1) * self.factors.to(total.dtype)
        return total.index_add(1, self.places, flat)


def _sectors(plan: Plan) -> Iterator[tuple[_Side, _Side, int, int]]:
    for start, rows, end, columns, count, place in plan[0].tolist():
        inside = slice(start, start + rows * count)
        outside = slice(end, end + columns * count)
        inward = _Side(plan[1][inside], plan[2][inside], count)
        yield inward, _Side(plan[3][outside], plan[4][outside], count), place, rows * columns


def _matrix(weights: Tensor, place: int, size: int, side: _Side) -> Tensor:
    rows = len(side.places) // side.count
    return weights[:, place : place + size].unflatten(1, (rows, -1))


def _reference_y(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    x, weights = arrays["x"], arrays["weights"]
    out = x.new_zeros(rows, len(plan[7]))
    for inward, outward, place, size in _sectors(plan):
        out = outward.add(out, inward.read(x) @ _matrix(weights, place, size, inward))
    return out


def _reference_x(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    y, weights = arrays["y"], arrays["weights"]
    out = y.new_zeros(rows, len(plan[5]))
    for inward, outward, place, size in _sectors(plan):
        out = inward.add(out, outward.read(y) @ _matrix(weights, place, size, inward).mT)
    return out


def _reference_weights(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    x, y = arrays["x"], arrays["y"]
    pieces = {
        place: (inward.read(x).mT @ outward.read(y)).flatten(1)
        for inward, outward, place, _ in _sectors(plan)
    }
    return torch.cat([pieces[place] for place in sorted(pieces)] or [x.new_zeros(rows, 0)], 1)


def _fused_y(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    return order_kernels.run("products", plan, arrays["x"], arrays["weights"], len(plan[7]))


def _fused_x(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    return order_kernels.run("transposed", plan, arrays["y"], arrays["weights"], len(plan[5]))


def _fused_weights(arrays: dict[str, Tensor], plan: Plan, rows: int) -> Tensor:
    return order_kernels.run("outer", plan, arrays["x"], arrays["y"], len(plan[6]))


ORDER_PRODUCT = Form(
    "order_product",
    ("x", "weights", "y"),
    kernels={"x": _fused_x, "weights": _fused_weights, "y": _fused_y},
    references={"x": _reference_x, "weights": _reference_weights, "y": _reference_y},
    shapes={
        "x": lambda arrays, plan, rows: (rows, plan[5].shape[0]),
        "weights": lambda arrays, plan, rows: (rows, plan[6].shape[0]),
        "y": lambda arrays, plan, rows: (rows, plan[7].shape[0]),
    },
)
