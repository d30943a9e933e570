"""Functions of a distance: envelopes that end at the cutoff, and radial bases.

An envelope phi falls from 1 at r = 0 to 0 at the cutoff and is 0 beyond it. A basis maps
distances [E] to features [E, num_radial].
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

EnvelopeName = Literal["smooth", "cosine"]
RadialName = Literal["expnorm", "gaussian", "bessel"]


class Envelope(nn.Module):
    """phi(r), one at r = 0, zero from the cutoff on.

    "smooth": 1 - 10 t^3 + 15 t^4 - 6 t^5 with t = r / cutoff; value, slope and curvature vanish
    at the cutoff, so energies are twice continuously differentiable.
    "cosine": (cos(pi t) + 1) / 2 as published with TensorNet (arXiv 2306.06482); its curvature
    jumps by pi^2 / (2 cutoff^2) at the cutoff. For published weights.

    Args:
        cutoff: In Å.
        kind: "smooth" or "cosine".
    """

    def __init__(self, cutoff: float, kind: EnvelopeName = "smooth") -> None:
        super().__init__()
        self.cutoff = float(cutoff)
        self.kind = kind

    def forward(self, lengths: Tensor) -> Tensor:
        """Envelope of distances, same shape.

        >>> Envelope(5.0)(torch.tensor([0.0, 2.5, 5.0, 6.0]))
        tensor([1.0000, 0.5000, 0.0000, 0.0000])
        """
        t = (lengths / self.cutoff).clamp(max=1.0)
        if self.kind == "cosine":
            return 0.5 * (torch.cos(math.pi * t) + 1.0)
        return 1.0 + t * t * t * (t * (15.0 - 6.0 * t) - 10.0)


class ExpNormal(nn.Module):
    """e_k(r) = phi(r) exp(-beta (exp(-alpha r) - mu_k)^2), alpha = 5 / cutoff.

    Centers mu_k are spread evenly over exp(-cutoff) ... 1 and beta = (2 (1 - exp(-cutoff)) /
    num_radial)^-2 (PhysNet, arXiv 1902.08408; TensorNet, arXiv 2306.06482). Both are stored with
    a model, since published ones hold them in float32.

    Args:
        cutoff: In Å.
        num_radial: Number of functions.
        envelope: Kind of phi.
    """

    centers: Tensor
    beta: Tensor

    def __init__(self, cutoff: float, num_radial: int, envelope: EnvelopeName = "smooth") -> None:
        super().__init__()
        start = math.exp(-cutoff)
        beta = (2.0 / num_radial * (1.0 - start)) ** -2
        self.alpha = 5.0 / cutoff
        self.envelope = Envelope(cutoff, envelope)
        centers = torch.linspace(start, 1.0, num_radial, dtype=torch.float64)
        self.register_buffer("centers", centers)
        self.register_buffer("beta", torch.tensor(beta, dtype=torch.float64))

    def forward(self, lengths: Tensor) -> Tensor:
        """Features [E, num_radial] of distances [E] in Å."""
        offsets = torch.exp(-self.alpha * lengths).unsqueeze(-1) - self.centers
        return self.envelope(lengths).unsqueeze(-1) * torch.exp(-self.beta * offsets * offsets)


class Gaussian(nn.Module):
    """e_k(r) = exp(-b (r - o_k)^2), o_k even over 0 ... cutoff, b = 1 / (2 spacing^2).

    No envelope inside: whoever uses it multiplies by one.

    Args:
        cutoff: In Å.
        num_radial: Number of functions, at least 2.
    """

    offsets: Tensor
    sharpness: Tensor

    def __init__(self, cutoff: float, num_radial: int) -> None:
        super().__init__()
        if num_radial < 2:
            raise ValueError(f"Gaussian radial functions need num_radial >= 2, got {num_radial}")
        spacing = cutoff / (num_radial - 1)
        self.register_buffer(
            "offsets", torch.linspace(0.0, cutoff, num_radial, dtype=torch.float64)
        )
        self.register_buffer("sharpness", torch.tensor(0.5 / spacing**2, dtype=torch.float64))

    def forward(self, lengths: Tensor) -> Tensor:
        """Features [E, num_radial] of distances [E] in Å."""
        u = lengths.unsqueeze(-1) - self.offsets
        return torch.exp(-self.sharpness * u * u)


class Bessel(nn.Module):
    """e_n(r) = sqrt(2 / cutoff) sin(n pi r / cutoff) / r, n = 1 ... num_radial (DimeNet, eq. 7).

    The limit at r = 0 is taken exactly. No envelope inside: whoever uses it multiplies by one.

    Args:
        cutoff: In Å.
        num_radial: Number of functions.
    """

    frequencies: Tensor

    def __init__(self, cutoff: float, num_radial: int) -> None:
        super().__init__()
        self.norm = math.sqrt(2.0 / cutoff)
        frequencies = torch.arange(1, num_radial + 1, dtype=torch.float64) * (math.pi / cutoff)
        self.register_buffer("frequencies", frequencies)

    def forward(self, lengths: Tensor) -> Tensor:
        """Features [E, num_radial] of distances [E] in Å."""
        return (
            self.norm * self.frequencies * sine_quotient(lengths.unsqueeze(-1) * self.frequencies)
        )


def sine_quotient(x: Tensor) -> Tensor:
    """sin(x) / x, one at x = 0, with right derivatives of every order that training needs.

    `torch.sinc` is NaN at 0 when it is differentiated twice, and every atom's self-loop is there.
    """
    small = x.abs() < 0.1
    square = torch.where(small, x, 0.0).square()
    # the next term of the series is below 3e-18
    series = 1.0 - square / 6.0 * (
        1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0))
    )
    safe = torch.where(small, 1.0, x)
    return torch.where(small, series, torch.sin(safe) / safe)


def radial_basis(
    kind: RadialName, cutoff: float, num_radial: int, envelope: EnvelopeName = "smooth"
) -> nn.Module:
    """The basis named `kind`; see the classes for the equations."""
    if kind == "expnorm":
        return ExpNormal(cutoff, num_radial, envelope)
    if kind == "gaussian":
        return Gaussian(cutoff, num_radial)
    if kind == "bessel":
        return Bessel(cutoff, num_radial)
    raise ValueError(f"unknown radial basis '{kind}': use expnorm, gaussian or bessel")


def lengths_and_units(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """|r| [E] and r / |r| [E, 3]; a zero vector gives 0 and 0 with finite derivatives."""
    squared = (vectors * vectors).sum(-1)
    zero = squared == 0
    safe = squared.masked_fill(zero, 1.0).sqrt()
    return safe.masked_fill(zero, 0.0), vectors / safe.unsqueeze(-1)
