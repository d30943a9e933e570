"""Functions of a distance: envelopes that end at the cutoff, and radial bases.

An envelope phi falls from 1 at r = 0 to 0 at the cutoff and is 0 beyond it. A basis maps
distances [E] to features [E, num_radial].
"""

import math
from collections.abc import Callable
from typing import Literal, Self

import torch
from torch import Tensor, nn

EnvelopeName = Literal["smooth", "cosine"]
RadialName = Literal["expnorm", "gaussian", "bessel", "smooth_bessel"]
WidthName = Literal["shared", "each"]


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
        widths: "shared": one beta; "each": beta_k, of models whose radial functions were trained.
    """

    centers: Tensor
    beta: Tensor

    def __init__(
        self,
        cutoff: float,
        num_radial: int,
        envelope: EnvelopeName = "smooth",
        widths: WidthName = "shared",
    ) -> None:
        super().__init__()
        start = math.exp(-cutoff)
        beta = (2.0 / num_radial * (1.0 - start)) ** -2
        self.alpha = 5.0 / cutoff
        self.envelope = Envelope(cutoff, envelope)
        centers = torch.linspace(start, 1.0, num_radial, dtype=torch.float64)
        self.register_buffer("centers", centers)
        shape = (num_radial,) if widths == "each" else ()
        self.register_buffer("beta", torch.full(shape, beta, dtype=torch.float64))

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


class SmoothBessel(nn.Module):
    """Orthonormal e_n(r) that vanish with slope and curvature at the cutoff, n = 1 ... num_radial.

    f_n = (-1)^n c_n (s(n + 1) + s(n + 2)), s(k) = sin(k pi r / cutoff) / (k pi r / cutoff),
    c_n = sqrt(2) pi / cutoff^(3/2) (n + 1)(n + 2) / sqrt((n + 1)^2 + (n + 2)^2), n from 0, made
    orthonormal one after the other: e_n = (f_n + sqrt(u_n / d_(n-1)) e_(n-1)) / sqrt(d_n),
    d_n = 1 - u_n / d_(n-1), d_0 = 1, u_n = n^2 (n + 2)^2 / (4 (n + 1)^4 + 1) (Kocer, Mason and
    Erturk, arXiv 1901.02374; M3GNet, arXiv 2202.02450). No envelope inside: whoever uses it
    multiplies by one.

    Args:
        cutoff: In Å.
        num_radial: Number of functions.
    """

    frequencies: Tensor
    mixing: Tensor

    def __init__(self, cutoff: float, num_radial: int) -> None:
        super().__init__()
        self.cutoff, self.num_radial = float(cutoff), num_radial
        frequencies, mixing = self._constants()
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("mixing", mixing, persistent=False)

    def _constants(self) -> tuple[Tensor, Tensor]:
        """Frequencies k pi / cutoff, k = 1 ... num_radial + 1, and e_n as sums of s(k); float64."""
        cutoff, count = self.cutoff, self.num_radial
        waves = torch.arange(1, count + 2, dtype=torch.float64)
        mixing = torch.zeros(count, count + 1, dtype=torch.float64)
        last = 1.0
        for n in range(count):
            a, b = n + 1.0, n + 2.0
            norm = math.sqrt(2.0) * math.pi / cutoff**1.5 * a * b / math.hypot(a, b)
            mixing[n, n : n + 2] = (-1.0) ** n * norm
            if n > 0:
                overlap = (n * b) ** 2 / (4.0 * a**4 + 1.0)
                mixing[n] += math.sqrt(overlap / last) * mixing[n - 1]
                last = 1.0 - overlap / last
                mixing[n] /= math.sqrt(last)
        return waves * (math.pi / cutoff), mixing

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        # made again, not rounded: a network moved from float32 to float64 must be exact there
        frequencies, mixing = self._constants()
        self.frequencies, self.mixing = (
            frequencies.to(self.frequencies),
            mixing.to(self.mixing),
        )
        return self

    def forward(self, lengths: Tensor) -> Tensor:
        """Features [E, num_radial] of distances [E] in Å."""
        return sine_quotient(lengths.unsqueeze(-1) * self.frequencies) @ self.mixing.T


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
    kind: RadialName,
    cutoff: float,
    num_radial: int,
    envelope: EnvelopeName = "smooth",
    widths: WidthName = "shared",
) -> nn.Module:
    """The basis named `kind`; see the classes for the equations."""
    if kind == "expnorm":
        return ExpNormal(cutoff, num_radial, envelope, widths)
    if kind == "gaussian":
        return Gaussian(cutoff, num_radial)
    if kind == "bessel":
        return Bessel(cutoff, num_radial)
    if kind == "smooth_bessel":
        return SmoothBessel(cutoff, num_radial)
    raise ValueError(
        f"unknown radial basis '{kind}': use expnorm, gaussian, bessel or smooth_bessel"
    )


def lengths_and_units(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """|r| [E] and r / |r| [E, 3]; a zero vector gives 0 and 0 with finite derivatives."""
    squared = (vectors * vectors).sum(-1)
    zero = squared == 0
    safe = squared.masked_fill(zero, 1.0).sqrt()
    return safe.masked_fill(zero, 0.0), vectors / safe.unsqueeze(-1)
