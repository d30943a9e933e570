"""Learned frames: equivariant vectors from a network of invariants, then any construction."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dreibein.frames import Frames, soft_frames
from dreibein.nn.radial import Envelope, EnvelopeName, lengths_and_units


class FramePredictor(nn.Module):
    """R_i = construct(v_i), v_ik = sum_j w_k(s_i, s_j, e_ij) phi(r_ij) r_ij / |r_ij|.

    Equation (6) of arXiv 2405.15389 and 2509.26499. The weights w are invariant, so the vectors
    turn with the structure; phi makes them smooth at the cutoff. With `soft_frames` (the default)
    they may vanish or become parallel, as they must at symmetric sites, without harm.

    Args:
        weights: network from [E, 2 S + R] (receiver's scalars, sender's, radial features) to
            [E, k], one column a vector.
        cutoff: in Å.
        construct: vectors [N, k, 3] to `Frames`: `soft_frames`, `gram_schmidt`, `polar`, or a
            partial of one. Two vectors for SO(3), three for O(3).
        envelope: kind of phi.

    >>> from functools import partial
    >>> predictor = FramePredictor(nn.Linear(2 * 4 + 8, 3), cutoff=5.0)
    >>> vectors, edges = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1], [0]])
    >>> predictor(torch.ones(2, 4), torch.ones(1, 8), vectors, edges).matrices.shape
    torch.Size([2, 3, 3])
    """

    def __init__(
        self,
        weights: nn.Module,
        cutoff: float,
        *,
        construct: Callable[[Tensor], Frames] = soft_frames,
        envelope: EnvelopeName = "smooth",
    ) -> None:
        super().__init__()
        self.weights = weights
        self.construct = construct
        self.envelope = Envelope(cutoff, envelope)

    def vectors(
        self, scalars: Tensor, radial: Tensor, vectors: Tensor, edge_index: Tensor
    ) -> Tensor:
        """The vectors v [N, k, 3], dimensionless.

        Args:
            scalars: invariant features of nodes s [N, S].
            radial: invariant features of edges e [E, R].
            vectors: r_ij [E, 3] in Å, from receiver i to sender j.
            edge_index: [2, E], row 0 the sender.
        """
        sender, receiver = edge_index[0], edge_index[1]
        lengths, units = lengths_and_units(vectors)
        inputs = (scalars.index_select(0, receiver), scalars.index_select(0, sender), radial)
        weights = self.weights(torch.cat(inputs, -1)) * self.envelope(lengths)[:, None]
        terms = weights[:, :, None] * units[:, None, :]
        return terms.new_zeros(len(scalars), *terms.shape[1:]).index_add(0, receiver, terms)

    def forward(
        self, scalars: Tensor, radial: Tensor, vectors: Tensor, edge_index: Tensor
    ) -> Frames:
        """Frames of the nodes; arguments as in `vectors`."""
        return self.construct(self.vectors(scalars, radial, vectors, edge_index))
