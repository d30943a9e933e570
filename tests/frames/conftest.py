"""Vectors, graphs and point sets with awkward symmetry."""

import pytest
import torch


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)
