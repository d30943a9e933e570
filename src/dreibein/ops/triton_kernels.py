# mypy: disable-error-code="no-untyped-def,call-overload,arg-type"
"""The derivatives of the forms in `messages` and `products` for GPUs, in Triton.

The functions here are texts for Triton's compiler; `load` hands them to it, so the package imports
without Triton. A program owns what it writes (an atom or an edge or a control point, times a block
of channels), lists say who contributes, and nothing is added atomically: results do not depend on
the order in which programs run. Offsets are 64-bit. Features are [N, 9, F], tables [K + 5, 3, F].

`EMBED` chooses what meets the filter at an edge: features of the other atom (`first`), or the nine
numbers of the edge (`first`) times the row of its pair of elements (`second`).
"""

from types import SimpleNamespace
from typing import Any

tl: Any = None  # triton.language, once loaded


class constexpr:  # noqa: N801 - the interpreter goes by the name of the annotation
    """In an annotation: a number that the compiler knows; once loaded, Triton's own class.

    Numbers in formulas stand where they are used: assigned to a variable of a kernel first, they
    would be rounded to float32.
    """


_KERNELS = ("receivers_kernel", "taps_kernel", "harmonics_kernel", "table_kernel", "pairs_kernel",
            "product_kernel")  # fmt: skip
_PARTS = ("_filters", "_nine", "_meet", "_parts", "_weighted", "_matrix", "_segment")
_loaded: SimpleNamespace | None = None


def load() -> SimpleNamespace:
    """The kernels, handed to Triton at the first call.

    Raises:
        ImportError: Triton is not installed.
    """
    global _loaded
    if _loaded is None:
        try:
            import triton
            import triton.language
        except ImportError as error:
            raise ImportError(
                f"Triton cannot be imported ({error}): pip install triton, or use 'reference'"
            ) from error
        names = globals()
        names["tl"], names["constexpr"] = triton.language, triton.language.constexpr
        for name in (*_PARTS, *_KERNELS):
            names[name] = triton.jit(names[name])
        _loaded = SimpleNamespace(**{name: names[name] for name in _KERNELS})
    return _loaded


def _filters(taps, table, e, k, c, mask, F):
    """Filters g_p(e) = sum_t w_et c[k + t, p] of a block of channels."""
    row = table + k * 3 * F + c
    w = tl.load(taps + e * 6)
    g0 = w * tl.load(row, mask=mask, other=0.0)
    g1 = w * tl.load(row + F, mask=mask, other=0.0)
    g2 = w * tl.load(row + 2 * F, mask=mask, other=0.0)
    for t in tl.static_range(1, 6):
        row += 3 * F
        w = tl.load(taps + e * 6 + t)
        g0 += w * tl.load(row, mask=mask, other=0.0)
        g1 += w * tl.load(row + F, mask=mask, other=0.0)
        g2 += w * tl.load(row + 2 * F, mask=mask, other=0.0)
    return g0, g1, g2


def _nine(x, row, c, mask, F):
    """Nine components of a row of features."""
    p = x + row * 9 * F + c
    x0 = tl.load(p, mask=mask, other=0.0)
    x1 = tl.load(p + F, mask=mask, other=0.0)
    x2 = tl.load(p + 2 * F, mask=mask, other=0.0)
    x3 = tl.load(p + 3 * F, mask=mask, other=0.0)
    x4 = tl.load(p + 4 * F, mask=mask, other=0.0)
    x5 = tl.load(p + 5 * F, mask=mask, other=0.0)
    x6 = tl.load(p + 6 * F, mask=mask, other=0.0)
    x7 = tl.load(p + 7 * F, mask=mask, other=0.0)
    x8 = tl.load(p + 8 * F, mask=mask, other=0.0)
    return x0, x1, x2, x3, x4, x5, x6, x7, x8


def _meet(first, second, e, other, c, mask, F, EMBED: constexpr):
    """What meets the filter at an edge."""
    if EMBED:
        z = tl.load(second + other * F + c, mask=mask, other=0.0)
        h = first + e * 9
        y0 = tl.load(h) * z
        y1 = tl.load(h + 1) * z
        y2 = tl.load(h + 2) * z
        y3 = tl.load(h + 3) * z
        y4 = tl.load(h + 4) * z
        y5 = tl.load(h + 5) * z
        y6 = tl.load(h + 6) * z
        y7 = tl.load(h + 7) * z
        y8 = tl.load(h + 8) * z
    else:
        y0, y1, y2, y3, y4, y5, y6, y7, y8 = _nine(first, other, c, mask, F)
    return y0, y1, y2, y3, y4, y5, y6, y7, y8


def _parts(y0, y1, y2, y3, y4, y5, y6, y7, y8, receivers, i, c, mask, F):
    """Dot products of the parts I, A, S with the receiver's."""
    x0, x1, x2, x3, x4, x5, x6, x7, x8 = _nine(receivers, i, c, mask, F)
    p0 = y0 * x0
    p1 = y1 * x1 + y2 * x2 + y3 * x3
    p2 = y4 * x4 + y5 * x5 + y6 * x6 + y7 * x7 + y8 * x8
    return p0, p1, p2


def _weighted(p0, p1, p2, row, mask, F):
    """Parts times one control point."""
    total = p0 * tl.load(row, mask=mask, other=0.0)
    total += p1 * tl.load(row + F, mask=mask, other=0.0)
    total += p2 * tl.load(row + 2 * F, mask=mask, other=0.0)
    return total


def _segment(ptr, group, part, parts):
    """Begin and end of one of several equal parts of a group's list."""
    begin = tl.load(ptr + group).to(tl.int64)
    count = tl.load(ptr + group + 1).to(tl.int64) - begin
    return begin + count * part // parts, begin + count * (part + 1) // parts


def receivers_kernel(
    first, second, taps, table, base, other, ptr, order, out, F,
    BLOCK: constexpr, EMBED: constexpr,
):  # fmt: skip
    """Sum over an atom's edges of filter times what meets it; one program per atom and block."""
    i = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = c < F
    zero = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    m0, m1, m2, m3, m4, m5, m6, m7, m8 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    for place in range(tl.load(ptr + i), tl.load(ptr + i + 1)):
        e = tl.load(order + place).to(tl.int64)
        k = tl.load(base + e).to(tl.int64)
        j = tl.load(other + e).to(tl.int64)
        g0, g1, g2 = _filters(taps, table, e, k, c, mask, F)
        y0, y1, y2, y3, y4, y5, y6, y7, y8 = _meet(first, second, e, j, c, mask, F, EMBED)
        m0 += g0 * y0
        m1 += g1 * y1
        m2 += g1 * y2
        m3 += g1 * y3
        m4 += g2 * y4
        m5 += g2 * y5
        m6 += g2 * y6
        m7 += g2 * y7
        m8 += g2 * y8
    p = out + i * 9 * F + c
    tl.store(p, m0, mask=mask)
    tl.store(p + F, m1, mask=mask)
    tl.store(p + 2 * F, m2, mask=mask)
    tl.store(p + 3 * F, m3, mask=mask)
    tl.store(p + 4 * F, m4, mask=mask)
    tl.store(p + 5 * F, m5, mask=mask)
    tl.store(p + 6 * F, m6, mask=mask)
    tl.store(p + 7 * F, m7, mask=mask)
    tl.store(p + 8 * F, m8, mask=mask)


def taps_kernel(
    first, second, table, receivers, base, other, receiver, out, F,
    BLOCK: constexpr, EMBED: constexpr,
):  # fmt: skip
    """Six dot products of an edge, over all channels; one program per edge."""
    e = tl.program_id(0).to(tl.int64)
    k = tl.load(base + e).to(tl.int64)
    j = tl.load(other + e).to(tl.int64)
    i = tl.load(receiver + e).to(tl.int64)
    zero = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    s0, s1, s2, s3, s4, s5 = zero, zero, zero, zero, zero, zero
    for start in range(0, F, BLOCK):
        c = start + tl.arange(0, BLOCK)
        mask = c < F
        y0, y1, y2, y3, y4, y5, y6, y7, y8 = _meet(first, second, e, j, c, mask, F, EMBED)
        p0, p1, p2 = _parts(y0, y1, y2, y3, y4, y5, y6, y7, y8, receivers, i, c, mask, F)
        row = table + k * 3 * F + c
        s0 += _weighted(p0, p1, p2, row, mask, F)
        s1 += _weighted(p0, p1, p2, row + 3 * F, mask, F)
        s2 += _weighted(p0, p1, p2, row + 6 * F, mask, F)
        s3 += _weighted(p0, p1, p2, row + 9 * F, mask, F)
        s4 += _weighted(p0, p1, p2, row + 12 * F, mask, F)
        s5 += _weighted(p0, p1, p2, row + 15 * F, mask, F)
    p = out + e * 6
    tl.store(p, tl.sum(s0, 0))
    tl.store(p + 1, tl.sum(s1, 0))
    tl.store(p + 2, tl.sum(s2, 0))
    tl.store(p + 3, tl.sum(s3, 0))
    tl.store(p + 4, tl.sum(s4, 0))
    tl.store(p + 5, tl.sum(s5, 0))


def harmonics_kernel(
    pairs, taps, table, receivers, base, other, receiver, out, F, BLOCK: constexpr
):
    """Nine dot products of an edge, over all channels; one program per edge."""
    e = tl.program_id(0).to(tl.int64)
    k = tl.load(base + e).to(tl.int64)
    q = tl.load(other + e).to(tl.int64)
    i = tl.load(receiver + e).to(tl.int64)
    zero = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    s0, s1, s2, s3, s4, s5, s6, s7, s8 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    for start in range(0, F, BLOCK):
        c = start + tl.arange(0, BLOCK)
        mask = c < F
        z = tl.load(pairs + q * F + c, mask=mask, other=0.0)
        g0, g1, g2 = _filters(taps, table, e, k, c, mask, F)
        x0, x1, x2, x3, x4, x5, x6, x7, x8 = _nine(receivers, i, c, mask, F)
        s0 += g0 * z * x0
        s1 += g1 * z * x1
        s2 += g1 * z * x2
        s3 += g1 * z * x3
        s4 += g2 * z * x4
        s5 += g2 * z * x5
        s6 += g2 * z * x6
        s7 += g2 * z * x7
        s8 += g2 * z * x8
    p = out + e * 9
    tl.store(p, tl.sum(s0, 0))
    tl.store(p + 1, tl.sum(s1, 0))
    tl.store(p + 2, tl.sum(s2, 0))
    tl.store(p + 3, tl.sum(s3, 0))
    tl.store(p + 4, tl.sum(s4, 0))
    tl.store(p + 5, tl.sum(s5, 0))
    tl.store(p + 6, tl.sum(s6, 0))
    tl.store(p + 7, tl.sum(s7, 0))
    tl.store(p + 8, tl.sum(s8, 0))


def table_kernel(
    first, second, taps, receivers, other, receiver, ptr, order, out, F, bases,
    BLOCK: constexpr, EMBED: constexpr,
):  # fmt: skip
    """Sum over edges with one first control point, by tap; one program per such, block, part."""
    k = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    part = tl.program_id(2)
    mask = c < F
    t = tl.arange(0, 8)  # six taps, to a power of two
    a0 = tl.zeros([8, BLOCK], dtype=out.dtype.element_ty)
    a1 = tl.zeros([8, BLOCK], dtype=out.dtype.element_ty)
    a2 = tl.zeros([8, BLOCK], dtype=out.dtype.element_ty)
    begin, end = _segment(ptr, k, part, tl.num_programs(2))
    for place in range(begin, end):
        e = tl.load(order + place).to(tl.int64)
        j = tl.load(other + e).to(tl.int64)
        i = tl.load(receiver + e).to(tl.int64)
        y0, y1, y2, y3, y4, y5, y6, y7, y8 = _meet(first, second, e, j, c, mask, F, EMBED)
        p0, p1, p2 = _parts(y0, y1, y2, y3, y4, y5, y6, y7, y8, receivers, i, c, mask, F)
        w = tl.load(taps + e * 6 + t, mask=t < 6, other=0.0)
        a0 += w[:, None] * p0[None, :]
        a1 += w[:, None] * p1[None, :]
        a2 += w[:, None] * p2[None, :]
    row = (part.to(tl.int64) * bases + k) * 6 + t
    p = out + row[:, None] * 3 * F + c[None, :]
    inside = (t[:, None] < 6) & mask[None, :]
    tl.store(p, a0, mask=inside)
    tl.store(p + F, a1, mask=inside)
    tl.store(p + 2 * F, a2, mask=inside)


def pairs_kernel(
    harmonics, ones, taps, table, receivers, base, receiver, ptr, order, out, F, rows,
    BLOCK: constexpr,
):  # fmt: skip
    """Sum over edges of one pair of elements; one program per pair, block and part.

    `ones` is a row of channels filled with 1, in place of the pairs' rows.
    """
    q = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    part = tl.program_id(2)
    mask = c < F
    total = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    begin, end = _segment(ptr, q, part, tl.num_programs(2))
    for place in range(begin, end):
        e = tl.load(order + place).to(tl.int64)
        k = tl.load(base + e).to(tl.int64)
        i = tl.load(receiver + e).to(tl.int64)
        g0, g1, g2 = _filters(taps, table, e, k, c, mask, F)
        y0, y1, y2, y3, y4, y5, y6, y7, y8 = _meet(harmonics, ones, e, 0, c, mask, F, True)
        p0, p1, p2 = _parts(y0, y1, y2, y3, y4, y5, y6, y7, y8, receivers, i, c, mask, F)
        total += g0 * p0 + g1 * p1 + g2 * p2
    tl.store(out + (part.to(tl.int64) * rows + q) * F + c, total, mask=mask)


def _matrix(x, row, c, mask, F, TURN: constexpr):
    """The 3x3 matrix of nine components, or its transpose."""
    x0, x1, x2, x3, x4, x5, x6, x7, x8 = _nine(x, row, c, mask, F)
    if TURN:
        x1 = -x1
        x2 = -x2
        x3 = -x3
    s = x0 * 0.5773502691896258
    d = x6 * 0.4082482904638631
    v = x8 * 0.7071067811865476
    return (
        s - d - v, (x5 - x3) * 0.7071067811865476, (x4 + x2) * 0.7071067811865476,
        (x5 + x3) * 0.7071067811865476, s + d + d, (x7 - x1) * 0.7071067811865476,
        (x4 - x2) * 0.7071067811865476, (x7 + x1) * 0.7071067811865476, s - d + v,
    )  # fmt: skip


def product_kernel(
    left, right, out, F, BLOCK: constexpr,
    LEFT: constexpr, RIGHT: constexpr, BOTH: constexpr,
):  # fmt: skip
    """A B, or A B + B A, with A and B transposed or not; one program per atom and block."""
    i = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = c < F
    a00, a01, a02, a10, a11, a12, a20, a21, a22 = _matrix(left, i, c, mask, F, LEFT)
    b00, b01, b02, b10, b11, b12, b20, b21, b22 = _matrix(right, i, c, mask, F, RIGHT)
    m00 = a00 * b00 + a01 * b10 + a02 * b20
    m01 = a00 * b01 + a01 * b11 + a02 * b21
    m02 = a00 * b02 + a01 * b12 + a02 * b22
    m10 = a10 * b00 + a11 * b10 + a12 * b20
    m11 = a10 * b01 + a11 * b11 + a12 * b21
    m12 = a10 * b02 + a11 * b12 + a12 * b22
    m20 = a20 * b00 + a21 * b10 + a22 * b20
    m21 = a20 * b01 + a21 * b11 + a22 * b21
    m22 = a20 * b02 + a21 * b12 + a22 * b22
    if BOTH:
        m00 += b00 * a00 + b01 * a10 + b02 * a20
        m01 += b00 * a01 + b01 * a11 + b02 * a21
        m02 += b00 * a02 + b01 * a12 + b02 * a22
        m10 += b10 * a00 + b11 * a10 + b12 * a20
        m11 += b10 * a01 + b11 * a11 + b12 * a21
        m12 += b10 * a02 + b11 * a12 + b12 * a22
        m20 += b20 * a00 + b21 * a10 + b22 * a20
        m21 += b20 * a01 + b21 * a11 + b22 * a21
        m22 += b20 * a02 + b21 * a12 + b22 * a22
    p = out + i * 9 * F + c
    tl.store(p, (m00 + m11 + m22) * 0.5773502691896258, mask=mask)
    tl.store(p + F, (m21 - m12) * 0.7071067811865476, mask=mask)
    tl.store(p + 2 * F, (m02 - m20) * 0.7071067811865476, mask=mask)
    tl.store(p + 3 * F, (m10 - m01) * 0.7071067811865476, mask=mask)
    tl.store(p + 4 * F, (m02 + m20) * 0.7071067811865476, mask=mask)
    tl.store(p + 5 * F, (m01 + m10) * 0.7071067811865476, mask=mask)
    tl.store(p + 6 * F, (m11 + m11 - m00 - m22) * 0.4082482904638631, mask=mask)
    tl.store(p + 7 * F, (m12 + m21) * 0.7071067811865476, mask=mask)
    tl.store(p + 8 * F, (m22 - m00) * 0.7071067811865476, mask=mask)
