"""Linear layers whose matrix depends on the edge, on the head, or on the element."""

import math

import torch
from torch import Tensor, nn


class EdgeLinear(nn.Module):
    """y = W2 ((W1 e) * x): a linear map of x whose matrix is linear in the edge features e.

    It is the tensor product of both at limited rank, W_oie = sum_k W2_ok δ_ki W1_ke; in local
    frames it stands where Clebsch-Gordan products stand in tensor field networks (LoCaFormer,
    arXiv 2509.26499).

    Args:
        in_features: width of x.
        out_features: width of y.
        edge_features: width of e.
        bias: add a constant to y.
    """

    def __init__(
        self, in_features: int, out_features: int, edge_features: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.edge = nn.Linear(edge_features, in_features)
        self.mix = nn.Linear(in_features, out_features, bias=bias)

    def forward(self, x: Tensor, edge: Tensor) -> Tensor:
        """[E, in], [E, edge] to [E, out]."""
        return self.mix(self.edge(edge) * x)


class HeadedLinear(nn.Module):
    """y_h = W_h x_h + b_h: every head has its own matrix.

    Args:
        num_heads: H.
        in_features: width of one head of x.
        out_features: width of one head of y.
        bias: add b.

    >>> HeadedLinear(2, 3, 5)(torch.zeros(7, 2, 3)).shape
    torch.Size([7, 2, 5])
    """

    def __init__(
        self, num_heads: int, in_features: int, out_features: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.weight = _uniform((num_heads, in_features, out_features), in_features)
        self.bias = _uniform((num_heads, out_features), in_features) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., H, in] to [..., H, out]."""
        y = torch.einsum("...hi,hio->...ho", x, self.weight)
        return y if self.bias is None else y + self.bias


class SpeciesLinear(nn.Module):
    """y_i = W_{z_i} x_i + b_{z_i}: every element has its own matrix.

    Args:
        num_species: number of elements.
        in_features: width of x.
        out_features: width of y.
        bias: add b.

    >>> SpeciesLinear(4, 3, 5)(torch.zeros(7, 3), torch.zeros(7, dtype=torch.int64)).shape
    torch.Size([7, 5])
    """

    def __init__(
        self, num_species: int, in_features: int, out_features: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.weight = _uniform((num_species, in_features, out_features), in_features)
        self.bias = _uniform((num_species, out_features), in_features) if bias else None

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """[N, in] and the row of each node's element [N] to [N, out]."""
        y = x.new_zeros(len(x), self.weight.shape[2])
        # a matrix product for each element, not a gathered matrix for each node
        for k, matrix in enumerate(self.weight):
            rows = (species == k).nonzero()[:, 0]
            y = y.index_add(0, rows, x.index_select(0, rows) @ matrix)
        return y if self.bias is None else y + self.bias.index_select(0, species)


def _uniform(shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
    bound = 1.0 / math.sqrt(max(fan_in, 1))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
