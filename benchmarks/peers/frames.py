"""Structures at which imported models are compared with their authors' packages."""

import numpy as np

CELLS = {
    "orthorhombic": [[9.5, 0.0, 0.0], [0.0, 9.2, 0.0], [0.0, 0.0, 9.1]],
    "triclinic": [[9.6, 0.0, 0.0], [2.0, 9.3, 0.0], [1.0, -1.5, 9.2]],
}


def scattered(numbers: list[int], side: float, seed: int) -> dict:
    """Atoms in a box of that side, none closer than 0.9 Å to another; 4 decimals."""
    draw = np.random.default_rng(seed)
    places: list[np.ndarray] = []
    while len(places) < len(numbers):
        place = draw.uniform(0.0, side, 3).round(4)
        if all(np.linalg.norm(place - other) > 0.9 for other in places):
            places.append(place)
    return {"z": numbers, "pos": [place.tolist() for place in places]}


MOLECULE = scattered([8, 1, 1, 6, 7, 6, 1, 8], 3.4, 0)
SMALL = scattered([6, 1, 1], 1.8, 1)
LIQUID = scattered([8, 1, 1, 6, 7, 6, 1, 8, 1, 6, 7, 8], 9.0, 2)
