"""Which structures form a step: a function of seed and epoch alone."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


def epoch_order(
    num_structures: int, seed: int, epoch: int, pool: int = 0, drawn: int = 0
) -> np.ndarray:
    """Permutation of all structures for one epoch; of the last `pool` of them `drawn` occur.

    >>> epoch_order(5, seed=0, epoch=0).tolist() == epoch_order(5, seed=0, epoch=0).tolist()
    True
    """
    generator = np.random.default_rng([seed, epoch])
    if not drawn:
        return generator.permutation(num_structures)
    kept = num_structures - pool
    some = kept + generator.choice(pool, drawn, replace=drawn > pool)
    return generator.permutation(np.concatenate((np.arange(kept), some)))


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
        pool: How many structures, the last ones, an epoch draws from.
        drawn: How many of them it has; 0: all.
    """

    def __init__(
        self,
        num_structures: int,
        batch_size: int,
        *,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        pool: int = 0,
        drawn: int = 0,
    ) -> None:
        self.pool, self.drawn = pool, drawn
        self.num_structures = num_structures
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.first_step = 0

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        count = self.num_structures
        if self.drawn:
            count += self.drawn - self.pool
        return -(-count // self.batch_size)

    def start(self, epoch: int, first_step: int = 0) -> None:
        """Let the next iteration be of this epoch, from this step on."""
        self.epoch, self.first_step = epoch, first_step

    def __iter__(self) -> Iterator[list[int]]:
        """Index lists from `first_step` to the end of the epoch."""
        if self.seed is None:
            order = np.arange(self.num_structures)
        else:
            order = epoch_order(self.num_structures, self.seed, self.epoch, self.pool, self.drawn)
        for step in range(self.first_step, len(self)):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size].tolist()
            share = indices[self.rank :: self.world_size]
            yield share or [-1 - indices[0]]
