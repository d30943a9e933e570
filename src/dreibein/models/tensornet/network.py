"""TensorNet: message passing on Cartesian rank-2 tensors (arXiv 2306.06482), plain PyTorch.

Per atom and channel a 3x3 tensor X = I + A + S is kept as nine numbers, its coordinates in an
orthonormal basis of matrices: one scalar (I), three of the antisymmetric part (A), five of the
symmetric traceless part (S, in the order of real l = 2 harmonics xz, xy, yy, yz, zz-xx). The
squared Frobenius norm is then the plain sum of squares, and under a rotation the nine numbers
turn as the irreps 0e + 1e + 2e.
"""

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from dreibein.models.tensornet.charges import ChargeEquilibration, charged_filters
from dreibein.models.tensornet.config import TensorNetConfig
from dreibein.models.tensornet.edges import RadialFeatures, sums_backend
from dreibein.models.tensornet.field import FieldEnergy
from dreibein.models.tensornet.packing import (
    ChannelMixing,
    Packing,
    block_norms,
    matrix_product,
    squared_norm,
)
from dreibein.models.tensornet.readout import energy_head
from dreibein.models.tensornet.states import StateEmbedding
from dreibein.nn.elements import element_rows
from dreibein.nn.radial import Envelope, radial_basis
from dreibein.ops import RadialGrid
from dreibein.systems.graphs import Graph

if TYPE_CHECKING:
    from dreibein.models.tensornet.inference import TensorNetEngine


class Embedding(nn.Module):
    """First tensors of each atom from its neighbors' elements, distances and directions.

    X_i = sum_j phi(r) Z_ij (w_I(r) 1 + w_A(r) [r]x + w_S(r) (r r^T - 1/3)), j = i included, then
    a gate per part computed from the normalised ||X_i||^2 (arXiv 2306.06482, eqs. 6-8).

    Args:
        config: Hyperparameters.
        num_elements: Rows of the element table.
    """

    def __init__(self, config: TensorNetConfig, num_elements: int) -> None:
        super().__init__()
        channels = config.channels
        self.element = nn.Embedding(num_elements, channels)
        self.pair = nn.Linear(2 * channels, channels)
        self.distance = nn.Linear(config.num_radial, 3 * channels)
        self.packing = Packing()
        self.mix = ChannelMixing(channels)
        self.norm = nn.LayerNorm(channels)
        self.gate = nn.Sequential(
            nn.Linear(channels, 2 * channels),
            nn.SiLU(),
            nn.Linear(2 * channels, 3 * channels),
            nn.SiLU(),
        )

    def forward(
        self, rows: Tensor, graph: Graph, radial: RadialFeatures, state: Tensor | None = None
    ) -> Tensor:
        """Features [N, 9, F].

        Args:
            rows: Row of each atom in the element table [N].
            graph: The structures.
            radial: Radial features of the edges and of a self-loop.
            state: What the gates hear of total charge and spin [N, F].
        """
        channels = self.pair.out_features
        # Z_ij = W [z_i, z_j] + b splits into a table for receivers and one for senders
        receivers = nn.functional.linear(
            self.element.weight, self.pair.weight[:, :channels], self.pair.bias
        )
        senders = nn.functional.linear(self.element.weight, self.pair.weight[:, channels:])
        if radial.fused:
            x = self._fused_sum(rows, receivers, senders, radial)
        else:
            x = self._sum(rows, receivers, senders, graph, radial)
        normed = self.norm(squared_norm(x))
        gates = self.gate(normed if state is None else normed + state)
        return self.mix(x) * self.packing.spread(gates.unflatten(-1, (3, channels)))

    def _fused_sum(
        self, rows: Tensor, receivers: Tensor, senders: Tensor, radial: RadialFeatures
    ) -> Tensor:
        """X_i without arrays of edges and channels; `receivers` and `senders` are W z + b, W z."""
        from dreibein.ops.messages import embedding

        table = radial.table(self.distance)
        pairs = (receivers.unsqueeze(1) + senders).flatten(0, 1)
        x = embedding(radial.edge_taps, radial.tensors, table, pairs, radial.edges)
        loop = math.sqrt(3.0) * radial.at_zero(table)[0] * (receivers + senders)
        return torch.cat((x[:, :1] + loop.index_select(0, rows).unsqueeze(1), x[:, 1:]), dim=1)

    def _sum(
        self,
        rows: Tensor,
        receivers: Tensor,
        senders: Tensor,
        graph: Graph,
        radial: RadialFeatures,
    ) -> Tensor:
        """X_i in plain PyTorch."""
        channels = self.pair.out_features
        z_receiver, z_sender = receivers.index_select(0, rows), senders.index_select(0, rows)
        pair = z_receiver.index_select(0, graph.receiver) + z_sender.index_select(0, graph.sender)
        weights = radial.filters(self.distance)
        edge_weights = weights[:-1] * pair.unsqueeze(1)  # [E, 3, F]
        messages = radial.tensors.unsqueeze(-1) * self.packing.spread(edge_weights)
        x = messages.new_zeros(graph.num_atoms, 9, channels)
        x = x.index_add(0, graph.receiver, messages)
        # the self-loop has no direction: it feeds the scalar part alone
        loop = math.sqrt(3.0) * weights[-1, 0] * (z_receiver + z_sender)
        return torch.cat((x[:, :1] + loop.unsqueeze(1), x[:, 1:]), dim=1)


class Interaction(nn.Module):
    """One layer: filters of the distance, a message, a matrix product, a residual.

    X <- X / (||X||^2 + 1); Y = W1 X; M_i = sum_j g(r_ij) Y_j, j = i included;
    C = q (Y M + M Y) for O(3), 2 Y M for SO(3); D = W2 C / (||C||^2 + 1);
    X <- X + D + q D^2, q = 1 + charge_scale Q (arXiv 2306.06482, eqs. 9-11; Q: 2403.15073).

    Args:
        config: Hyperparameters.
    """

    def __init__(self, config: TensorNetConfig) -> None:
        super().__init__()
        channels = config.channels
        self.chiral = config.symmetry == "SO(3)"
        self.filter = nn.Sequential(
            nn.Linear(config.num_radial + 2 * config.charge_channels, channels),
            nn.SiLU(),
            nn.Linear(channels, 2 * channels),
            nn.SiLU(),
            nn.Linear(2 * channels, 3 * channels),
            nn.SiLU(),
        )
        self.packing = Packing()
        self.mix_in = ChannelMixing(channels)
        self.mix_out = ChannelMixing(channels)

    def forward(
        self,
        x: Tensor,
        charge_factor: Tensor,
        graph: Graph,
        radial: RadialFeatures,
        charges: Tensor | None = None,
    ) -> Tensor:
        """Updated features [N, 9, F].

        Args:
            x: Features [N, 9, F].
            charge_factor: 1 + charge_scale Q of each atom's structure [N, 1, 1].
            graph: The structures.
            radial: Radial features of the edges and of a self-loop.
            charges: Charges of atoms that the filters hear [N, K].
        """
        x = x / (squared_norm(x) + 1.0).unsqueeze(1)
        y = self.mix_in(x)
        if radial.fused:
            return self._fused_update(x, y, charge_factor, radial)
        if charges is None:
            filters = self.packing.spread(radial.filters(self.filter))  # [E + 1, 9, F]
            edges, own = filters[:-1], filters[-1]
        else:
            found = charged_filters(self.filter, charges, graph, radial)
            edges, own = (self.packing.spread(each) for each in found)
        messages = edges * y.index_select(0, graph.sender)
        m = (own * y).index_add(0, graph.receiver, messages)
        y_matrix, m_matrix = self.packing.matrices(y), self.packing.matrices(m)
        if self.chiral:
            c = 2.0 * self.packing.components(matrix_product(y_matrix, m_matrix))
        else:
            both = matrix_product(y_matrix, m_matrix) + matrix_product(m_matrix, y_matrix)
            c = charge_factor * self.packing.components(both)
        d = self.mix_out(c / (squared_norm(c) + 1.0).unsqueeze(1))
        d_matrix = self.packing.matrices(d)
        return x + d + charge_factor * self.packing.components(matrix_product(d_matrix, d_matrix))

    def _fused_update(
        self, x: Tensor, y: Tensor, charge_factor: Tensor, radial: RadialFeatures
    ) -> Tensor:
        """The rest of the layer without arrays of edges and channels or of 3x3 matrices."""
        from dreibein.ops.messages import message
        from dreibein.ops.products import anticommutator, product

        table = radial.table(self.filter)
        m = message(radial.edge_taps, table, y, radial.edges)
        m = m + self.packing.spread(radial.at_zero(table).unsqueeze(0)) * y
        c = 2.0 * product(y, m) if self.chiral else charge_factor * anticommutator(y, m)
        d = self.mix_out(c / (squared_norm(c) + 1.0).unsqueeze(1))
        return x + d + charge_factor * product(d, d)


class TensorNet(nn.Module):
    """Atomic energies from Cartesian tensors, invariant under O(3) (or SO(3)).

    E_i = W_b silu(W_a x_i), x_i = silu(W LayerNorm[||I_i||^2, ||A_i||^2, ||S_i||^2])
    (arXiv 2306.06482, section 3), or with a gated head E_i = L(n_i) sigmoid(G(n_i)), n_i without
    the silu. The head starts Xavier-uniform with zero bias, all else with
    PyTorch's defaults.

    Args:
        config: Hyperparameters.
        elements: Atomic numbers that occur; each gets a row of the element table.

    Raises:
        ValueError: No elements, one twice, or one outside 0 ... 118.
    """

    row_of: Tensor
    backend: Literal["auto", "reference", "fused", "cuda"] = "auto"

    def __init__(self, config: TensorNetConfig, elements: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("row_of", element_rows(elements), persistent=False)
        self.config = config
        self.elements = tuple(elements)
        channels = config.channels
        self.radial = radial_basis(
            config.radial,
            config.cutoff,
            config.num_radial,
            config.envelope,
            config.radial_widths,
        )
        self.envelope = Envelope(config.cutoff, config.envelope)
        self.grid = RadialGrid(config.cutoff, config.knots) if config.knots else None
        self.embedding = Embedding(config, len(elements))
        self.interactions = nn.ModuleList(Interaction(config) for _ in range(config.layers))
        self.out_norm = nn.LayerNorm(3 * channels)
        self.out = nn.Linear(3 * channels, channels)
        self.head = energy_head(config)
        if config.field_order:  # made last: the other weights are drawn as without it
            self.field_energy = FieldEnergy(channels, config.field_order)
        self.equilibrations = nn.ModuleList(
            ChargeEquilibration(channels, config.charge_channels, config.charge_rule)
            for _ in range(config.layers + 1 if config.charge_channels else 0)
        )
        if config.charge_embedding or config.spin_embedding:
            heard = {"charge": config.charge_embedding, "spin": config.spin_embedding}
            self.states = StateEmbedding(len(elements), 2 * channels, **heard)
        if not config.energy:  # drawn before it goes: the other weights do not depend on it
            del self.out_norm, self.out, self.head
        self.to(torch.get_default_dtype())  # constants are made in float64

    @property
    def cutoff(self) -> float:
        """Range of edges in Å."""
        return self.config.cutoff

    @property
    def hops(self) -> int | None:
        """Edges from an atom to the farthest that its energy hears; None: charges have no end."""
        return None if self.config.charge_channels else self.config.layers + 1

    @property
    def feature_channels(self) -> int:
        """F of `irreps_features`."""
        return self.config.channels

    @property
    def field_order(self) -> int:
        """Highest power of an applied electric field in the energy; 0: the field has no effect."""
        return self.config.field_order

    def energies_and_pull(self, graph: Graph) -> tuple[Tensor, Tensor] | None:
        """E_i [N] and d(sum_i E_i)/d(edge vectors) [E, 3], differentiable by the parameters.

        Fused: forward and back in one pass over pieces of the batch, without an autograd graph.
        None where `backend` is "reference", or "auto" and the pass does not exist.

        Raises:
            ValueError: `backend` is "fused", and the pass does not exist for this network.
        """
        from dreibein.models.tensornet.gradients import energies_and_pull, misfit, odd_graph

        reason = misfit(self, graph.vectors.device, graph.vectors.dtype) or odd_graph(graph)
        if self.backend in ("reference", "cuda") or (self.backend == "auto" and reason):
            return None
        if reason:
            raise ValueError(f"the fused backend cannot train this TensorNet: {reason}")
        return energies_and_pull(self, graph)

    def training_backend(self, device: torch.device, dtype: torch.dtype) -> str:
        """What a step of training on forces runs on, in words."""
        from dreibein.models.tensornet.gradients import misfit

        if self.sums_backend(device, dtype) == "cuda":
            return "cuda (Triton operators, autograd)"
        reason = "chosen" if self.backend == "reference" else misfit(self, device, dtype)
        return f"reference ({reason})" if reason else "fused (one pass, no autograd graph)"

    def engine(self) -> "TensorNetEngine":
        """Energies and gradients at the present weights without autograd, for simulation.

        Raises:
            ValueError: Filters hear charges, so that no table of distances holds them.
        """
        if self.config.charge_channels:
            raise ValueError(
                "the fused engine tabulates filters by distance, and this network's hear charges "
                "too (charge_channels)"
            )
        from dreibein.models.tensornet.inference import TensorNetEngine

        return TensorNetEngine(self)

    def in_state(self, structures: Data) -> bool:
        """Whether total charge or spin is heard that the engine does not hear."""
        if self.config.charge_embedding and "charge" in structures and structures.charge.any():
            return True
        heard = self.config.spin_embedding and "spin" in structures
        return heard and bool((structures.spin != 1).any())

    def sums_backend(self, device: torch.device, dtype: torch.dtype) -> str:
        """What takes sums over edges where autograd differentiates: see `edges.sums_backend`."""
        return sums_backend(self.backend, self.grid, device, dtype)

    def _sums_are_fused(self, graph: Graph) -> bool:
        """Whether operators of `dreibein.ops` take the sums over edges."""
        return self.sums_backend(graph.vectors.device, graph.vectors.dtype) != "reference"

    def tensor_features(self, graph: Graph) -> Tensor:
        """Packed tensors after the last layer [N, 9, F]."""
        return self._features(graph, self._state(graph))[0]

    def _state(self, graph: Graph) -> tuple[Tensor, ...]:
        """What embedding and head hear of total charge and spin [N, F] each; () for nothing."""
        if not (self.config.charge_embedding or self.config.spin_embedding):
            return ()
        return self.states(self.row_of[graph.z], graph).chunk(2, dim=-1)

    def _features(self, graph: Graph, state: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        """Packed tensors after the last layer, and charges [N, K] after each of them."""
        rows, pair = self.row_of[graph.z], None
        if self._sums_are_fused(graph):
            pair = rows[graph.receiver] * len(self.elements) + rows[graph.sender]
        radial = RadialFeatures(
            graph,
            self.radial,
            self.envelope,
            self.grid,
            pair,
            self_loops=self.config.self_loops,
        )
        x = self.embedding(rows, graph, radial, *state[:1])
        charge = graph.charge.index_select(0, graph.batch).view(-1, 1, 1)
        charge_factor = 1.0 + self.config.charge_scale * charge
        charges = [equilibrate(x, graph) for equilibrate in self.equilibrations[:1]]
        for number, interaction in enumerate(self.interactions, start=1):
            x = interaction(x, charge_factor, graph, radial, *charges[-1:])
            charges += [later(x, graph) for later in self.equilibrations[number : number + 1]]
        return x, charges

    def irreps_features(self, graph: Graph) -> Tensor:
        """Features of atoms [N, 9, F] that turn as F x (0e + 1o + 2e): I, A and S.

        A is made of edge vectors by [r]x and multiplied by even parts alone (the anticommutator),
        so it changes sign under inversion: a vector, 1o. With symmetry SO(3) parity says nothing.
        """
        return self.tensor_features(graph)

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom [N], in units of the potential's scale."""
        return self._outputs(graph)[0]

    def energies_and_charges(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Energies [N], and charges [N, (layers + 1) K] in e: embedding first, then each layer."""
        energies, charges = self._outputs(graph)
        return energies, torch.cat(charges, dim=-1)

    def _outputs(self, graph: Graph) -> tuple[Tensor, list[Tensor]]:
        state = self._state(graph)
        features, charges = self._features(graph, state)
        norms = block_norms(features).flatten(1)
        x = self.out(self.out_norm(norms))
        if state:
            x = x + state[1]
        if self.config.head == "mlp":
            x = nn.functional.silu(x)
        energies = self.head(x).squeeze(-1)
        if self.field_order and graph.field is not None:
            field = graph.field.index_select(0, graph.batch)
            energies = energies + self.field_energy(features, norms, field)
        return energies, charges
