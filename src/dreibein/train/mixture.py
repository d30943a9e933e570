"""New structures with some old ones among them."""

import torch
from torch_geometric.data import Data

from dreibein.systems.fields import mask_name, of_atoms
from dreibein.train.frames import Structures


class Mixture:
    """All new structures first, then a pool of old ones, of which each epoch draws some.

    An old structure that lacks a label of the new ones has it masked.

    Args:
        new: Structures of the training.
        old: The pool.
        drawn: How many of the pool an epoch has.
    """

    def __init__(self, new: Structures, old: Structures, drawn: int) -> None:
        self.new, self.old, self.drawn = new, old, drawn
        self._first = new[0]

    @property
    def label_names(self) -> tuple[str, ...]:
        """Labels of the new structures."""
        return tuple(self.new.label_names)

    def __len__(self) -> int:
        return len(self.new) + len(self.old)

    def __getitem__(self, index: int) -> Data:
        if index < len(self.new):
            return self.new[index]
        structure = self.old[index - len(self.new)]
        for name in self.label_names:
            if name not in structure:
                like = self._first[name]
                atoms = of_atoms(name, len(like), len(self._first.z))
                rows = len(structure.z) if atoms else 1
                structure[name] = torch.zeros(rows, *like.shape[1:], dtype=like.dtype)
                structure[mask_name(name)] = torch.zeros(rows, dtype=torch.bool)
        return structure

    def describe(self, index: int) -> str:
        """File and frame of a structure; old ones are called so."""
        if index < len(self.new):
            return self.new.describe(index)
        return f"{self.old.describe(index - len(self.new))} (replayed)"
