"""Which structures form a step: a function of seed and epoch alone."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


def epoch_order(num_structures: int, seed: int, epoch: int) -> np.ndarray:
    """Permutation of all structures for one epoch.

    >>> epoch_order(5, seed=0, epoch=0).tolist() == epoch_order(5, seed=0, epoch=0).tolist()
    True
    """
    return np.random.default_rng([seed, epoch]).permutation(num_structures)


class Steps(Sampler[list[int]]):
    """Index lists of the steps of one epoch, this process's share of each.

    Process r of W takes entries r, r + W, ... of every step, so all processes together see what
    one process would. A process whose share is empty gets a copy of the step's first structure
    as −1 − index: it takes part in the step but counts nothing.

    Args:
        num_structures: Size of the data set.
        batch_size: Structures in a step, over all processes.
        seed: Of the order; None keeps the data set's order.
        rank: Of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        num_structures: int,
        batch_size: int,
        *,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.num_structures = num_structures
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.first_step = 0

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        return -(-self.num_structures // self.batch_size)

    def start(self, epoch: int, first_step: int = 0) -> None:
        """Let the next iteration be of this epoch, from this step on."""
        self.epoch, self.first_step = epoch, first_step

    def __iter__(self) -> Iterator[list[int]]:
        """Index lists from `first_step` to the end of the epoch."""
        if self.seed is None:
            order = np.arange(self.num_structures)
        else:
            order = epoch_order(self.num_structures, self.seed, self.epoch)
        for step in range(self.first_step, len(self)):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size].tolist()
            share = indices[self.rank :: self.world_size]
            yield share or [-1 - indices[0]]
