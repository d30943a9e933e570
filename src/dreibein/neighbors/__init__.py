"""Which pairs of atoms are near: complete periodic images, sorted by receiver, no cap.

Clouds of points without a box have `nearest_points` and `farthest_points`.
"""

from dreibein.neighbors.lists import NeighborList
from dreibein.neighbors.points import farthest_points, nearest_points
from dreibein.neighbors.search import attach_neighbors, find_neighbors
from dreibein.neighbors.skin import SkinNeighbors

__all__ = [
    "NeighborList",
    "SkinNeighbors",
    "attach_neighbors",
    "farthest_points",
    "find_neighbors",
    "nearest_points",
]
