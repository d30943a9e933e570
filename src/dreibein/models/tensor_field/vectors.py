"""Scalars and vectors alone: the layers of PaiNN and EGNN, with an envelope.

PaiNN (arXiv 2102.03150, equations 7 to 11), every w a linear map of radial functions times the
envelope phi, MLPs of two layers:

    ds_i = sum_j MLP_s(s_j) * w_s(r_ij),       dv_i = sum_j v_j MLP_v(s_j) * w_v(r_ij)
                                                     + MLP_r(s_j) * w_r(r_ij) r_ij / |r_ij|      (1)
    ds_i = a_ss + a_sv <U v_i, V v_i>,         dv_i = a_vv U v_i,   a = MLP(s_i, |V v_i|)        (2)

EGNN (arXiv 2102.09844, equations 3 to 6), u_i how far atom i was moved from its place:

    d_ij = r_ij + u_j - u_i,    m_ij = phi MLP(s_i, s_j, |d_ij|^2, radial(r_ij))
    du_i = sum_j phi MLP(m_ij) d_ij,           ds_i = MLP(s_i, sum_j m_ij)                       (3)

Differences: phi is the package's envelope, so that energies are smooth; sums over neighbors are
divided by 4; |V v| is the root of the square plus a small constant.
"""

import torch
from torch import Tensor, nn

from dreibein.models.tensor_field.edges import TYPICAL_NEIGHBORS, Edges
from dreibein.nn.environment import EnvironmentConfig
from dreibein.nn.transfer.equivariant import SMALL
from dreibein.o3 import Irreps


class PaiNN(nn.Module):
    """Equations (1) and (2).

    Args:
        config: The description.
        irreps: of x, Fx0e+Fx1o.
    """

    def __init__(self, config: EnvironmentConfig, irreps: Irreps) -> None:
        super().__init__()
        scalars = self.scalars = irreps[0].mul
        self.send = _mlp(scalars, scalars, 3 * scalars)
        self.weights = nn.Linear(config.num_radial, 3 * scalars)
        self.mix = nn.Linear(scalars, 2 * scalars, bias=False)
        self.update = _mlp(2 * scalars, scalars, 3 * scalars)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """Features [N, 4 F] of the next layer."""
        s = x[:, : self.scalars]
        v = x[:, self.scalars :].unflatten(1, (self.scalars, 3))
        ds, dv = self._messages(s, v, edges)
        s, v = s + ds, v + dv
        u, w = self.mix(v.mT).mT.chunk(2, 1)
        length = (w.square().sum(-1) + SMALL).sqrt()
        own, inner, scale = self.update(torch.cat((s, length), 1)).chunk(3, 1)
        s = s + own + inner * (u * w).sum(-1)
        v = v + scale[..., None] * u
        return torch.cat((s, v.flatten(1)), 1)

    def _messages(self, s: Tensor, v: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        sender = edges.edge_index[0]
        factors = self.weights(edges.radial) * edges.envelope[:, None] / TYPICAL_NEIGHBORS**0.5
        parts = self.send(s).index_select(0, sender) * factors
        own, keep, point = parts.chunk(3, 1)
        vectors = keep[..., None] * v.index_select(0, sender)
        vectors = vectors + point[..., None] * edges.units[:, None]
        return edges.sum(own, len(s)), edges.sum(vectors, len(s))


class EGNN(nn.Module):
    """Equation (3).

    Args:
        config: The description.
        irreps: of x, Fx0e+1x1o: s, and u in units of the cutoff.
    """

    def __init__(self, config: EnvironmentConfig, irreps: Irreps) -> None:
        super().__init__()
        scalars = self.scalars = irreps[0].mul
        self.cutoff = config.cutoff
        width = 2 * scalars + 1 + config.num_radial
        self.message = nn.Sequential(_mlp(width, scalars, scalars), nn.SiLU())
        self.move = _mlp(scalars, scalars, 1)
        self.update = _mlp(2 * scalars, scalars, scalars)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """Features [N, F + 3] of the next layer."""
        sender, receiver = edges.edge_index
        s, u = x.split((self.scalars, 3), 1)
        d = edges.vectors / self.cutoff + u.index_select(0, sender) - u.index_select(0, receiver)
        pairs = (s.index_select(0, receiver), s.index_select(0, sender))
        squared = d.square().sum(1, keepdim=True)
        m = self.message(torch.cat((*pairs, squared, edges.radial), 1))
        envelope = edges.envelope[:, None] / TYPICAL_NEIGHBORS**0.5
        sums = edges.sum(torch.cat((m, self.move(m) * d), 1) * envelope, len(x))
        m, moved = sums.split((self.scalars, 3), 1)
        return torch.cat((s + self.update(torch.cat((s, m), 1)), u + moved), 1)


def _mlp(inward: int, hidden: int, outward: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inward, hidden), nn.SiLU(), nn.Linear(hidden, outward))
