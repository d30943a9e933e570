"""Which distances and densities the frames of a data set have."""

import torch

from dreibein.data.dataset import StructureDataset
from dreibein.data.neighbor_cache import NeighborDataset, with_neighbors
from dreibein.systems.domains import TrainingDomain
from dreibein.systems.graphs import edge_vectors


def measure_domain(dataset: StructureDataset | NeighborDataset, cutoff: float) -> TrainingDomain:
    """Shortest distance of each pair of elements, and neighbors within the cutoff of each element.

    Args:
        dataset: Frames; all are looked at. Neighbor lists within this cutoff are not found again.
        cutoff: Å, that of the potential.
    """
    domain = TrainingDomain(cutoff)
    known = isinstance(dataset, NeighborDataset) and dataset.cutoff == cutoff
    frames = dataset if known else with_neighbors(dataset, cutoff)  # type: ignore[arg-type]
    for k in range(len(frames)):
        frame = frames[k]
        owners = torch.zeros_like(frame.z)
        vectors = edge_vectors(frame.pos, frame.cell, frame.edge_index, frame.shift, owners)
        sender, receiver = frame.edge_index.numpy()
        domain.add(frame.z.numpy(), sender, receiver, vectors.norm(dim=1).numpy())
    return domain
