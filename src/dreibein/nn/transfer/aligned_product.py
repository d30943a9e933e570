"""A tensor product with harmonics, evaluated in axes along the edge.

There only m2 = 0 of the harmonic is left, so that every path keeps the order m. With the factors k
of `axial_coupling`

    z_m = sum_p c_p k_p|m| w_p x_(+-m)                                                           (1)

which costs 2 min(l1, l3) + 1 products in place of (2 l1 + 1)(2 l2 + 1)(2 l3 + 1). Paths of all l2
between the same blocks may be merged into one matrix for each order,

    z_m = W_m x_m,    W_m = sum_{l2} c_p k_p|m| w_p,                                             (2)

with all degrees of x and of z in one matrix: O(L^3) altogether (arXiv 2302.03655). Orders of
pseudotensors enter (2) as (x_-m, -x_m): mirror planes through the edge make O(2) of the turns about
it, which allows one real number for every pair of channels, and at m = 0 none between tensors and
pseudotensors.
"""

from typing import Any

import torch
from torch import Tensor

from dreibein.frames import EdgeAlignment
from dreibein.nn.exact import ExactConstants
from dreibein.nn.transfer.paths import EdgePaths, Path, paths_of_e3nn
from dreibein.o3 import Irreps, axial_coupling
from dreibein.ops.order_products import OrderTable, Places, Sector, order_product, order_table

Pairs = dict[tuple[int, int], list[tuple[int, Tensor]]]


class AlignedProduct(ExactConstants):
    """z_i = sum_e sum_p c_p w_p[e] C x_j Y(r_e) by (1) or (2) at every edge; owns no weights.

    Args:
        paths: "uvw" paths, from `full_paths` or `paths_of_e3nn`.
        merged: take the matrices W_m of (2) as weights instead of w_p; `merge` makes them.

    Raises:
        ValueError: A path of another mode.

    >>> from dreibein.nn.transfer.paths import full_paths
    >>> irreps = Irreps("4x0e+4x1o")
    >>> paths = full_paths(irreps, 1, irreps)
    >>> AlignedProduct(paths).num_weights, AlignedProduct(paths, merged=True).num_weights
    (64, 80)
    """

    def __init__(self, paths: EdgePaths, *, merged: bool = False) -> None:
        super().__init__()
        if any(path.mode != "uvw" for path in paths.paths):
            raise ValueError("an aligned product takes uvw paths: use ChannelProduct for uvu")
        self.paths, self.merged = paths, merged
        self.irreps_in, self.irreps_out = paths.irreps_in, paths.irreps_out
        table = self._merged_table() if merged else self._path_table()
        self.num_weights = table.num_weights
        for number, tensor in enumerate(table.plan):
            self.register_buffer(f"plan_{number}", tensor, persistent=False)
        self._length = len(table.plan)

    @classmethod
    def from_e3nn(cls, product: Any, *, merged: bool = False) -> "AlignedProduct":
        """The same function as an e3nn `FullyConnectedTensorProduct` with harmonics."""
        return cls(paths_of_e3nn(product), merged=merged)

    def forward(self, x: Tensor, alignment: EdgeAlignment, weights: Tensor) -> Tensor:
        """Sums [N, irreps_out.dim] at the receivers.

        Args:
            x: features of nodes [N, irreps_in.dim], e3nn's order.
            alignment: of the graph.
            weights: of every edge [E, num_weights]; w_p in e3nn's order, or W_m from `merge`.
        """
        if weights.shape[-1] != self.num_weights:
            raise ValueError(f"{weights.shape[-1]} weights at an edge, expected {self.num_weights}")
        plan = tuple(getattr(self, f"plan_{number}") for number in range(self._length))
        rows = alignment.to_edges(self.irreps_in, x)
        table = OrderTable(plan, self.num_weights)
        rows = order_product(rows, weights, table, backend=alignment.backend)
        return alignment.sum(self.irreps_out, rows)

    def merge(self, path_weights: Tensor) -> Tensor:
        """W_m of (2) from w_p [..., weights of all paths], e3nn's order.

        Linear, so it may be applied to the last layer of a radial network instead of to every edge.
        """
        pairs: Pairs = {}
        split = path_weights.split(self.paths.weight_sizes, -1)
        for path, weight in zip(self.paths.paths, split, strict=True):
            matrix = weight.unflatten(-1, self.paths.weight_shape(path)) * path.coefficient
            pairs.setdefault((path.source, path.target), []).append((path.degree, matrix))
        pieces = []
        for m, rows, columns in self._orders():
            for source in rows:
                blocks = [self._block(pairs, source, target, m, path_weights) for target in columns]
                pieces.append(torch.cat(blocks, -1).flatten(-2))
        return torch.cat(pieces, -1)

    def _path_table(self) -> OrderTable:
        sectors, offsets, place = [], [], 0
        for path, size in zip(self.paths.paths, self.paths.weight_sizes, strict=True):
            if size:
                sectors.append(self._path_sector(path))
                offsets.append(place)
            place += size
        return order_table(sectors, self.irreps_in.dim, self.irreps_out.dim, offsets)

    def _path_sector(self, path: Path) -> Sector:
        """Equation (1) for one path: its matrix is shared by the orders -m ... m."""
        one, three = self.irreps_in[path.source].kind, self.irreps_out[path.target].kind
        k = axial_coupling(one.l, path.degree, three.l) * path.coefficient
        odd = (one.l + path.degree + three.l) % 2
        orders = [m for m in range(1 - len(k), len(k)) if k[abs(m)] != 0]
        factors = [float(k[abs(m)] * (-1 if odd and m < 0 else 1)) for m in orders]
        targets = [-m if odd else m for m in orders]
        return Sector(
            _places(self.irreps_in, [path.source], [orders], [factors]),
            _places(self.irreps_out, [path.target], [targets], [[1.0] * len(orders)]),
        )

    def _merged_table(self) -> OrderTable:
        sectors = [
            Sector(_order(self.irreps_in, rows, m), _order(self.irreps_out, columns, m))
            for m, rows, columns in self._orders()
        ]
        return order_table(sectors, self.irreps_in.dim, self.irreps_out.dim)

    def _orders(self) -> list[tuple[int, list[int], list[int]]]:
        """Orders m with the blocks that have them; m = 0 of tensors and of pseudotensors apart."""
        found = []
        for m in range(min(self.irreps_in.lmax, self.irreps_out.lmax) + 1):
            for pseudo in (False, True) if m == 0 else (None,):
                rows = _blocks(self.irreps_in, m, pseudo)
                columns = _blocks(self.irreps_out, m, pseudo)
                if rows and columns:
                    found.append((m, rows, columns))
        return found

    def _block(self, pairs: Pairs, source: int, target: int, m: int, like: Tensor) -> Tensor:
        """W_m between two blocks of channels, [..., mul, mul]."""
        (mul_in, one), (mul_out, three) = self.irreps_in[source], self.irreps_out[target]
        total = like.new_zeros(*like.shape[:-1], mul_in, mul_out)
        for degree, matrix in pairs.get((source, target), ()):
            k = float(axial_coupling(one.l, degree, three.l)[m])
            # (2) of `clebsch_gordan` for odd sums: from (x_-m, -x_m), or to it
            sign = -1.0 if one.is_pseudo and not three.is_pseudo else 1.0
            total = total + matrix * (sign * k)
        return total


def _blocks(irreps: Irreps, m: int, pseudo: bool | None) -> list[int]:
    """Blocks with an order m; at m = 0 those of tensors or of pseudotensors."""
    return [
        k
        for k, (mul, ir) in enumerate(irreps)
        if mul and ir.l >= m and (pseudo is None or ir.is_pseudo == pseudo)
    ]


def _order(irreps: Irreps, blocks: list[int], m: int) -> Places:
    """Cosine and sine of order m of all channels, as a pseudotensor has them."""
    orders, factors = [], []
    for k in blocks:
        pseudo = irreps[k].kind.is_pseudo
        orders.append([m] if m == 0 else [-m, m] if pseudo else [m, -m])
        factors.append([1.0] if m == 0 else [1.0, -1.0] if pseudo else [1.0, 1.0])
    return _places(irreps, blocks, orders, factors)


def _places(
    irreps: Irreps, blocks: list[int], orders: list[list[int]], factors: list[list[float]]
) -> Places:
    """The components of these orders of every channel of the blocks, with their factors."""
    slices, found = irreps.slices(), []
    for k, some, scales in zip(blocks, orders, factors, strict=True):
        mul, ir = irreps[k]
        for channel in range(mul):
            middle = slices[k].start + channel * ir.dim + ir.l
            found.append(tuple((middle + m, f) for m, f in zip(some, scales, strict=True)))
    return tuple(found)
