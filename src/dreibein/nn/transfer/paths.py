"""Paths of a tensor product with harmonics of the edge direction: which degrees meet, how weighted.

    z_i[k] = sum_p c_p sum_{e: j -> i} w_p[e] C[l1, l2, l3] x_j[i1] Y_l2(r_ij)                   (1)

A path p takes block i1 of x and the harmonic of degree l2 to block k of z (e3nn's instruction).
Its weights are a matrix ("uvw") or one number for each channel ("uvu").
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

from dreibein.o3 import Irrep, Irreps

Mode = Literal["uvw", "uvu"]


@dataclass(frozen=True)
class Path:
    """One term of (1).

    Attributes:
        source: block of x.
        degree: l2, the degree of the harmonic.
        target: block of z.
        coefficient: c_p.
        mode: "uvw": w_p is a matrix [mul of source, mul of target]; "uvu": [mul of source].
    """

    source: int
    degree: int
    target: int
    coefficient: float
    mode: Mode


@dataclass(frozen=True)
class EdgePaths:
    """A whole product: representations of x and z, and the paths in the order of their weights."""

    irreps_in: Irreps
    irreps_out: Irreps
    paths: tuple[Path, ...]

    def __post_init__(self) -> None:
        for path in self.paths:
            (mul_in, one), (mul_out, three) = (
                self.irreps_in[path.source],
                self.irreps_out[path.target],
            )
            two = Irrep(path.degree, (-1) ** path.degree)
            text = f"{one} x {two} -> {three}"
            if not abs(one.l - two.l) <= three.l <= one.l + two.l:
                raise ValueError(f"the path {text} does not exist: degrees form no triangle")
            if one.p * two.p != three.p:
                raise ValueError(f"the path {text} does not exist: parities do not agree")
            if path.mode not in ("uvw", "uvu"):
                raise ValueError(f"a path is uvw or uvu, got {path.mode!r}")
            if path.mode == "uvu" and mul_in != mul_out:
                raise ValueError(
                    f"a uvu path keeps the channels, {text} has {mul_in} and {mul_out}"
                )

    @property
    def lmax(self) -> int:
        """Highest degree of a harmonic."""
        return max((path.degree for path in self.paths), default=0)

    def weight_shape(self, path: Path) -> tuple[int, ...]:
        """Shape of a path's weights at one edge."""
        mul = self.irreps_in[path.source].mul
        return (mul, self.irreps_out[path.target].mul) if path.mode == "uvw" else (mul,)

    @property
    def weight_sizes(self) -> list[int]:
        """Weights of every path at one edge, in order (e3nn's)."""
        sizes = []
        for path in self.paths:
            size = 1
            for length in self.weight_shape(path):
                size *= length
            sizes.append(size)
        return sizes


def full_paths(irreps_in: Irreps, lmax: int, irreps_out: Irreps) -> EdgePaths:
    """Every path to `irreps_out`, normalized as e3nn's `FullyConnectedTensorProduct`.

    c_p^2 = (2 l3 + 1) / sum over paths to the same block of the channels of their source.

    >>> len(full_paths(Irreps("8x0e+8x1o"), 1, Irreps("8x0e+8x1o")).paths)
    4
    """
    found = []
    for source, (_, one) in enumerate(irreps_in):
        for degree in range(lmax + 1):
            for target, (_, three) in enumerate(irreps_out):
                if _meet(one, degree, three):
                    found.append((source, degree, target))
    fan = [0] * len(irreps_out)
    for source, _, target in found:
        fan[target] += irreps_in[source].mul
    paths = tuple(Path(s, d, t, sqrt(irreps_out[t].kind.dim / fan[t]), "uvw") for s, d, t in found)
    return EdgePaths(irreps_in, irreps_out, paths)


def channel_paths(irreps_in: Irreps, lmax: int, kinds: Irreps) -> EdgePaths:
    """Every path to a kind in `kinds`, channel by channel ("uvu"), each to a block of its own.

    The blocks are sorted by kind, as in NequIP's convolution; a linear layer mixes them after the
    sum over neighbors. c_p^2 = 2 l3 + 1.

    >>> channel_paths(Irreps("8x0e+8x1o"), 1, Irreps("8x0e+8x1o")).irreps_out
    Irreps("8x0e+8x0e+8x1o+8x1o")
    """
    wanted = sorted({ir for _, ir in kinds}, key=lambda ir: ir.sort_key)
    found = [
        (source, degree, three)
        for source, (_, one) in enumerate(irreps_in)
        for degree in range(lmax + 1)
        for three in wanted
        if _meet(one, degree, three)
    ]
    blocks = Irreps((irreps_in[source].mul, three) for source, _, three in found)
    order = blocks.sort()
    paths = tuple(
        Path(source, degree, order.p[k], sqrt(three.dim), "uvu")
        for k, (source, degree, three) in enumerate(found)
    )
    return EdgePaths(irreps_in, order.reps, paths)


def paths_of_e3nn(product: Any) -> EdgePaths:
    """The paths of an e3nn `TensorProduct` whose second factor is harmonics, one of each degree.

    Args:
        product: `FullyConnectedTensorProduct` or `TensorProduct` with "uvw" and "uvu" instructions.

    Raises:
        ValueError: Another kind of product.
    """
    second = Irreps(str(product.irreps_in2))
    if any(mul != 1 or ir.is_pseudo for mul, ir in second):
        raise ValueError(f"the second factor is harmonics such as 1x0e+1x1o+1x2e, got {second!r}")
    paths = []
    for entry in product.instructions:
        if entry.connection_mode not in ("uvw", "uvu") or not entry.has_weight:
            raise ValueError(
                f"only weighted uvw and uvu instructions are known, got {entry.connection_mode}"
            )
        degree = second[entry.i_in2].kind.l
        coefficient = float(entry.path_weight)
        paths.append(Path(entry.i_in1, degree, entry.i_out, coefficient, entry.connection_mode))
    return EdgePaths(Irreps(str(product.irreps_in1)), Irreps(str(product.irreps_out)), tuple(paths))


def _meet(one: Irrep, degree: int, three: Irrep) -> bool:
    triangle = abs(one.l - degree) <= three.l <= one.l + degree
    return triangle and one.p * (-1) ** degree == three.p
