"""Rows of elements in the tables of a network."""

from collections.abc import Sequence

import torch
from torch import Tensor

NUM_ELEMENTS = 118


def element_rows(elements: Sequence[int]) -> Tensor:
    """Row of each atomic number in tables that have one row per element [119] int64.

    Other atomic numbers get row 0; `Potential.check` refuses them, and their reference is NaN.

    Args:
        elements: Atomic numbers in the order of their rows.

    Raises:
        ValueError: No elements, one twice, or one outside 0 ... 118.

    >>> element_rows((8, 1))[[1, 8]].tolist()
    [1, 0]
    """
    if not elements or not all(0 <= z <= NUM_ELEMENTS for z in elements):
        raise ValueError(f"elements must be atomic numbers in 0 ... 118, got {elements}")
    if len(set(elements)) < len(elements):
        raise ValueError(f"an element is named twice in {elements}")
    rows = torch.zeros(NUM_ELEMENTS + 1, dtype=torch.int64)
    rows[list(elements)] = torch.arange(len(elements))
    return rows
