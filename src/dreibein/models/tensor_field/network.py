"""Tensor field networks in tensor-product form.

One description (`TensorFieldConfig`) covers convolutions with gates (NequIP, arXiv 2101.03164),
products of messages at an atom (`correlation`; MACE, 2206.07697), attention over tensor products
(Equiformer, 2206.11990), and scalars with vectors alone (`vectors`: PaiNN, EGNN):

    convolution  x_i <- S x_i + gate(W sum_j (w(r_ij) . x_j x Y(r_ij)))                          (1)
    attention    m_ij = W (w(r_ij) . (W_i x_i + W_j x_j) x Y(r_ij)),  v_ij = gate(m_ij) x Y(r_ij),
                 x_i <- x_i + W_o sum_j a_ij v_ij,   x_i <- x_i + W gate(W norm x_i)             (2)

with a_ij from the scalars of m_ij, normalized as in LoCaFormer. `TensorFieldConfig.local` gives the
same description between local frames (arXiv 2509.26499): there irreps become representations that
are carried, the products with their paths become a map of [carried sender, receiver, edge] without
constraint, gates become silu, equivariant norms LayerNorm. Of attention that network is
`LoCaFormer`, of the others `LocalField`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dreibein.models.tensor_field.config import PSEUDOSCALAR, TensorFieldConfig
from dreibein.models.tensor_field.edges import Edges
from dreibein.models.tensor_field.products import Attention, Convolution
from dreibein.models.tensor_field.vectors import EGNN, PaiNN
from dreibein.nn.elements import element_rows
from dreibein.nn.radial import Envelope, lengths_and_units, radial_basis
from dreibein.nn.transfer import EquivariantLinear
from dreibein.o3 import Irreps
from dreibein.systems.graphs import Graph

LAYERS: dict[str, Callable[[TensorFieldConfig, Irreps], nn.Module]] = {
    "convolution": Convolution,
    "attention": Attention,
    "painn": PaiNN,
    "egnn": EGNN,
}


class TensorField(nn.Module):
    """Atomic energies from the scalars of the last layer, by an MLP; for SO(3) 0o beside 0e.

    Args:
        config: The description.
        elements: Atomic numbers that occur; each gets a row of the element table.

    Raises:
        ValueError: No elements, one twice, or one outside 0 ... 118.
    """

    row_of: Tensor

    def __init__(self, config: TensorFieldConfig, elements: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("row_of", element_rows(elements), persistent=False)
        self.config, self.elements = config, tuple(elements)
        self.irreps = Irreps(config.irreps)
        scalars = self.irreps[0].mul
        self.element = nn.Embedding(len(elements), scalars)
        self.charge = nn.Parameter(0.1 * torch.randn(scalars))
        self.radial = radial_basis(config.radial, config.cutoff, config.num_radial, config.envelope)
        self.envelope = Envelope(config.cutoff, config.envelope)
        only_scalars = Irreps([self.irreps[0]])
        first = only_scalars if config.interaction == "convolution" else self.irreps
        layer = LAYERS[config.interaction]
        self.layers = nn.ModuleList(
            layer(config, first if k == 0 else self.irreps) for k in range(config.layers)
        )
        self.expand = None if first == only_scalars else EquivariantLinear(only_scalars, first)
        self._read = [
            piece
            for (_, ir), piece in zip(self.irreps, self.irreps.slices(), strict=True)
            if piece.start == 0 or (config.symmetry == "SO(3)" and ir == PSEUDOSCALAR)
        ]
        width = sum(piece.stop - piece.start for piece in self._read)
        self.head = nn.Sequential(
            nn.Linear(width, scalars), nn.SiLU(), nn.Linear(scalars, 1, bias=False)
        )
        self.global_features = _global_features(config, self.irreps) if config.targets else None
        if not config.energy:  # drawn before it goes: the other weights do not depend on it
            del self.head
        self.to(torch.get_default_dtype())  # constants are made in float64

    @property
    def cutoff(self) -> float:
        """Range of edges in Å."""
        return self.config.cutoff

    @property
    def hops(self) -> int:
        """Edges from an atom to the farthest that its energy hears."""
        return self.config.layers

    @property
    def feature_channels(self) -> int:
        """F of `irreps_features`."""
        return self.config.channels

    def features(self, graph: Graph) -> Tensor:
        """Features of atoms after the last layer [N, dim], which turn as the irreps."""
        lengths, units = lengths_and_units(graph.vectors)
        edges = Edges(graph, units, self.radial(lengths), self.envelope(lengths))
        x = self.element(self.row_of[graph.z])
        x = x + graph.charge.index_select(0, graph.batch)[:, None] * self.charge
        if self.expand is not None:
            x = self.expand(x)
        for layer in self.layers:
            x = layer(x, edges)
        return x

    def irreps_features(self, graph: Graph) -> Tensor:
        """Features of atoms [N, 9, F] that turn as F x (0e + 1o + 2e); absent kinds are zero.

        Raises:
            ValueError: The configuration names no targets.
        """
        if self.global_features is None:
            raise ValueError("the model has no targets: name some in its config")
        x = self.global_features(self.features(graph))
        parts = x.split([self.config.channels * width for width in (1, 3, 5)], 1)
        return torch.cat([part.unflatten(1, (self.config.channels, -1)).mT for part in parts], 1)

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom [N], in units of the potential's scale."""
        x = self.features(graph)
        read = torch.cat([x[:, piece] for piece in self._read], 1)
        return self.head(read).squeeze(-1)


def _global_features(config: TensorFieldConfig, irreps: Irreps) -> nn.Module:
    """Every kind mixed to F channels of 0e, 1o and 2e, with no bias on 0e."""
    wanted = Irreps("+".join(f"{config.channels}x{kind}" for kind in ("0e", "1o", "2e")))
    return EquivariantLinear(irreps, wanted, bias=False)
