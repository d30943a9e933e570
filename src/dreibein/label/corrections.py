"""A cheap method plus a network trained on what it lacks of a dear one (Δ-learning).

E = E_cheap + E_network, and forces and stress likewise (Ramakrishnan et al. 2015,
doi:10.1021/acs.jctc.5b00099). The network learned labels that `difference: true` made.
"""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from ase import Atoms

from dreibein.label.calculations import Array, Calculation, Labels, Method
from dreibein.label.differences import high_level

_SKIN = 0.5  # Å; an interval of dynamics searches neighbors about once


class CorrectedMethod:
    """A method and a trained correction, at the weights that its file has now.

    Charges and dipoles are left out of the labels: they would still be the cheap method's.

    Args:
        base: The cheap method.
        correction: Model file, run folder, or folder of an ensemble, whose mean is taken.

    Raises:
        OSError: There is no such model.
        ValueError: It was not trained on differences to this method.
    """

    def __init__(self, base: Method, correction: str) -> None:
        self._base = base
        self._potential, self.digest = _frozen(correction, _changed(correction))
        high = high_level(self._potential.potential.card.get("level_of_theory"), base.name)
        if high is None:
            raise ValueError(
                f"{correction} was not trained on differences to {base.name}: label the dear "
                f"method's frames with --single-points --difference --method {base.name} and train "
                "on those"
            )
        self.name = f"{base.name} corrected to {high} by {self.digest[:12]}"
        self.packages: tuple[str, ...] = (*base.packages, "torch")
        self.frames_per_task = base.frames_per_task

    def check(self, atoms: Atoms) -> None:
        """Refuse what the cheap method refuses, and elements that the correction has not seen."""
        from dreibein.systems import from_ase

        self._base.check(atoms)
        self._potential.potential.check(from_ase(atoms))

    def calculation(self, atoms: Atoms) -> "CorrectedCalculation":
        """Calculation of one structure, fixed in elements, cell, charge and spin."""
        return CorrectedCalculation(self._base.calculation(atoms), self._potential, atoms)


class CorrectedCalculation:
    """One structure at the cheap method, and what the network adds."""

    def __init__(self, base: Calculation, potential: Any, atoms: Atoms) -> None:
        from dreibein.systems import from_ase

        self._base, self._potential = base, potential
        self._structure = from_ase(atoms)
        self._start()

    def energy_and_forces(self, positions: Array) -> tuple[float, Array]:
        """Energy in eV and forces in eV/Å; solution and neighbors start from those before."""
        energy, forces = self._base.energy_and_forces(positions)
        added = self._added(positions, "energy", "forces")
        return energy + float(added["energy"][0]), forces + added["forces"]

    def forget(self) -> None:
        """Start the next call from nothing."""
        self._base.forget()
        self._start()

    def labels(self, positions: Array) -> Labels:
        """Energy, forces and stress; a function of the positions alone."""
        self._start()
        found = self._base.labels(positions)
        stress = ("stress",) if found.stress is not None else ()
        added = self._added(positions, "energy", "forces", *stress)
        return Labels(
            energy=found.energy + float(added["energy"][0]),
            forces=found.forces + added["forces"],
            stress=None if found.stress is None else found.stress + added["stress"][0],
        )

    def _start(self) -> None:
        from dreibein.neighbors import SkinNeighbors

        near = SkinNeighbors(self._potential.potential.cutoff, _SKIN)
        # an engine measures every pair anyway, so it may as well drop the distant ones
        self._find = near.candidates if self._potential.backend == "fused" else near

    def _added(self, positions: Array, *names: str) -> dict[str, Array]:
        """What the network gives."""
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


def _changed(path: str) -> tuple[int, ...]:
    """When the files were written, so that what is kept of others is not taken for them."""
    return tuple(file.stat().st_mtime_ns for file in _files(path))


@lru_cache(maxsize=2)
def _frozen(path: str, changed: tuple[int, ...]) -> tuple[Any, str]:
    """The potential of a path, and the hash of its files; once for each process and state."""
    from dreibein.models import load_model
    from dreibein.nn import freeze

    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(file.read_bytes())
    return freeze(load_model(path)), digest.hexdigest()
