"""From features of atoms to their energies."""

import torch
from torch import Tensor, nn

from dreibein.models.tensornet.config import TensorNetConfig


class GatedHead(nn.Module):
    """Energies L(x) sigmoid(G(x)) [N, 1]; L and G are F -> F -> F -> F -> 1, silu between.

    As in matgl's potentials.

    Args:
        channels: F.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.value, self.gate = self._tower(channels), self._tower(channels)

    @staticmethod
    def _tower(channels: int) -> nn.Sequential:
        hidden = [nn.Sequential(nn.Linear(channels, channels), nn.SiLU()) for _ in range(3)]
        return nn.Sequential(*(m for pair in hidden for m in pair), nn.Linear(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Energies [N, 1] of features [N, F]."""
        return self.value(x) * torch.sigmoid(self.gate(x))

    def last_features(self, x: Tensor) -> Tensor:
        """Gradients of the energies by weights and bias of the value's last layer [N, F + 1]."""
        hidden = self.value[:-1](x)
        return torch.cat((hidden, torch.ones_like(x[:, :1])), 1) * torch.sigmoid(self.gate(x))


def energy_head(config: TensorNetConfig) -> nn.Module:
    """The head that a config names: Xavier-uniform weights, zero bias."""
    channels = config.channels
    head: nn.Module = GatedHead(channels)
    if config.head == "mlp":
        head = nn.Sequential(
            nn.Linear(channels, channels // 2), nn.SiLU(), nn.Linear(channels // 2, 1)
        )
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return head
