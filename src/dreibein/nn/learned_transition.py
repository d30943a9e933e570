"""What carries `MLPReps` between frames: a map learned from the transition."""

import torch
from torch import Tensor, nn

from dreibein.o3 import Reps


class LearnedTransition(nn.Module):
    """f(U, x) = x + W2 silu(W1 [x, vec U]) with the invariant transition U = R_i R_j^T.

    No group acts here: going j to k to i differs from j to i, yet messages depend on invariants
    alone (arXiv 2509.26499, "MLPReps").

    Args:
        reps: representation whose `MLPReps` parts are carried; parts of one width share a map.

    >>> from dreibein.o3 import parse_reps
    >>> f = LearnedTransition(parse_reps("4x1o+m16"))
    >>> f(torch.eye(3).expand(2, 3, 3), torch.zeros(2, 16)).shape
    torch.Size([2, 16])
    """

    def __init__(self, reps: Reps) -> None:
        super().__init__()
        widths = {part.dim for part in reps.parts if part.needs_learned}
        self.maps = nn.ModuleDict(
            {
                str(width): nn.Sequential(
                    nn.Linear(width + 9, width), nn.SiLU(), nn.Linear(width, width)
                )
                for width in sorted(widths)
            }
        )

    def forward(self, transition: Tensor, x: Tensor) -> Tensor:
        """Features [E, width] of the senders, for transitions [E, 3, 3]."""
        flat = transition.flatten(-2).to(x.dtype)
        return x + self.maps[str(x.shape[-1])](torch.cat((x, flat), -1))
