"""Which pairs of atoms are near: complete periodic images, sorted by receiver, no cap."""

from dreibein.neighbors.lists import NeighborList
from dreibein.neighbors.search import attach_neighbors, find_neighbors
from dreibein.neighbors.skin import SkinNeighbors

__all__ = ["NeighborList", "SkinNeighbors", "attach_neighbors", "find_neighbors"]
