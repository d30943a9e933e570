"""A trained model where a method is expected: it drives dynamics, or is added to a cheap method."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from ase import Atoms

from dreibein.label.calculations import Array, Labels

_SKIN = 0.5  # Å; an interval of dynamics searches neighbors about once


class TrainedMethod:
    """A potential of a file, at the weights that it has now: forces for dynamics.

    Args:
        path: Model file, run folder, or folder of an ensemble, whose mean is taken.

    Raises:
        OSError: There is no such model.
        ValueError: It predicts no energy.

    Attributes:
        digest: Hash of its files.
        level_of_theory: Of what it was trained on; None where that is not known.
    """

    packages: tuple[str, ...] = ("torch",)
    frames_per_task = 100

    def __init__(self, path: str) -> None:
        # when they were written, so that what is kept of others is not taken for them
        changed = tuple(file.stat().st_mtime_ns for file in _files(path))
        self._frozen, self.digest = _frozen(path, changed)
        potential = self._frozen.potential
        if not potential.has_energy:
            raise ValueError(f"{path} predicts no energy: name a model that does")
        self.level_of_theory: str | None = potential.card.get("level_of_theory")
        self.name = f"the model {self.digest[:12]}"

    def check(self, atoms: Atoms) -> None:
        """Refuse elements that the model has not seen."""
        from dreibein.systems import from_ase

        self._frozen.potential.check(from_ase(atoms))

    def calculation(self, atoms: Atoms) -> "TrainedCalculation":
        """Calculation of one structure, fixed in elements, cell, charge and spin."""
        return TrainedCalculation(self._frozen, atoms)


class TrainedCalculation:
    """One structure by a frozen potential."""

    def __init__(self, potential: Any, atoms: Atoms) -> None:
        from dreibein.systems import from_ase

        self._potential, self._structure = potential, from_ase(atoms)
        self.forget()

    def energy_and_forces(self, positions: Array) -> tuple[float, Array]:
        """Energy in eV and forces in eV/Å; neighbors are those before where they still hold."""
        values = self._evaluate(positions, "energy", "forces")
        return float(values["energy"][0]), values["forces"]

    def forget(self) -> None:
        """Search neighbors anew at the next call."""
        from dreibein.neighbors import SkinNeighbors

        near = SkinNeighbors(self._potential.potential.cutoff, _SKIN)
        # an engine measures every pair anyway, so it may as well drop the distant ones
        self._find = near.candidates if self._potential.backend == "fused" else near

    def labels(self, positions: Array) -> Labels:
        """Energy, forces and, in a cell, stress; a function of the positions alone."""
        self.forget()
        periodic = bool(self._structure.pbc.all())
        values = self._evaluate(positions, "energy", "forces", *(("stress",) if periodic else ()))
        return Labels(
            energy=float(values["energy"][0]),
            forces=values["forces"],
            stress=values["stress"][0] if periodic else None,
        )

    def _evaluate(self, positions: Array, *names: str) -> dict[str, Array]:
        import torch

        structure = self._structure
        structure.pos = torch.from_numpy(positions.copy())
        pairs = self._find(structure.pos, structure.cell[0], structure.pbc[0])
        structure.edge_index, structure.shift = pairs.edge_index, pairs.shift
        values = self._potential(structure, compute=names)
        return {name: values[name].numpy() for name in names}


def _files(path: str) -> list[Path]:
    """Model files of a path, one or those of an ensemble."""
    from dreibein.models.storage import ensemble_members, model_file

    members = ensemble_members(path)
    return [model_file(member) for member in (members if len(members) > 1 else [path])]


@lru_cache(maxsize=2)
def _frozen(path: str, changed: tuple[int, ...]) -> tuple[Any, str]:
    """The potential of a path and the hash of its files, once for each process and their state."""
    from dreibein.models import load_model
    from dreibein.nn import freeze

    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(file.read_bytes())
    return freeze(load_model(path)), digest.hexdigest()
