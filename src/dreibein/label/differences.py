"""Labels of a file less those of a method: what a correction of that method learns."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ase import Atoms

from dreibein.label.calculations import Labels
from dreibein.label.config import LabelConfig

_MINUS = " minus "
_NEEDED = ("energy", "forces")


def difference_level(high: str, low: str) -> str:
    """Level of theory of a difference."""
    return f"{high}{_MINUS}{low}"


def high_level(difference: str | None, low: str) -> str | None:
    """The dear method of a difference to `low`; None where it is no such difference.

    >>> high_level("PBE/def2-SVP minus GFN2-xTB", "GFN2-xTB")
    'PBE/def2-SVP'
    """
    high, minus, cheap = (difference or "").rpartition(_MINUS)
    return high if minus and cheap == low else None


def labeled_frames(config: LabelConfig) -> tuple[list[Atoms], list[Labels], str]:
    """Frames of the file `config.structure` with its labels, units converted, and their level.

    Raises:
        OSError: There is no such file.
        ValueError: It cannot be read, or a frame lacks energy or forces.
    """
    from dreibein.data import DataConfig, load_data
    from dreibein.systems import mask_name, to_ase

    data = load_data(DataConfig(sources=[config.structure], labels=list(_NEEDED)))
    frames, labels = [], []
    for k in range(len(data)):
        structure = data[k]
        for name in _NEEDED:
            mask = structure.get(mask_name(name))
            if mask is not None and not mask.all():
                raise ValueError(f"{data.describe(k)} lacks {name}: a difference needs both labels")
        mask = structure.get(mask_name("stress"))
        stressed = "stress" in structure and (mask is None or bool(mask.all()))
        frames.append(to_ase(structure))
        labels.append(
            Labels(
                energy=float(structure.energy),
                forces=structure.forces.numpy(),
                stress=structure.stress[0].numpy() if stressed else None,
            )
        )
    level = data.provenance.get("level_of_theory") or f"labels of {Path(config.structure).name}"
    return frames, labels, str(level)


def subtract(dear: Labels, cheap: Labels | str) -> Labels | str:
    """Difference of energy and forces, and of the stress where both have one."""
    if isinstance(cheap, str):
        return cheap
    both = dear.stress is not None and cheap.stress is not None
    return replace(
        dear,
        energy=dear.energy - cheap.energy,
        forces=dear.forces - cheap.forces,
        stress=dear.stress - cheap.stress if both else None,  # type: ignore[operator]
    )


def fingerprint(labels: Sequence[Labels]) -> str:
    """Hash of energies and forces."""
    digest = hashlib.sha256()
    for found in labels:
        digest.update(repr(found.energy).encode() + found.forces.tobytes())
    return digest.hexdigest()
