"""Which distances and densities the frames of a data set have."""

from dreibein.data.dataset import StructureDataset
from dreibein.neighbors import find_neighbors
from dreibein.systems.domains import TrainingDomain


def measure_domain(dataset: StructureDataset, cutoff: float) -> TrainingDomain:
    """Shortest distance of each pair of elements, and neighbors within the cutoff of each element.

    Args:
        dataset: Frames; all are looked at.
        cutoff: Å, that of the potential.
    """
    domain = TrainingDomain(cutoff)
    for k in range(len(dataset)):
        structure = dataset[k]
        pairs = find_neighbors(structure.pos, structure.cell, structure.pbc, cutoff)
        distances = pairs.vectors(structure.pos, structure.cell).norm(dim=1)
        domain.add(
            structure.z.numpy(), pairs.sender.numpy(), pairs.receiver.numpy(), distances.numpy()
        )
    return domain
