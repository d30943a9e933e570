"""What a potential has seen: pairs and their shortest distances, neighbors of each element."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

_SIZE = 128  # more than there are elements


@dataclass
class TrainingDomain:
    """Ranges of a data set within a cutoff, collected frame by frame.

    Attributes:
        cutoff: Å.
        frames: How many were seen.
        shortest: [128, 128] Å by the two atomic numbers, symmetric; inf for pairs never seen.
        fewest: [128] fewest neighbors within the cutoff of an atom, by its number.
        most: [128] most; -1 for elements never seen.

    >>> domain = TrainingDomain(3.0)
    >>> domain.add(np.array([8, 1]), np.array([0, 1]), np.array([1, 0]), np.array([0.96, 0.96]))
    >>> domain.as_json()["shortest"]
    {'H-O': 0.96}
    """

    cutoff: float
    frames: int = 0
    shortest: np.ndarray = field(default_factory=lambda: np.full((_SIZE, _SIZE), np.inf))
    fewest: np.ndarray = field(default_factory=lambda: np.full(_SIZE, np.iinfo(np.int64).max))
    most: np.ndarray = field(default_factory=lambda: np.full(_SIZE, -1))

    def add(
        self, numbers: np.ndarray, sender: np.ndarray, receiver: np.ndarray, distances: np.ndarray
    ) -> None:
        """Take in one frame.

        Args:
            numbers: Atomic numbers [N].
            sender: Atom j of each pair within the cutoff [E], both directions.
            receiver: Atom i [E].
            distances: |r_ij| [E] in Å.
        """
        np.minimum.at(self.shortest, (numbers[sender], numbers[receiver]), distances)
        counts = np.bincount(receiver, minlength=len(numbers))
        np.minimum.at(self.fewest, numbers, counts)
        np.maximum.at(self.most, numbers, counts)
        self.frames += 1

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that were seen."""
        return tuple(int(z) for z in np.flatnonzero(self.most >= 0))

    def as_json(self) -> dict[str, Any]:
        """For the card of a model file."""
        pairs = np.argwhere(np.isfinite(np.triu(self.shortest)) & (np.triu(self.shortest) > 0))
        return {
            "frames": self.frames,
            "cutoff": self.cutoff,
            "shortest": {
                f"{chemical_symbols[a]}-{chemical_symbols[b]}": float(self.shortest[a, b])
                for a, b in pairs
            },
            "neighbors": {
                chemical_symbols[z]: [int(self.fewest[z]), int(self.most[z])] for z in self.elements
            },
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainingDomain":
        """Of a card."""
        domain = cls(float(values["cutoff"]), int(values["frames"]))
        for pair, distance in values["shortest"].items():
            a, b = (atomic_numbers[symbol] for symbol in pair.split("-"))
            domain.shortest[a, b] = domain.shortest[b, a] = distance
        for symbol, (low, high) in values["neighbors"].items():
            z = atomic_numbers[symbol]
            domain.fewest[z], domain.most[z] = low, high
        return domain
