"""Functions of a distance as quintic B-splines.

    f(r) = sum_{t=0..5} w_t(u) c[k + t],   k = floor(x(r)),  u = x(r) - k

with the six quintic B-splines w_t of one interval and x(r), which counts knots (r / h, or
stretched). f is four times continuously differentiable, so
forces and their derivatives are smooth; it is linear in the control points c, and its derivatives
are the same sum with the derivatives of w_t. Interpolating a function with six bounded derivatives
errs by O(h^6), its slope by O(h^5).
"""

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.linalg import solve_banded
from torch import Tensor

TAPS = 6
"""Control points that a distance sees."""

DECAY = 5.0
"""Rate at which the density of stretched knots falls, over the cutoff."""

EXTRA = 2
"""Nodes beyond each end of 0 ... cutoff, so that every interval has its six control points."""

NEGLIGIBLE = 1e-20
"""Beside numbers of order one smaller ones change no sum, in float64 either, but where they fall
below 1e-38 float32 makes subnormal numbers of them, over which processors take a hundred times as
long: they become zero."""

BASIS = (
    (1.0, -5.0, 10.0, -10.0, 5.0, -1.0),
    (26.0, -50.0, 20.0, 20.0, -20.0, 5.0),
    (66.0, 0.0, -60.0, 0.0, 30.0, -10.0),
    (26.0, 50.0, 20.0, -20.0, -20.0, 10.0),
    (1.0, 5.0, 10.0, 10.0, 5.0, -5.0),
    (0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
)
"""Coefficients of u^0 ... u^5 of 120 w_t, one row per t."""


class RadialGrid:
    """Knots over 0 ... cutoff, and quintic B-splines on them.

    Knots are even in x(t) = t + stretch (1 - exp(-5 t)) / 5, t = r / cutoff: even in r without
    stretch, else closer by a factor 1 + stretch at r = 0, where radial functions are sharper.

    Args:
        cutoff: In Å.
        knots: Intervals between 0 and the cutoff, at least 4.
        stretch: Not negative.

    Raises:
        ValueError: Fewer than 4 knots, a cutoff that is not positive, or a negative stretch.
    """

    def __init__(self, cutoff: float, knots: int, *, stretch: float = 0.0) -> None:
        if knots < 4:
            raise ValueError(f"a radial table needs at least 4 knots, got {knots}")
        if not cutoff > 0.0:
            raise ValueError(f"the cutoff of a radial table is {cutoff} Å, expected more than 0")
        if not stretch >= 0.0:
            raise ValueError(f"the stretch of a radial table is {stretch}, expected 0 or more")
        self.cutoff, self.knots, self.stretch = float(cutoff), int(knots), float(stretch)

    @property
    def rows(self) -> int:
        """Number of nodes, and of control points."""
        return self.knots + 1 + 2 * EXTRA

    @property
    def nodes(self) -> Tensor:
        """Distances [knots + 5] in Å, float64, at which a function is sampled; two are negative."""
        target = torch.arange(-EXTRA, self.knots + 1 + EXTRA, dtype=torch.float64)
        lengths = target * (self.cutoff / self.knots)
        if self.stretch == 0.0:
            return lengths
        for _ in range(60):  # Newton's method; x is smooth and increasing, concave
            lengths = lengths - (self._coordinate(lengths) - target) / self._rate(lengths)
        return lengths

    def _coordinate(self, lengths: Tensor) -> Tensor:
        """Place of distances among the knots: 0 at r = 0, `knots` at the cutoff."""
        if self.stretch == 0.0:
            return lengths * (self.knots / self.cutoff)
        t = lengths / self.cutoff
        return self._scale * (t + self.stretch * (1.0 - torch.exp(-DECAY * t)) / DECAY)

    def _rate(self, lengths: Tensor) -> Tensor:
        """Derivative of the place."""
        decay = torch.exp(-DECAY / self.cutoff * lengths)
        return self._scale / self.cutoff * (1.0 + self.stretch * decay)

    @property
    def _scale(self) -> float:
        return self.knots / (1.0 + self.stretch * (1.0 - math.exp(-DECAY)) / DECAY)

    def coefficients(self, values: Tensor) -> Tensor:
        """Control points [knots + 5, ...] of the spline through values [knots + 5, ...].

        Linear in the values; at the ends the spline is "not a knot" (its fifth derivative does not
        jump at the two outermost inner nodes).
        """
        matrix = _collocation_inverse(self.knots).to(values)
        return torch.einsum("kn,n...->k...", matrix, values)

    def taps(self, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """First control point k [E] (int64) and weights w [E, 6] of distances [E].

        The weights are polynomials in the distance: differentiable to any order. Distances beyond
        the cutoff continue the last interval (an envelope, kept outside, is zero there).
        """
        scaled = self._coordinate(lengths)
        base = scaled.detach().floor().clamp(0, self.knots - 1)
        u = scaled - base
        powers = [torch.ones_like(u), u]
        for _ in range(TAPS - 2):
            powers.append(powers[-1] * u)
        basis = lengths.new_tensor(BASIS) / 120.0
        return base.long(), torch.stack(powers, dim=-1) @ basis.T

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RadialGrid):
            return NotImplemented
        return vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.cutoff, self.knots, self.stretch))

    def __repr__(self) -> str:
        return f"RadialGrid({self.cutoff}, {self.knots}, stretch={self.stretch})"


def interpolate(coefficients: Tensor, base: Tensor, weights: Tensor) -> Tensor:
    """sum_t w[e, t] c[base_e + t]: values [E, ...] from control points [rows, ...].

    >>> grid = RadialGrid(5.0, 10)
    >>> control = grid.coefficients(grid.nodes.pow(5))
    >>> interpolate(control, *grid.taps(torch.tensor([2.0, 3.0], dtype=torch.float64)))
    tensor([ 32.0000, 243.0000], dtype=torch.float64)
    """
    rows = base.unsqueeze(1) + torch.arange(TAPS, device=base.device)
    return torch.einsum("et,et...->e...", weights, coefficients[rows])


@lru_cache(maxsize=32)
def _collocation_inverse(knots: int) -> Tensor:
    """Control points [knots + 5] from values at the nodes [knots + 5], float64.

    Unknown are the control points -4 ... knots + 4; the equations are the values at the nodes
    (1, 26, 66, 26, 1) / 120 and four vanishing sixth differences. The two outermost unknowns at
    each end are not needed afterwards.
    """
    nodes = knots + 1 + 2 * EXTRA
    unknowns = nodes + 4
    width = 6  # of the band on either side
    band = np.zeros((2 * width + 1, unknowns))

    def put(row: int, first: int, values: tuple[float, ...]) -> None:
        for column, value in enumerate(values, start=first):
            band[width + row - column, column] = value

    for k in range(nodes):
        put(k + 2, k, tuple(v / 120.0 for v in (1.0, 26.0, 66.0, 26.0, 1.0)))
    difference = (1.0, -6.0, 15.0, -20.0, 15.0, -6.0, 1.0)
    ends = ((0, 0), (1, 1), (unknowns - 2, unknowns - 8), (unknowns - 1, unknowns - 7))
    for row, first in ends:
        put(row, first, difference)
    right = np.zeros((unknowns, nodes))
    right[2:-2] = np.eye(nodes)
    inverse = solve_banded((width, width), band, right)[2:-2].copy()
    inverse[np.abs(inverse) < NEGLIGIBLE] = 0.0  # far from the diagonal
    return torch.from_numpy(inverse)
