"""What happens to one atom's nine components, compiled: products, norms, gates, and the way back.

Arrays named `x`, `d`, ... with indices (a · rows + row, channel) are blocks of atoms ordered by
component, so that the components of a part are the rows of one matrix product; arrays named `all_`
hold every atom's features [N, 9, F]. Components are coordinates in an orthonormal basis of 3x3
matrices (scalar, antisymmetric, symmetric traceless), so a transposed matrix has its components 1
to 3 negated, and squared norms are sums of squares.
"""

import math
from collections.abc import Sequence

from dreibein.ops.edge_kernels import PART
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


def _block(x: Array, rows: Integer, row: Integer, c: Integer) -> list[Vector]:
    return [x.load(rows * a + row, c) for a in range(9)]


def _set_block(values: Nine, x: Array, rows: Integer, row: Integer, c: Integer) -> None:
    for a, value in enumerate(values):
        x.store(value, rows * a + row, c)


def _atom(x: Array, i: Integer, c: Integer) -> list[Vector]:
    return [x.load(i, a, c) for a in range(9)]


def _set_atom(values: Nine, x: Array, i: Integer, c: Integer) -> None:
    for a, value in enumerate(values):
        x.store(value, i, a, c)


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
def add_bias(lanes: Lanes, x: Array, bias: Array, row: Integer, c: Integer) -> None:
    """X += bias."""
    x.store(x.load(row, c) + bias.load(c), row, c)


@lane_kernel
def biased_silu(
    lanes: Lanes, x: Array, bias: Array, slope: Array, row: Integer, i: Integer, c: Integer
) -> None:
    """X <- silu(x + bias) in place, and slope[i] = silu'(x + bias)."""
    value = x.load(row, c) + bias.load(c)
    gate = lanes.sigmoid(value)
    x.store(value * gate, row, c)
    slope.store(gate * (1.0 + value * (1.0 - gate)), i, c)


@lane_kernel
def multiply(lanes: Lanes, x: Array, y: Array, row: Integer, i: Integer, c: Integer) -> None:
    """X[row] *= y[i]."""
    x.store(x.load(row, c) * y.load(i, c), row, c)


@lane_kernel
def gate(
    lanes: Lanes, x: Array, gates: Array, row: Integer, rows: Integer, width: Integer, c: Integer
) -> None:
    """X <- f_p x, the gates of the three parts side by side in one row."""
    f = [gates.load(row, width * part + c) for part in range(3)]
    mixed = _block(x, rows, row, c)
    _set_block([f[PART[a]] * v for a, v in enumerate(mixed)], x, rows, row, c)


@lane_kernel
def normalize(
    lanes: Lanes, x: Array, all_x: Array, scale: Array, i: Integer, row: Integer, rows: Integer,
    c: Integer,
) -> None:  # fmt: skip
    """X <- s x with s = 1 / (|x|^2 + 1); kept in all_x and scale."""
    values = _block(x, rows, row, c)
    s = 1.0 / (dot(values, values) + 1.0)
    values = [s * v for v in values]
    scale.store(s, i, c)
    _set_block(values, x, rows, row, c)
    _set_atom(values, all_x, i, c)


@lane_kernel
def keep(
    lanes: Lanes, x: Array, all_x: Array, i: Integer, row: Integer, rows: Integer, c: Integer
) -> None:
    """all_x[i] = x."""
    _set_atom(_block(x, rows, row, c), all_x, i, c)


@lane_kernel
def fetch(
    lanes: Lanes, x: Array, all_x: Array, i: Integer, row: Integer, rows: Integer, c: Integer
) -> None:
    """X = all_x[i]."""
    _set_block(_atom(all_x, i, c), x, rows, row, c)


def _combine(
    lanes: Lanes, x: Array, all_y: Array, all_m: Array, charge: Array, i: Integer, row: Integer,
    rows: Integer, c: Integer, *, chiral: bool,
) -> None:  # fmt: skip
    y, m = _atom(all_y, i, c), _atom(all_m, i, c)
    values = _product_of(y, m, charge.splat(i), chiral)
    s = 1.0 / (dot(values, values) + 1.0)
    _set_block([s * v for v in values], x, rows, row, c)


@lane_kernel
def combine(
    lanes: Lanes, x: Array, all_y: Array, all_m: Array, charge: Array, i: Integer, row: Integer,
    rows: Integer, c: Integer,
) -> None:  # fmt: skip
    """X = C / (|C|^2 + 1), C = q (Y M + M Y)."""
    _combine(lanes, x, all_y, all_m, charge, i, row, rows, c, chiral=False)


@lane_kernel
def combine_chiral(
    lanes: Lanes, x: Array, all_y: Array, all_m: Array, charge: Array, i: Integer, row: Integer,
    rows: Integer, c: Integer,
) -> None:  # fmt: skip
    """X = C / (|C|^2 + 1), C = 2 Y M."""
    _combine(lanes, x, all_y, all_m, charge, i, row, rows, c, chiral=True)


@lane_kernel
def update(
    lanes: Lanes, x: Array, all_d: Array, all_x: Array, charge: Array, i: Integer, row: Integer,
    rows: Integer, c: Integer,
) -> None:  # fmt: skip
    """X <- X_i + d + q d^2 with d = x, which is kept in all_d."""
    d, old = _block(x, rows, row, c), _atom(all_x, i, c)
    _set_atom(d, all_d, i, c)
    square, q = product(d, d), charge.splat(i)
    _set_block([o + v + q * w for o, v, w in zip(old, d, square, strict=True)], x, rows, row, c)


@lane_kernel
def update_back(
    lanes: Lanes, x: Array, all_gradient: Array, all_d: Array, charge: Array, i: Integer,
    row: Integer, rows: Integer, c: Integer,
) -> None:  # fmt: skip
    """X = g + q (g d^T + d^T g), the gradient with respect to d, from g = x kept in all_gradient."""
    g, d, q = _block(x, rows, row, c), _atom(all_d, i, c), charge.splat(i)
    _set_atom(g, all_gradient, i, c)
    turned = anticommutator(g, transposed(d))
    _set_block([one + q * other for one, other in zip(g, turned, strict=True)], x, rows, row, c)


def _combine_back(
    lanes: Lanes, x: Array, all_y: Array, all_m: Array, here: Array, charge: Array, to_y: Array,
    to_m: Array, i: Integer, row: Integer, rows: Integer, c: Integer, *, chiral: bool,
) -> None:  # fmt: skip
    y, m, q = _atom(all_y, i, c), _atom(all_m, i, c), charge.splat(i)
    values, g = _product_of(y, m, q, chiral), _block(x, rows, row, c)
    s = 1.0 / (dot(values, values) + 1.0)
    pull = 2.0 * s * s * dot(values, g)
    g = [s * one - pull * value for one, value in zip(g, values, strict=True)]
    g_y, g_m = _product_back(g, y, m, q, chiral)
    loop = [here.load(part, c) for part in range(3)]
    g_y = [one + loop[PART[a]] * g_m[a] for a, one in enumerate(g_y)]
    _set_atom(g_y, to_y, i, c)
    _set_atom(g_m, to_m, i, c)


@lane_kernel
def combine_back(
    lanes: Lanes, x: Array, all_y: Array, all_m: Array, here: Array, charge: Array, to_y: Array,
    to_m: Array, i: Integer, row: Integer, rows: Integer, c: Integer,
) -> None:  # fmt: skip
    """Gradients with respect to Y_i (without its neighbors) and M_i from that of C / (|C|^2+1)."""
    _combine_back(lanes, x, all_y, all_m, here, charge, to_y, to_m, i, row, rows, c, chiral=False)


@lane_kernel
def combine_back_chiral(
    lanes: Lanes, x: Array, all_y: Array, all_m: Array, here: Array, charge: Array, to_y: Array,
    to_m: Array, i: Integer, row: Integer, rows: Integer, c: Integer,
) -> None:  # fmt: skip
    """The same for C = 2 Y M."""
    _combine_back(lanes, x, all_y, all_m, here, charge, to_y, to_m, i, row, rows, c, chiral=True)


@lane_kernel
def normalize_back(
    lanes: Lanes, x: Array, all_gradient: Array, all_x: Array, scale: Array, i: Integer,
    row: Integer, rows: Integer, c: Integer,
) -> None:  # fmt: skip
    """X <- s g - 2 <x_i, g> x_i with g = x + all_gradient_i; x_i is normalised already."""
    values, s = _atom(all_x, i, c), scale.load(i, c)
    g = [x.load(rows * a + row, c) + all_gradient.load(i, a, c) for a in range(9)]
    pull = 2.0 * dot(values, g)
    _set_block(
        [s * one - pull * value for one, value in zip(g, values, strict=True)], x, rows, row, c
    )


@lane_kernel
def gate_back(
    lanes: Lanes, x: Array, mixed: Array, gates: Array, to_gates: Array, row: Integer,
    rows: Integer, width: Integer, c: Integer,
) -> None:  # fmt: skip
    """X <- f_p x and to_gates_p = sum over part p of x times the mixed features."""
    g, before = _block(x, rows, row, c), _block(mixed, rows, row, c)
    for part, (first, last) in enumerate(((0, 1), (1, 4), (4, 9))):
        total = g[first] * before[first]
        for a in range(first + 1, last):
            total = total + g[a] * before[a]
        to_gates.store(total, row, width * part + c)
    f = [gates.load(row, width * part + c) for part in range(3)]
    _set_block([f[PART[a]] * v for a, v in enumerate(g)], x, rows, row, c)


@lane_kernel
def norm_back(
    lanes: Lanes, x: Array, all_x: Array, to_norm: Array, i: Integer, row: Integer, rows: Integer,
    c: Integer,
) -> None:  # fmt: skip
    """X += 2 to_norm x_i."""
    factor, values = 2.0 * to_norm.load(row, c), _atom(all_x, i, c)
    g = _block(x, rows, row, c)
    _set_block([one + factor * v for one, v in zip(g, values, strict=True)], x, rows, row, c)


@lane_kernel
def part_norms(
    lanes: Lanes, x: Array, norms: Array, row: Integer, rows: Integer, width: Integer, c: Integer
) -> None:
    """|I|^2, |A|^2, |S|^2 side by side."""
    values = _block(x, rows, row, c)
    for part, (first, last) in enumerate(((0, 1), (1, 4), (4, 9))):
        total = values[first] * values[first]
        for a in range(first + 1, last):
            total = total + values[a] * values[a]
        norms.store(total, row, width * part + c)


@lane_kernel
def part_norms_back(
    lanes: Lanes, x: Array, to_norms: Array, row: Integer, rows: Integer, width: Integer,
    c: Integer,
) -> None:  # fmt: skip
    """X <- 2 to_norms_p x."""
    factors = [2.0 * to_norms.load(row, width * part + c) for part in range(3)]
    values = _block(x, rows, row, c)
    _set_block([factors[PART[a]] * v for a, v in enumerate(values)], x, rows, row, c)
