"""What the caller states of a foreign file, and what the imported model says of its origin."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stated:
    """What a foreign file does not say itself; None: not stated.

    Attributes:
        energy_unit: Of the file's energies, such as "eV" or "kcal/mol".
        length_unit: Of the file's distances.
        elements: Atomic numbers that the model was trained on.
        atoms: Atoms of each structure it was trained on, where these were all of one size.
        level_of_theory: Method behind the labels.
        license: Of the file.
        mirrored: An SO(3) network that was trained with torchmd-net's Warp kernels, which take
            directions the other way round than its plain path.
    """

    energy_unit: str | None = None
    length_unit: str | None = None
    elements: tuple[int, ...] | None = None
    atoms: int | None = None
    level_of_theory: str | None = None
    license: str | None = None
    mirrored: bool = False


def shift_per_atom(mean: float, stated: Stated, file: Path) -> tuple[float, list[str]]:
    """An energy added once per structure, as one per atom, with what is to be said of it.

    Raises:
        ValueError: It is not zero, and the number of atoms is not stated.
    """
    if mean == 0.0:
        return 0.0, []
    if stated.atoms is None:
        raise ValueError(
            f"{file} adds {mean:.6g} (the mean of its training data) once to every structure, "
            "whatever its size, which no sum over atoms does; where all structures had N atoms, "
            "give atoms=N (--atoms N), and every atom adds a part of it"
        )
    note = f"the mean {mean:.6g} of structures of {stated.atoms} atoms is spread over atoms"
    return mean / stated.atoms, [note]


def import_card(
    family: str,
    files: Sequence[Path],
    stated: Stated,
    notes: Sequence[str],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """The card of an imported model: files with their SHA-256, what was stated, what was chosen."""
    return {
        "name": files[0].parent.name if family == "matgl" else files[0].stem,
        "level_of_theory": stated.level_of_theory,
        "license": stated.license,
        "imported": {
            "from": family,
            "on": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
            **facts,
            "notes": list(notes),
        },
    }


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(entry) for entry in value]
    if isinstance(value, Tensor):
        return value.tolist() if value.numel() <= 16 else f"tensor of shape {tuple(value.shape)}"
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def precision_of(weights: Mapping[str, Tensor]) -> torch.dtype:
    """float64 where the weights are, else float32."""
    kinds = {tensor.dtype for tensor in weights.values()}
    return torch.float64 if torch.float64 in kinds else torch.float32
