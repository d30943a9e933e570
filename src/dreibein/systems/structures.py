"""Structures as PyG `Data`: made, checked, and exchanged with ASE."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from torch import Tensor
from torch_geometric.data import Batch, Data

from dreibein.systems.cells import to_voigt
from dreibein.systems.fields import BONDS, FIELDS, LABELS


def make_structure(
    z: Any,
    pos: Any,
    *,
    cell: Any = None,
    pbc: Any = None,
    charge: float = 0.0,
    spin: int = 1,
    **fields: Any,
) -> Data:
    """Make one structure; every field is checked against `FIELDS` and stored in its dtype.

    Args:
        z: Atomic numbers [N].
        pos: Positions [N, 3] in Å.
        cell: Cell vectors as rows [3, 3] in Å, three lengths, or None.
        pbc: Periodicity, one bool or three; by default True exactly when a cell is given.
        charge: Total charge in e.
        spin: Spin multiplicity.
        **fields: Further entries of `FIELDS` in the package's units, with or without the
            leading axis of length 1 of structure-wise fields; `<label>_mask` and other
            attributes (`config_type`) are stored as they are.

    Raises:
        ValueError: A field has the wrong shape.

    >>> make_structure([8, 1, 1], torch.zeros(3, 3), energy=-1.0).energy
    tensor([-1.], dtype=torch.float64)
    """
    if cell is not None:
        cell = _tensor(cell).to(torch.float64)
        cell = torch.diag(cell) if cell.ndim == 1 else cell
    if pbc is None:
        pbc = cell is not None
    structure = Data()
    values = {
        "z": z,
        "pos": pos,
        "cell": torch.zeros(3, 3) if cell is None else cell,
        "pbc": _flags(pbc),
        "charge": charge,
        "spin": spin,
        **fields,
    }
    num_atoms = len(z)
    for name, value in values.items():
        structure[name] = _checked(name, value, num_atoms) if name in FIELDS else value
    return structure


def _tensor(value: Any) -> Tensor:
    """`value` as a tensor without history, where it is."""
    if isinstance(value, Tensor):
        return value.detach()
    return torch.as_tensor(np.array(value))  # copied: arrays of callers may be read-only


def _flags(pbc: Any) -> Tensor:
    """One bool, three, or a field [1, 3] as three flags."""
    flags = _tensor(pbc).bool().flatten()
    if len(flags) not in (1, 3):
        raise ValueError(f"pbc must be one bool or three, got {len(flags)}: {pbc}")
    return flags.expand(3)


def _checked(name: str, value: Any, num_atoms: int) -> Tensor:
    """`value` as a contiguous tensor of the field's dtype and shape."""
    field = FIELDS[name]
    tensor = _tensor(value).to(field.dtype)
    if field.scope == "edge":
        return tensor.contiguous()
    lead = num_atoms if field.scope == "atom" else 1
    expected = (lead, *field.shape)
    if field.scope == "structure" and tuple(tensor.shape) == field.shape:
        tensor = tensor.unsqueeze(0)
    if tuple(tensor.shape) != expected:
        raise ValueError(
            f"field '{name}' has shape {tuple(tensor.shape)}, expected {expected} "
            f"for a structure of {num_atoms} atoms"
        )
    return tensor.contiguous()


def from_ase(atoms: Atoms, **labels: Any) -> Data:
    """Structure of an ASE `Atoms`: geometry, and charge and spin where `atoms.info` has them.

    Args:
        atoms: Positions, cell and pbc are taken; nothing is wrapped or moved.
        **labels: Labels in the package's units (ASE's calculator results are not read here:
            which label counts is the reader's decision).
    """
    has_cell = bool(np.any(atoms.cell.array))
    return make_structure(
        atoms.numbers,
        atoms.get_positions(),
        cell=atoms.cell.array if has_cell else None,
        pbc=atoms.pbc,
        charge=float(atoms.info.get("charge", 0.0)),
        spin=int(atoms.info.get("spin", 1)),
        **labels,
    )


def to_ase(structure: Data) -> Atoms:
    """ASE `Atoms` of one structure, with its labels as single-point results.

    Missing labels (mask False) are left out; stress is given in ASE's Voigt order.
    """
    atoms = Atoms(
        numbers=structure.z.cpu().numpy(),
        positions=structure.pos.detach().cpu().numpy(),
        cell=structure.cell[0].detach().cpu().numpy(),
        pbc=structure.pbc[0].cpu().numpy(),
    )
    atoms.info["charge"] = float(structure.charge) if "charge" in structure else 0.0
    atoms.info["spin"] = int(structure.spin) if "spin" in structure else 1
    results: dict[str, Any] = {}
    for name in LABELS:
        if name not in structure or not bool(structure.get(f"{name}_mask", torch.ones(1)).all()):
            continue
        value = structure[name].detach().cpu()
        if name == "stress":
            results[name] = to_voigt(value)[0].numpy()
        elif name == "energy":
            results[name] = float(value)
        elif name in ("energies", "forces", "charges"):
            results[name] = value.numpy()
        elif name == "dipole":
            results[name] = value[0].numpy()
        elif FIELDS[name].scope == "atom":
            atoms.arrays[name] = value.numpy()
        else:
            atoms.info[name] = value[0].numpy()
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def bond_slots(structures: Data) -> Tensor:
    """Which slots of `bonds` have a partner [N, K]."""
    return structures[BONDS].reshape(len(structures.z), -1) >= 0


def split_batch(batch: Data) -> list[Data]:
    """The single structures of a `Batch`; a single structure is a batch of one."""
    return batch.to_data_list() if isinstance(batch, Batch) else [batch]


def join(structures: Sequence[Data]) -> Batch:
    """One `Batch` of several structures."""
    return Batch.from_data_list(list(structures))
