"""Are the structures of a data set aligned? Networks without equivariance then look too good.

Of each structure take the axis u of its largest spread. If poses are uniform, Q = mean(u u^T) - 1/3
has five independent components of variance 2 / (15 n), so

    (15 n / 2) |Q|^2  is chi-squared with 5 degrees of freedom                                   (1)

and a small probability of a larger value says that orientations are not random (arXiv on aligned
molecular data sets: many are not).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import chi2
from torch_geometric.data import Data

ALIGNED = 1e-3
"""Probability below which a data set counts as aligned."""


@dataclass(frozen=True)
class Orientation:
    """What (1) gives.

    Attributes:
        frames: Structures that have an axis.
        statistic: (15 n / 2) |Q|^2, 5 on average for random poses.
        probability: Of a larger value, were poses random.
    """

    frames: int
    statistic: float
    probability: float

    @property
    def is_aligned(self) -> bool:
        """Whether random poses are excluded."""
        return self.probability < ALIGNED


def examine_orientation(structures: Iterable[Data]) -> Orientation:
    """Equation (1) for structures; single atoms do not count.

    >>> line = Data(pos=torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    >>> examine_orientation([line] * 20).is_aligned
    True
    """
    axes = []
    for structure in structures:
        pos = structure.pos.double()
        if len(pos) > 1:
            centered = pos - pos.mean(0)
            axes.append(torch.linalg.eigh(centered.mT @ centered)[1][:, -1].numpy())
    if not axes:
        return Orientation(0, 0.0, 1.0)
    u = np.stack(axes)
    q = np.einsum("ni,nj->ij", u, u) / len(u) - np.eye(3) / 3
    statistic = 7.5 * len(u) * float((q**2).sum())
    return Orientation(len(u), statistic, float(chi2.sf(statistic, 5)))
