"""What happens to one atom's nine components, compiled: products, norms, gates, and the way back.

Arrays named `x` with indices (a · rows + row, channel) are blocks of atoms ordered by component, so
that the components of a part are the rows of one matrix product; arrays named `all_` hold every
atom's features [chunks, N, 9, V] (see `edge_kernels`); row `row` of a block is atom first + row.
Components are coordinates in an orthonormal basis of 3x3 matrices (scalar, antisymmetric, symmetric
traceless), so a transposed matrix has its components 1 to 3 negated, and squared norms are sums of
squares.
"""

import math
from collections.abc import Sequence

from dreibein.ops.edge_kernels import PART, part_dots
from dreibein.ops.lanes import Array, Integer, Lanes, Vector, lane_kernel

Nine = Sequence[Vector]

_R2, _R3, _R6 = math.sqrt(0.5), math.sqrt(1.0 / 3.0), math.sqrt(1.0 / 6.0)


def matrix(x: Nine) -> list[list[Vector]]:
    """The 3x3 matrix of nine components."""
    s, d = x[0] * _R3, x[6] * _R6
    low = [[s - d - x[8] * _R2], [s + d * 2.0], [s - d + x[8] * _R2]]
    off = {(0, 1): (x[5], x[3]), (0, 2): (x[4], x[2]), (1, 2): (x[7], x[1])}
    signs = {(0, 1): -1.0, (0, 2): 1.0, (1, 2): -1.0}  # of the antisymmetric part above
    full = [[low[a][0]] * 3 for a in range(3)]
    for (a, b), (even, odd) in off.items():
        full[a][b] = (even + signs[a, b] * odd) * _R2
        full[b][a] = (even - signs[a, b] * odd) * _R2
    return full


def components(m: list[list[Vector]]) -> list[Vector]:
    """The nine components of a 3x3 matrix."""
    return [
        (m[0][0] + m[1][1] + m[2][2]) * _R3,
        (m[2][1] - m[1][2]) * _R2,
        (m[0][2] - m[2][0]) * _R2,
        (m[1][0] - m[0][1]) * _R2,
        (m[0][2] + m[2][0]) * _R2,
        (m[0][1] + m[1][0]) * _R2,
        (2.0 * m[1][1] - m[0][0] - m[2][2]) * _R6,
        (m[1][2] + m[2][1]) * _R2,
        (m[2][2] - m[0][0]) * _R2,
    ]


def product(x: Nine, y: Nine) -> list[Vector]:
    """Components of X Y."""
    return components(_times(matrix(x), matrix(y)))


def anticommutator(x: Nine, y: Nine) -> list[Vector]:
    """Components of X Y + Y X."""
    p, q = matrix(x), matrix(y)
    one, two = _times(p, q), _times(q, p)
    return components([[one[a][b] + two[a][b] for b in range(3)] for a in range(3)])


def transposed(x: Nine) -> list[Vector]:
    """Components of the transposed matrix."""
    return [-v if 1 <= a <= 3 else v for a, v in enumerate(x)]


def dot(x: Nine, y: Nine) -> Vector:
    """Sum over the components of x y."""
    total = x[0] * y[0]
    for one, other in zip(x[1:], y[1:], strict=True):
        total = total + one * other
    return total


def _times(p: list[list[Vector]], q: list[list[Vector]]) -> list[list[Vector]]:
    return [
        [p[a][0] * q[0][b] + p[a][1] * q[1][b] + p[a][2] * q[2][b] for b in range(3)]
        for a in range(3)
    ]


def _block(x: Array, rows: Integer, row: Integer, k: Integer) -> list[Vector]:
    channel = k * x.lanes.size
    return [x.load(rows * a + row, channel) for a in range(9)]


def _set_block(values: Nine, x: Array, rows: Integer, row: Integer, k: Integer) -> None:
    channel = k * x.lanes.size
    for a, value in enumerate(values):
        x.store(value, rows * a + row, channel)


def _atom(x: Array, i: Integer, k: Integer) -> list[Vector]:
    row = x.row(k, i)
    return [row.load(a) for a in range(9)]


def _set_atom(values: Nine, x: Array, i: Integer, k: Integer) -> None:
    row = x.row(k, i)
    for a, value in enumerate(values):
        row.store(value, a)


def _parts(x: Array, gates: Array, row: Integer, k: Integer) -> list[Vector]:
    """The numbers of I, A and S that lie side by side, each as wide as x."""
    return [gates.load(row, x.extent(1) * part + k * x.lanes.size) for part in range(3)]


def _set_parts(values: Sequence[Vector], x: Array, gates: Array, row: Integer, k: Integer) -> None:
    for part, value in enumerate(values):
        gates.store(value, row, x.extent(1) * part + k * x.lanes.size)


def _product_of(y: Nine, m: Nine, q: Vector, chiral: bool) -> list[Vector]:
    """C = q (Y M + M Y), or 2 Y M."""
    if chiral:
        return [2.0 * v for v in product(y, m)]
    return [q * v for v in anticommutator(y, m)]


def _product_back(
    g: Nine, y: Nine, m: Nine, q: Vector, chiral: bool
) -> tuple[list[Vector], list[Vector]]:
    """Gradients with respect to Y and M of <g, C>."""
    if chiral:
        doubled = [2.0 * v for v in g]
        return product(doubled, transposed(m)), product(transposed(y), doubled)
    scaled = [q * v for v in g]
    return anticommutator(scaled, transposed(m)), anticommutator(scaled, transposed(y))


@lane_kernel
def biased_silu(
    lanes: Lanes, x: Array, bias: Array, slope: Array, first: Integer, rows: Integer
) -> None:
    """X <- silu(x + bias) in place, and slope = silu'(x + bias) in its rows first + row."""
    with lanes.rows_and_chunks(x, rows) as (row, k):
        channel = k * lanes.size
        value = x.load(row, channel) + bias.load(channel)
        gate = lanes.sigmoid(value)
        x.store(value * gate, row, channel)
        slope.store(gate * (1.0 + value * (1.0 - gate)), first + row, channel)


@lane_kernel
def multiply(lanes: Lanes, x: Array, y: Array, first: Integer, rows: Integer) -> None:
    """X *= y, y in rows first + row."""
    with lanes.rows_and_chunks(x, rows) as (row, k):
        channel = k * lanes.size
        x.store(x.load(row, channel) * y.load(first + row, channel), row, channel)


@lane_kernel
def gate(lanes: Lanes, x: Array, all_x: Array, gates: Array, first: Integer, rows: Integer) -> None:
    """all_x = x, then X <- f_p x, the gates of the three parts side by side in one row."""
    with lanes.rows_and_chunks(x, rows) as (row, k):
        f = _parts(x, gates, row, k)
        mixed = _block(x, rows, row, k)
        _set_atom(mixed, all_x, first + row, k)
        _set_block([f[PART[a]] * v for a, v in enumerate(mixed)], x, rows, row, k)


@lane_kernel
def normalize(
    lanes: Lanes, x: Array, all_x: Array, scale: Array, first: Integer, rows: Integer
) -> None:
    """X <- s x with s = 1 / (|x|^2 + 1); kept in all_x and scale."""
    with lanes.rows_and_chunks(x, rows) as (row, k):
        values = _block(x, rows, row, k)
        s = 1.0 / (dot(values, values) + 1.0)
        values = [s * v for v in values]
        scale.row(k, first + row).store(s, 0)
        _set_block(values, x, rows, row, k)
        _set_atom(values, all_x, first + row, k)


@lane_kernel
def keep(lanes: Lanes, x: Array, all_x: Array, first: Integer, rows: Integer) -> None:
    """all_x = x."""
    with lanes.rows_and_chunks(x, rows) as (row, k):
        _set_atom(_block(x, rows, row, k), all_x, first + row, k)


def _combine(
    lanes: Lanes, x: Array, ym: tuple[Array, Array], charge: Array, first: Integer, rows: Integer,
    chiral: bool,
) -> None:  # fmt: skip
    with lanes.rows_and_chunks(x, rows) as (row, k):
        i = first + row
        y, m = (_atom(one, i, k) for one in ym)
        values = _product_of(y, m, charge.splat(i), chiral)
        s = 1.0 / (dot(values, values) + 1.0)
        _set_block([s * v for v in values], x, rows, row, k)


@lane_kernel
def combine(
    lanes: Lanes, x: Array, all_y: Array, all_m: Array, charge: Array, first: Integer,
    rows: Integer,
) -> None:  # fmt: skip
    """X = C / (|C|^2 + 1), C = q (Y M + M Y)."""
    _combine(lanes, x, (all_y, all_m), charge, first, rows, chiral=False)


@lane_kernel
def combine_chiral(
    lanes: Lanes, x: Array, all_y: Array, all_m: Array, charge: Array, first: Integer,
    rows: Integer,
) -> None:  # fmt: skip
    """X = C / (|C|^2 + 1), C = 2 Y M."""
    _combine(lanes, x, (all_y, all_m), charge, first, rows, chiral=True)


@lane_kernel
def update(
    lanes: Lanes, x: Array, all_d: Array, all_x: Array, charge: Array, first: Integer,
    rows: Integer,
) -> None:  # fmt: skip
    """X <- X_i + d + q d^2 with d = x, which is kept in all_d."""
    with lanes.rows_and_chunks(x, rows) as (row, k):
        i = first + row
        d, old = _block(x, rows, row, k), _atom(all_x, i, k)
        _set_atom(d, all_d, i, k)
        square, q = product(d, d), charge.splat(i)
        after = [o + v + q * w for o, v, w in zip(old, d, square, strict=True)]
        _set_block(after, x, rows, row, k)


@lane_kernel
def update_back(
    lanes: Lanes, x: Array, all_gradient: Array, all_d: Array, charge: Array, first: Integer,
    rows: Integer,
) -> None:  # fmt: skip
    """X = g + q (g d^T + d^T g), the gradient with respect to d; g = x is kept in all_gradient."""
    with lanes.rows_and_chunks(x, rows) as (row, k):
        i = first + row
        g, d, q = _block(x, rows, row, k), _atom(all_d, i, k), charge.splat(i)
        _set_atom(g, all_gradient, i, k)
        turned = anticommutator(g, transposed(d))
        back = [one + q * other for one, other in zip(g, turned, strict=True)]
        _set_block(back, x, rows, row, k)


def _combine_back(
    lanes: Lanes, x: Array, ym: tuple[Array, Array], here: Array, charge: Array, to_y: Array,
    first: Integer, rows: Integer, chiral: bool,
) -> None:  # fmt: skip
    with lanes.rows_and_chunks(x, rows) as (row, k):
        i = first + row
        y, m = (_atom(one, i, k) for one in ym)
        q, g = charge.splat(i), _block(x, rows, row, k)
        values = _product_of(y, m, q, chiral)
        s = 1.0 / (dot(values, values) + 1.0)
        pull = 2.0 * s * s * dot(values, g)
        g = [s * one - pull * value for one, value in zip(g, values, strict=True)]
        g_y, g_m = _product_back(g, y, m, q, chiral)
        loop = [here.row(k).load(part) for part in range(3)]
        _set_atom([one + loop[PART[a]] * g_m[a] for a, one in enumerate(g_y)], to_y, i, k)
        _set_atom(g_m, ym[1], i, k)


@lane_kernel
def combine_back(
    lanes: Lanes, x: Array, all_y: Array, all_m: Array, here: Array, charge: Array, to_y: Array,
    first: Integer, rows: Integer,
) -> None:  # fmt: skip
    """Gradients of C / (|C|^2 + 1) by Y_i, from atom i alone, and by M_i, in its place."""
    _combine_back(lanes, x, (all_y, all_m), here, charge, to_y, first, rows, chiral=False)


@lane_kernel
def combine_back_chiral(
    lanes: Lanes, x: Array, all_y: Array, all_m: Array, here: Array, charge: Array, to_y: Array,
    first: Integer, rows: Integer,
) -> None:  # fmt: skip
    """The same for C = 2 Y M."""
    _combine_back(lanes, x, (all_y, all_m), here, charge, to_y, first, rows, chiral=True)


@lane_kernel
def normalize_back(
    lanes: Lanes, x: Array, all_gradient: Array, all_x: Array, scale: Array, first: Integer,
    rows: Integer,
) -> None:  # fmt: skip
    """X <- s g - 2 <x_i, g> x_i with g = x + all_gradient_i; x_i is normalised already."""
    with lanes.rows_and_chunks(x, rows) as (row, k):
        i = first + row
        values, s = _atom(all_x, i, k), scale.row(k, i).load(0)
        pairs = zip(_block(x, rows, row, k), _atom(all_gradient, i, k), strict=True)
        g = [one + other for one, other in pairs]
        pull = 2.0 * dot(values, g)
        back = [s * one - pull * value for one, value in zip(g, values, strict=True)]
        _set_block(back, x, rows, row, k)


@lane_kernel
def gate_back(
    lanes: Lanes, x: Array, all_mixed: Array, gates: Array, to_gates: Array, first: Integer,
    rows: Integer,
) -> None:  # fmt: skip
    """X <- f_p x and to_gates_p = sum over part p of x times the mixed features."""
    with lanes.rows_and_chunks(x, rows) as (row, k):
        i = first + row
        g, before = _block(x, rows, row, k), _atom(all_mixed, i, k)
        _set_parts(part_dots(g, before), x, to_gates, row, k)
        f = _parts(x, gates, i, k)
        _set_block([f[PART[a]] * v for a, v in enumerate(g)], x, rows, row, k)


@lane_kernel
def norm_back(
    lanes: Lanes, out: Array, x: Array, all_x: Array, to_norm: Array, first: Integer,
    rows: Integer,
) -> None:  # fmt: skip
    """Out = x + 2 to_norm x_i, as [rows, chunks, 9, V]."""
    with lanes.rows_and_chunks(x, rows) as (row, k):
        factor, values = 2.0 * to_norm.load(row, k * lanes.size), _atom(all_x, first + row, k)
        result = out.row(row, k)
        for a, (one, v) in enumerate(zip(_block(x, rows, row, k), values, strict=True)):
            result.store(one + factor * v, a)


@lane_kernel
def part_norms(lanes: Lanes, x: Array, norms: Array, rows: Integer) -> None:
    """|I|^2, |A|^2, |S|^2 side by side."""
    with lanes.rows_and_chunks(x, rows) as (row, k):
        values = _block(x, rows, row, k)
        _set_parts(part_dots(values, values), x, norms, row, k)


@lane_kernel
def part_norms_back(lanes: Lanes, x: Array, to_norms: Array, rows: Integer) -> None:
    """X <- 2 to_norms_p x."""
    with lanes.rows_and_chunks(x, rows) as (row, k):
        factors = [2.0 * part for part in _parts(x, to_norms, row, k)]
        values = _block(x, rows, row, k)
        _set_block([factors[PART[a]] * v for a, v in enumerate(values)], x, rows, row, k)
