"""Lines made to bands: a sum of Lorentzians."""

import numpy as np


def broadened(
    grid: np.ndarray, centers: np.ndarray, areas: np.ndarray, half_width: float
) -> np.ndarray:
    """sum_k A_k (w / pi) / ((x - x_k)^2 + w^2) on a grid [G]; the integral of each line is A_k.

    Args:
        grid: x [G].
        centers: x_k [M].
        areas: A_k [M].
        half_width: w, half of the width at half maximum.

    >>> grid = np.linspace(-5000, 5000, 100001)
    >>> round(float(broadened(grid, np.array([0.0]), np.array([3.0]), 5.0).sum() * 0.1), 2)
    3.0
    """
    away = grid[:, None] - centers[None, :]
    return (areas * (half_width / np.pi) / (np.square(away) + half_width**2)).sum(1)
