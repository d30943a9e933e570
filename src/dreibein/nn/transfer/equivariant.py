"""Layers that keep features equivariant without frames: linear maps, gates, norms, powers."""

import torch
from torch import Tensor, nn

from dreibein.nn.exact import ExactConstants
from dreibein.o3 import Irrep, Irreps, clebsch_gordan

SMALL = 1e-6
"""Added to mean squares before their root."""


def split_blocks(irreps: Irreps, x: Tensor) -> tuple[Tensor, ...]:
    """The blocks of features [..., irreps.dim].

    Slices would be the same, but each has a gradient of the size of x, with zeros around it.
    """
    return x.split([mul * ir.dim for mul, ir in irreps], -1)


class EquivariantLinear(nn.Module):
    """y_k = sum over blocks of the same kind W x: the only linear maps that commute with O(3).

    Weights are drawn with variance 1 / (channels of the kind); scalars (0e) may have a bias.

    Args:
        irreps_in: of x.
        irreps_out: of y; kinds that x lacks are zero.
        bias: add a constant to 0e.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, *, bias: bool = True) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
        self._sources = {
            ir: [k for k, (_, other) in enumerate(irreps_in) if other == ir] for _, ir in irreps_out
        }
        self.weights = nn.ParameterDict()
        self.biases = nn.ParameterDict()
        for number, (mul, ir) in enumerate(irreps_out):
            fan = sum(irreps_in[k].mul for k in self._sources[ir])
            if fan and mul:
                self.weights[str(number)] = nn.Parameter(torch.randn(fan, mul) / fan**0.5)
            if bias and ir.is_trivial and mul:
                self.biases[str(number)] = nn.Parameter(torch.zeros(mul))

    def forward(self, x: Tensor) -> Tensor:
        """[..., irreps_in.dim] to [..., irreps_out.dim]."""
        parts, blocks = [], split_blocks(self.irreps_in, x)
        for number, (mul, ir) in enumerate(self.irreps_out):
            name = str(number)
            if name in self.weights:
                channels = torch.cat(
                    [blocks[k].unflatten(-1, (-1, ir.dim)) for k in self._sources[ir]], -2
                )
                part = (channels.mT @ self.weights[name]).mT.flatten(-2)
            else:
                part = x.new_zeros(*x.shape[:-1], mul * ir.dim)
            parts.append(part + self.biases[name] if name in self.biases else part)
        return torch.cat(parts, -1)


class Gate(nn.Module):
    """Scalars pass through silu, every other channel is multiplied by a sigmoid of its own scalar.

    Args:
        irreps: of the result; `irreps_in` has a scalar more for each channel that is not 0e.
    """

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        self.irreps = irreps
        self.num_gates = sum(mul for mul, ir in irreps if not ir.is_trivial)
        self.irreps_in = Irreps([*irreps.blocks, (self.num_gates, Irrep(0, 1))])

    def forward(self, x: Tensor) -> Tensor:
        """[..., irreps_in.dim] to [..., irreps.dim]."""
        *blocks, last = split_blocks(self.irreps_in, x)
        gates = torch.sigmoid(last)
        parts, start = [], 0
        for (mul, ir), part in zip(self.irreps, blocks, strict=True):
            if ir.is_trivial:
                parts.append(nn.functional.silu(part))
                continue
            gate = gates[..., start : start + mul, None]
            parts.append((part.unflatten(-1, (mul, ir.dim)) * gate).flatten(-2))
            start += mul
        return torch.cat(parts, -1)


class EquivariantNorm(nn.Module):
    """Every block over the root of its mean squared channel, 0e shifted to mean zero before.

    Smooth at zero: the root is of the mean plus a small constant. Sees one row only.

    Args:
        irreps: of the features.
    """

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        self.irreps = irreps
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(mul, 1)) for mul, _ in irreps)

    def forward(self, x: Tensor) -> Tensor:
        """[..., irreps.dim] to the same."""
        parts = []
        blocks = zip(self.irreps, split_blocks(self.irreps, x), strict=True)
        for k, ((mul, ir), block) in enumerate(blocks):
            part = block.unflatten(-1, (mul, ir.dim))
            if ir.is_trivial:
                part = part - part.mean(-2, keepdim=True)
            mean = part.square().sum(-1, keepdim=True).mean(-2, keepdim=True) / ir.dim
            parts.append((part / (mean + SMALL).sqrt() * self.scales[k]).flatten(-2))
        return torch.cat(parts, -1)


class NodeProduct(ExactConstants):
    """z = W sum over pairs of blocks of C x_u y_u, channel by channel: a product of two features.

    With y = x it has all pairs of neighbors in it, applied again all triples, as in MACE.

    Args:
        irreps: of x, y and z; every block has the same number of channels.

    Raises:
        ValueError: Blocks of different numbers of channels.
    """

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        if len({mul for mul, _ in irreps}) > 1:
            raise ValueError(f"a product of nodes takes blocks of equal channels, got {irreps!r}")
        self.irreps = irreps
        kinds = {ir for _, ir in irreps}
        found = [
            (i, j, Irrep(l, one.p * two.p))
            for i, (_, one) in enumerate(irreps)
            for j, (_, two) in enumerate(irreps)
            for l in range(abs(one.l - two.l), one.l + two.l + 1)
            if Irrep(l, one.p * two.p) in kinds
        ]
        self._paths = [(i, j) for i, j, _ in found]
        for number, (i, j, three) in enumerate(found):
            table = clebsch_gordan(irreps[i].kind.l, irreps[j].kind.l, three.l) * three.dim**0.5
            self.register_buffer(f"coupling_{number}", torch.tensor(table), persistent=False)
        mul = irreps[0].mul
        self.linear = EquivariantLinear(Irreps((mul, ir) for _, _, ir in found), irreps, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Features [N, irreps.dim] of two of the same."""
        first, second = (
            [
                block.unflatten(1, (-1, ir.dim))
                for (_, ir), block in zip(self.irreps, split_blocks(self.irreps, each), strict=True)
            ]
            for each in (x, y)
        )
        parts = []
        for number, (i, j) in enumerate(self._paths):
            coupling = self.get_buffer(f"coupling_{number}").to(x.dtype)
            pairs = first[i][..., :, None] * second[j][..., None, :]
            parts.append((pairs.flatten(-2) @ coupling.flatten(0, 1)).flatten(-2))
        return self.linear(torch.cat(parts, -1))
