"""What TensorNet's layers share of the edges: radial features or their table, directions."""

import math

import torch
from torch import Tensor, nn

from dreibein.nn.radial import Envelope, lengths_and_units
from dreibein.ops import RadialGrid, interpolate
from dreibein.ops.splines import NEGLIGIBLE
from dreibein.ops.triton_forms import available
from dreibein.systems.graphs import Graph


def edge_tensors(units: Tensor) -> Tensor:
    """Nine components [E, 9] of 1, [r]x and r r^T - |r|^2/3 for unit vectors r [E, 3] (or 0)."""
    x, y, z = units.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    root2 = math.sqrt(2.0)
    return torch.stack(
        (
            torch.full_like(x, math.sqrt(3.0)),
            root2 * x,
            root2 * y,
            root2 * z,
            root2 * x * z,
            root2 * x * y,
            (2.0 * yy - xx - zz) / math.sqrt(6.0),
            root2 * y * z,
            (zz - xx) / root2,
        ),
        dim=-1,
    )


def sums_backend(
    chosen: str, grid: RadialGrid | None, device: torch.device, dtype: torch.dtype
) -> str:
    """What takes sums over edges where autograd differentiates, to any order.

    "fused": compiled operators on a CPU; "cuda": the same in Triton on a GPU; "reference":
    plain PyTorch, where there is no table, the precision is another, or Triton is not installed.

    Args:
        chosen: The network's `backend`; "reference" and "cuda" bind.
        grid: Of the network's filters.
        device: Of the edges.
        dtype: Of the network.

    Raises:
        ValueError: `chosen` is "cuda", and these operators do not exist here.
    """
    found, known = "reference", dtype in (torch.float32, torch.float64)
    if grid is not None and known and chosen != "reference":
        kinds = {"cpu": "fused", "cuda": "cuda" if available() else "reference"}
        found = kinds.get(device.type, "reference")
    if chosen == "cuda" and found != "cuda":
        raise ValueError(
            "the cuda backend needs a model with knots, on a CUDA device, in float32 or float64, "
            f"and Triton (pip install triton); this one is on {device}"
        )
    return found


def features_at_nodes(basis: nn.Module, grid: RadialGrid, like: Tensor) -> Tensor:
    """Radial functions at the nodes of a grid [rows, R], without the far tails of Gaussians."""
    features: Tensor = basis(grid.nodes.to(like))
    return features.masked_fill(features.abs() < NEGLIGIBLE, 0.0)


class RadialFeatures:
    """What depends on an edge's vector alone, computed once and shared by all layers.

    With a grid, networks of the radial features are evaluated at its nodes alone, and the edges
    interpolate: f(r) = phi(r) sum_t w_t(r) c[k(r) + t], c linear in the values at the nodes. The
    envelope phi stays outside the table, so what happens at the cutoff is exact.

    Attributes:
        features: Radial basis [E + 1, R], the last row a self-loop (r = 0); [K + 5, R] at the
            nodes of a grid.
        envelope: phi(r) [E + 1], the last one 0 without self-loops.
        tensors: Components of 1, [r]x, r r^T - 1/3 of each edge [E, 9].
        fused: Whether sums over edges are to be taken by compiled operators; these also read
            `edge_taps`, phi(r) w(r) [E, 6], and `edges`, who meets whom.
    """

    def __init__(
        self,
        graph: Graph,
        basis: nn.Module,
        envelope: Envelope,
        grid: RadialGrid | None = None,
        pair: Tensor | None = None,
        *,
        self_loops: bool = True,
    ) -> None:
        # the published direction is from sender to receiver, opposite to the edge vector
        lengths, units = lengths_and_units(-graph.vectors)
        lengths = torch.cat((lengths, lengths.new_zeros(1)))
        self.grid = grid
        if grid is None:
            self.features: Tensor = basis(lengths)
        else:
            self.features = features_at_nodes(basis, grid, lengths)
            self.base, self.taps = grid.taps(lengths)
        self.envelope: Tensor = envelope(lengths)
        self.loop = float(self_loops)
        if not self_loops:
            self.envelope = torch.cat((self.envelope[:-1], self.envelope.new_zeros(1)))
        self.tensors: Tensor = edge_tensors(units)
        self.fused = pair is not None
        if pair is not None:
            from dreibein.ops.messages import edge_table  # numba takes half a second to import

            self.edge_taps = (self.taps * self.envelope.unsqueeze(-1))[:-1]
            self.edges = edge_table(self.base[:-1], graph.edge_index, graph.num_atoms, pair)

    def table(self, network: nn.Module) -> Tensor:
        """Control points [K + 5, 3, F] of network(features)."""
        assert self.grid is not None
        control = self.grid.coefficients(network(self.features))
        return control.unflatten(-1, (3, control.shape[-1] // 3))

    def at_zero(self, table: Tensor) -> Tensor:
        """The filter of a self-loop [3, F]; 0 without self-loops."""
        return self.loop * interpolate(table, self.base[-1:], self.taps[-1:])[0]

    def filters(self, network: nn.Module) -> Tensor:
        """phi(r) network(features) of each edge and of the self-loop [E + 1, 3, F]."""
        values = network(self.features)
        if self.grid is None:
            values = values * self.envelope.unsqueeze(-1)
        else:
            taps = self.taps * self.envelope.unsqueeze(-1)
            values = interpolate(self.grid.coefficients(values), self.base, taps)
        return values.unflatten(-1, (3, values.shape[-1] // 3))
