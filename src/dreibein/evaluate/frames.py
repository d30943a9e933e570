"""Errors frame by frame, and the frames that are predicted worst."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from ase.data import chemical_symbols
from ase.formula import Formula
from torch import Tensor
from torch_geometric.data import Batch, Data

from dreibein.evaluate.errors import MEV
from dreibein.evaluate.records import FrameErrors
from dreibein.systems import mask_name

NUM_WORST = 12  # frames kept by force error, and as many by energy error


class Frames(Protocol):
    """What is asked of a data set."""

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def __getitem__(self, index: int) -> Data:
        """One structure with its labels."""
        ...


def describe(dataset: Frames, index: int) -> str:
    """Where a frame came from, in words."""
    known = getattr(dataset, "describe", None)
    return str(known(index)) if known is not None else f"frame {index}"


def config_type(structure: Data) -> str:
    """Name of the group of a frame, or ""."""
    return str(structure.get("config_type") or "")


@dataclass(frozen=True)
class FrameRow:
    """What is kept of every frame."""

    row: int
    frame: int
    config_type: str
    z: tuple[int, ...]
    binding: float | None  # reference energy minus isolated atoms, eV
    energy_error: float | None  # eV
    forces_abs: float  # Σ |F| over present components of the labels, eV/Å
    forces_count: int
    forces_rmse: float | None
    forces_max: float | None
    worst_atom: int | None
    stress: tuple[float, ...] | None  # labels, eV/Å³


def frame_rows(
    batch: Batch, predictions: dict[str, Tensor], isolated: Mapping[int, float], first: int
) -> list[FrameRow]:
    """Compare one batch frame by frame.

    Args:
        batch: Structures with labels.
        predictions: As the potential returned them.
        isolated: The potential's reference energies by atomic number, eV.
        first: Row of the batch's first frame.
    """
    structures = batch.cpu().to_data_list()
    offsets = batch.ptr.tolist()
    cpu = {name: value.detach().cpu() for name, value in predictions.items()}
    rows = []
    for k, structure in enumerate(structures):
        z = tuple(structure.z.tolist())
        has_energy = "energy" in cpu and _has(structure, "energy")
        energy = float(structure.energy) if has_energy else 0.0
        force = _force_errors(structure, cpu.get("forces"), offsets[k])
        stress = structure.stress.flatten().tolist() if _has(structure, "stress") else None
        rows.append(
            FrameRow(
                row=first + k,
                frame=int(structure.frame) if "frame" in structure else first + k,
                config_type=config_type(structure),
                z=z,
                binding=energy - sum(isolated.get(n, 0.0) for n in z) if has_energy else None,
                energy_error=float(cpu["energy"][k]) - energy if has_energy else None,
                stress=tuple(stress) if stress else None,
                **force,
            )
        )
    return rows


def _has(structure: Data, label: str) -> bool:
    """Whether a structure-wise label is present."""
    if label not in structure:
        return False
    mask = structure.get(mask_name(label))
    return mask is None or bool(mask.all())


def _force_errors(structure: Data, predicted: Tensor | None, offset: int) -> dict[str, Any]:
    nothing = dict.fromkeys(("forces_rmse", "forces_max", "worst_atom"))
    if predicted is None or "forces" not in structure:
        return {"forces_abs": 0.0, "forces_count": 0, **nothing}
    mask = structure.get(mask_name("forces"))
    present = torch.ones_like(structure.z, dtype=torch.bool) if mask is None else mask.bool()
    if not bool(present.any()):
        return {"forces_abs": 0.0, "forces_count": 0, **nothing}
    error = predicted[offset : offset + len(structure.z)] - structure.forces
    length = torch.where(present, error.norm(dim=1), 0.0)
    return {
        "forces_abs": float(structure.forces[present].abs().sum()),
        "forces_count": 3 * int(present.sum()),
        "forces_rmse": float(error[present].square().mean().sqrt()),
        "forces_max": float(length.max()),
        "worst_atom": int(length.argmax()),
    }


def worst_frames(rows: list[FrameRow], dataset: Frames, *, by: str) -> list[FrameErrors]:
    """The frames with the largest errors, by "forces" or "energy"; NaN is worse than anything."""

    def error(r: FrameRow) -> float:
        if by == "forces" and r.forces_max is not None:
            return r.forces_max
        return abs(r.energy_error or 0.0) / len(r.z)

    has_forces = any(r.forces_max is not None for r in rows)
    if by == "forces" and has_forces:
        rows = [r for r in rows if r.forces_max is not None]
    else:
        rows = [r for r in rows if r.energy_error is not None and r.z]
    # NaN first: nothing is worse
    chosen = sorted(rows, key=lambda r: (error(r) == error(r), -error(r)))[:NUM_WORST]
    return [_frame_errors(r, dataset) for r in chosen]


def _frame_errors(r: FrameRow, dataset: Frames) -> FrameErrors:
    def mev(value: float | None, divisor: int = 1) -> float | None:
        return None if value is None else MEV * value / divisor

    return FrameErrors(
        row=r.row,
        frame=r.frame,
        source=describe(dataset, r.row),
        formula=Formula.from_list([chemical_symbols[z] for z in r.z]).format("hill"),
        config_type=r.config_type,
        n_atoms=len(r.z),
        energy_mev_per_atom=mev(r.energy_error, len(r.z)),
        forces_rmse_mev_per_a=mev(r.forces_rmse),
        forces_max_mev_per_a=mev(r.forces_max),
        worst_atom=r.worst_atom,
    )
