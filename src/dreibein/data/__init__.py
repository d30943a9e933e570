"""Files to structures with labels: read, converted, checked, divided."""

from dreibein.data.config import DataConfig, StressConvention
from dreibein.data.dataset import StructureDataset
from dreibein.data.doctor import examine
from dreibein.data.examination import Examination, Finding
from dreibein.data.load import load_data
from dreibein.data.neighbor_cache import NeighborDataset, with_neighbors
from dreibein.data.splits import Splits, load_splits, split_indices
from dreibein.data.statistics import (
    ReferenceFit,
    energy_spread,
    fit_reference_energies,
    fit_references,
    forces_rms,
    isolated_atoms,
    label_scatter,
)
from dreibein.data.store_writer import write_hdf5
from dreibein.data.structures import conformers, read_structure

__all__ = [
    "DataConfig",
    "Examination",
    "Finding",
    "NeighborDataset",
    "ReferenceFit",
    "Splits",
    "StressConvention",
    "StructureDataset",
    "conformers",
    "energy_spread",
    "examine",
    "fit_reference_energies",
    "fit_references",
    "forces_rms",
    "isolated_atoms",
    "label_scatter",
    "load_data",
    "load_splits",
    "read_structure",
    "split_indices",
    "with_neighbors",
    "write_hdf5",
]
