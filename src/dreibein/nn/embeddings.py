"""Features of an edge's direction and vector, as its receiver sees them in its own axes.

The inputs are written in the local frame (`transport.edges_to_local("1x1o", vectors)`), so any
function of them is invariant. In a soft frame a direction may be shorter than one; all functions
below are smooth there and at zero. None of them modifies its input.
"""

import math

import torch
from torch import Tensor, nn

from dreibein.nn.radial import sine_quotient
from dreibein.o3 import solid_harmonics


class HarmonicEmbedding(nn.Module):
    """Y_0 ... Y_lmax of the direction, solid harmonics with |Y_l|^2 = 2l + 1 on the sphere.

    Args:
        lmax: highest degree.

    >>> HarmonicEmbedding(2)(torch.tensor([[0.0, 0.0, 1.0]])).shape
    torch.Size([1, 9])
    """

    def __init__(self, lmax: int = 2) -> None:
        super().__init__()
        self.lmax = lmax
        self.dim = (lmax + 1) ** 2

    def forward(self, units: Tensor) -> Tensor:
        """Directions [E, 3] to [E, (lmax + 1)^2]."""
        return solid_harmonics(self.lmax, units)


class UnitEmbedding(nn.Module):
    """The three components of the direction themselves."""

    dim = 3

    def forward(self, units: Tensor) -> Tensor:
        """Directions [E, 3], unchanged."""
        return units


class SphereEmbedding(nn.Module):
    """exp(-|u - p_k|^2 / 2 w^2) with points p_k spread evenly over the sphere.

    Args:
        num_points: number of points K, on a Fibonacci lattice.
        width: w; default sqrt(4 pi / K), the distance of neighboring points.

    >>> SphereEmbedding(20)(torch.zeros(1, 3)).unique().numel()
    1
    """

    points: Tensor

    def __init__(self, num_points: int = 32, width: float | None = None) -> None:
        super().__init__()
        self.dim = num_points
        self.width = width or math.sqrt(4.0 * math.pi / num_points)
        self.register_buffer("points", fibonacci_sphere(num_points))

    def forward(self, units: Tensor) -> Tensor:
        """Directions [E, 3] to [E, K]."""
        # |u|^2 - 2 u.p + 1 needs no array [E, K, 3]
        squared = (
            units.square().sum(-1, keepdim=True) + 1.0 - 2.0 * units @ self.points.to(units.dtype).T
        )
        return torch.exp(squared * (-0.5 / self.width**2))


class AxialGaussian(nn.Module):
    """exp(-(x_a - o_k)^2 / 2 s^2) of each component a of the vector, o_k even over -c ... c.

    Args:
        cutoff: c in Å.
        num_axial: functions an axis; s is their spacing.
    """

    offsets: Tensor

    def __init__(self, cutoff: float, num_axial: int) -> None:
        super().__init__()
        if num_axial < 2:
            raise ValueError(f"axial Gaussians need num_axial >= 2, got {num_axial}")
        self.dim = 3 * num_axial
        self.sharpness = 0.5 * ((num_axial - 1) / (2.0 * cutoff)) ** 2
        offsets = torch.linspace(-cutoff, cutoff, num_axial, dtype=torch.float64)
        self.register_buffer("offsets", offsets)

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors [E, 3] in Å to [E, 3 num_axial], axis by axis."""
        u = vectors[..., None] - self.offsets
        return torch.exp(-self.sharpness * u * u).flatten(-2).to(vectors.dtype)


class AxialBessel(nn.Module):
    """sin(n pi t) / (n pi t) and sin(n pi t) of each component, t = x_a / cutoff.

    Unlike a distance, a component has a sign: the Bessel functions alone are even in x_a and would
    not tell its two sides apart, so half of the functions are odd.

    Args:
        cutoff: in Å.
        num_axial: functions an axis: ceil(num_axial / 2) even, the others odd.
    """

    even: Tensor
    odd: Tensor

    def __init__(self, cutoff: float, num_axial: int) -> None:
        super().__init__()
        if num_axial < 2:
            raise ValueError(f"axial Bessel functions need num_axial >= 2, got {num_axial}")
        self.dim = 3 * num_axial
        steps = torch.arange(1, (num_axial + 1) // 2 + 1, dtype=torch.float64) * math.pi / cutoff
        self.register_buffer("even", steps)
        self.register_buffer("odd", steps[: num_axial // 2].clone())

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors [E, 3] in Å to [E, 3 num_axial], axis by axis."""
        x = vectors[..., None]
        parts = (sine_quotient(x * self.even), torch.sin(x * self.odd))
        return torch.cat(parts, -1).flatten(-2).to(vectors.dtype)


class EdgeEmbedding(nn.Module):
    """[radial(r), angular(u), axial(x)] of an edge, or radial times angular with `product`.

    Args:
        radial: distances [E] to [E, num_radial], see `radial_basis`.
        num_radial: its width.
        angular: directions [E, 3] to [E, angular.dim]; optional.
        axial: vectors [E, 3] in Å to [E, axial.dim]; optional.
        product: every radial with every angular function, num_radial angular.dim numbers.

    >>> from dreibein.nn.radial import Bessel
    >>> embedding = EdgeEmbedding(Bessel(5.0, 8), 8, HarmonicEmbedding(2), product=True)
    >>> embedding.dim, embedding(torch.ones(2), torch.zeros(2, 3), torch.zeros(2, 3)).shape
    (72, torch.Size([2, 72]))
    """

    def __init__(
        self,
        radial: nn.Module,
        num_radial: int,
        angular: nn.Module | None = None,
        axial: nn.Module | None = None,
        *,
        product: bool = False,
    ) -> None:
        super().__init__()
        self.radial, self.angular, self.axial = radial, angular, axial
        if product and angular is None:
            raise ValueError("a product of radial and angular functions needs angular ones")
        self.product = product
        wide = 0 if angular is None else int(angular.dim)  # type: ignore[arg-type]
        self.dim = num_radial * wide if product else num_radial + wide
        self.dim += 0 if axial is None else int(axial.dim)  # type: ignore[arg-type]

    def forward(self, lengths: Tensor, units: Tensor, vectors: Tensor) -> Tensor:
        """Features [E, dim].

        Args:
            lengths: r [E] in Å.
            units: local directions u [E, 3].
            vectors: local vectors x [E, 3] in Å.
        """
        parts = [self.radial(lengths).to(vectors.dtype)]
        if self.angular is not None:
            angular = self.angular(units)
            if self.product:
                parts = [(parts[0][:, :, None] * angular[:, None, :]).flatten(1)]
            else:
                parts.append(angular)
        if self.axial is not None:
            parts.append(self.axial(vectors))
        return torch.cat(parts, -1)


def fibonacci_sphere(num_points: int) -> Tensor:
    """Points [K, 3] spread evenly over the unit sphere: golden-angle turns at equal heights.

    >>> bool((fibonacci_sphere(100).norm(dim=1) - 1).abs().max() < 1e-14)
    True
    """
    k = torch.arange(num_points, dtype=torch.float64)
    z = 1.0 - (2.0 * k + 1.0) / num_points
    angle = math.pi * (3.0 - math.sqrt(5.0)) * k
    radius = (1.0 - z * z).sqrt()
    return torch.stack((radius * torch.cos(angle), radius * torch.sin(angle), z), -1)
