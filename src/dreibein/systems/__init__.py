"""Atoms, cells, units, fields and graphs; no angular momentum here."""

from dreibein.systems.fields import FIELDS, LABELS, Field, mask_name
from dreibein.systems.files import atomic_path
from dreibein.systems.graphs import Graph, batch_index, edge_vectors, make_graph
from dreibein.systems.structures import from_ase, join, make_structure, split_batch, to_ase

__all__ = [
    "FIELDS",
    "LABELS",
    "Field",
    "Graph",
    "atomic_path",
    "batch_index",
    "edge_vectors",
    "from_ase",
    "join",
    "make_graph",
    "make_structure",
    "mask_name",
    "split_batch",
    "to_ase",
]
