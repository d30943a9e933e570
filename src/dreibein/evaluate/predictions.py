"""Reference and predicted labels of every frame, side by side in one npz file."""

import zipfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from dreibein.systems.cells import nearest_dipole, to_voigt
from dreibein.systems.fields import mask_name, of_bonds
from dreibein.systems.files import atomic_path
from dreibein.systems.structures import bond_slots

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Predictions:
    """Labels of F frames with A atoms altogether; missing references are NaN.

    Atoms of all frames stand one after the other: those of row f are
    `slice(*offsets()[f : f + 2])`.

    Attributes:
        frame: Index of each frame in its data set [F].
        n_atoms: [F].
        config_type: Name of each frame's group [F], or "".
        energy_reference: [F] eV.
        energy_prediction: [F] eV.
        reference_energy: Sum of the model's isolated-atom energies [F] eV, zero when unknown.
        stress_reference: xx yy zz yz xz xy [F, 6] eV/Å³, or [0, 6].
        stress_prediction: Likewise.
        forces_reference: [A, 3] eV/Å (float32, as the next three).
        forces_prediction: [A, 3] eV/Å.
        pos: [A, 3] Å.
        cell: [F, 3, 3] Å, zeros when none.
        pbc: [F, 3].
        z: Atomic numbers [A].
        targets: Reference and prediction of every other label by name, each [F, components] or
            [A, components].
        uncertainties: Predicted standard deviations: "energy" [F] eV, "forces" [A] eV/Å (of the
            vector), where the model gives them.
    """

    frame: Array
    n_atoms: Array
    config_type: Array
    energy_reference: Array
    energy_prediction: Array
    reference_energy: Array
    stress_reference: Array
    stress_prediction: Array
    forces_reference: Array
    forces_prediction: Array
    pos: Array
    cell: Array
    pbc: Array
    z: Array
    targets: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    uncertainties: dict[str, Array] = field(default_factory=dict)

    def offsets(self) -> Array:
        """First atom of each frame, and the number of atoms at the end [F + 1]."""
        return np.concatenate([[0], np.cumsum(self.n_atoms)])

    def atom_rows(self) -> Array:
        """Row of the frame each atom belongs to [A]."""
        return np.repeat(np.arange(len(self.n_atoms)), self.n_atoms)

    def save(self, path: str | Path) -> None:
        """Write one compressed npz, whole or not at all."""
        arrays = {name: getattr(self, name) for name in _columns()}
        arrays |= {f"uncertainty_{name}": value for name, value in self.uncertainties.items()}
        for name, (reference, prediction) in self.targets.items():
            arrays |= {f"target_{name}": reference, f"predicted_{name}": prediction}
        with atomic_path(path) as side:
            np.savez_compressed(side, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Predictions":
        """Read what `save` wrote.

        Raises:
            ValueError: The file is no such npz.
        """
        names = _columns()
        try:
            with np.load(path, allow_pickle=False) as file:
                own = [n.removeprefix("target_") for n in file.files if n.startswith("target_")]
                targets = {n: (file[f"target_{n}"], file[f"predicted_{n}"]) for n in own}
                unsure = {
                    name.removeprefix("uncertainty_"): file[name]
                    for name in file.files
                    if name.startswith("uncertainty_")
                }
                columns = {name: file[name] for name in names}
                return cls(**columns, targets=targets, uncertainties=unsure)
        except (KeyError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} does not hold predictions of this version ({error}); "
                "write it again with: dreibein evaluate MODEL DATA -o FOLDER"
            ) from error


@dataclass
class PredictionCollector:
    """Gathers batches in memory and joins them once at the end."""

    _parts: dict[str, list[Array]] = field(default_factory=dict)

    def add(
        self,
        structures: Batch,
        predictions: dict[str, Tensor],
        atom_energies: dict[int, float],
        uncertainties: dict[str, Tensor] | None = None,
    ) -> None:
        """Keep one batch; `atom_energies` are the model's isolated atoms by atomic number."""
        for name, value in (uncertainties or {}).items():
            self._append(f"uncertainty_{name}", _numpy(value))
        frames = structures.num_graphs
        z = _numpy(structures.z)
        batch = _numpy(structures.batch)
        isolated = np.array([atom_energies.get(int(number), 0.0) for number in z])
        types = structures.get("config_type") or [""] * frames
        first = sum(len(part) for part in self._parts.get("frame", []))
        known = structures.get("frame")
        self._append("frame", np.arange(first, first + frames) if known is None else _numpy(known))
        self._append("n_atoms", np.bincount(batch, minlength=frames))
        self._append("config_type", np.array([str(name) for name in types]))
        self._append("energy_reference", _label(structures, "energy", (frames,)))
        self._append("energy_prediction", _predicted(predictions, "energy", (frames,)))
        self._append("reference_energy", np.bincount(batch, isolated, minlength=frames))
        if "stress" in predictions and "stress" in structures:
            mask = structures.get(mask_name("stress"))
            stress = _numpy(to_voigt(structures.stress))
            if mask is not None:
                stress[~_numpy(mask).reshape(-1)] = np.nan
            self._append("stress_reference", stress)
            self._append("stress_prediction", _numpy(to_voigt(predictions["stress"])))
        forces = (len(z), 3)
        self._append("forces_reference", _label(structures, "forces", forces).astype(np.float32))
        predicted = _predicted(predictions, "forces", forces)
        self._append("forces_prediction", predicted.astype(np.float32))
        self._append("pos", _numpy(structures.pos).astype(np.float32))
        self._append("cell", _numpy(structures.cell))
        self._append("pbc", _numpy(structures.pbc))
        self._append("z", z.astype(np.uint8))

        for name, value in predictions.items():
            kept = name not in ("energy", "forces", "stress", "hessian")
            if kept and name in structures:
                value = value.reshape(value.shape[0], -1)
                shape = (value.shape[0], value.shape[1])
                label = _label(structures, name, shape)
                if of_bonds(name):  # empty slots have no label
                    empty = ~_numpy(bond_slots(structures))
                    label = label.reshape(*empty.shape, -1)
                    label[empty] = np.nan
                    label = label.reshape(shape)
                if name == "dipole":  # on the branch of the prediction, as errors are
                    place = structures.cell.cpu(), structures.pbc.cpu()
                    near = nearest_dipole(torch.from_numpy(label), value.cpu(), *place)
                    label = near.numpy()
                self._append(f"target_{name}", label)
                self._append(f"predicted_{name}", _numpy(value))

    def _append(self, name: str, value: Array) -> None:
        self._parts.setdefault(name, []).append(value)

    def join(self) -> Predictions:
        """Everything added so far."""
        joined = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        for name in ("stress_reference", "stress_prediction"):
            joined.setdefault(name, np.zeros((0, 6)))
        own = [n.removeprefix("target_") for n in joined if n.startswith("target_")]
        targets = {n: (joined.pop(f"target_{n}"), joined.pop(f"predicted_{n}")) for n in own}
        unsure = [n for n in joined if n.startswith("uncertainty_")]
        known = {n.removeprefix("uncertainty_"): joined.pop(n) for n in unsure}
        return Predictions(**joined, targets=targets, uncertainties=known)


def _columns() -> list[str]:
    """Names of the arrays that are always there."""
    return [f.name for f in fields(Predictions) if f.name not in ("targets", "uncertainties")]


def _numpy(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array


def _label(structures: Batch, name: str, shape: tuple[int, ...]) -> Array:
    """The label as float64 with NaN where it is missing."""
    if name not in structures:
        return np.full(shape, np.nan)
    value = _numpy(structures[name]).astype(np.float64).reshape(shape)
    mask = structures.get(mask_name(name))
    if mask is not None:
        value[~_numpy(mask).reshape(-1)] = np.nan
    return value


def _predicted(predictions: dict[str, Tensor], name: str, shape: tuple[int, ...]) -> Array:
    if name not in predictions:
        return np.full(shape, np.nan)
    return _numpy(predictions[name]).astype(np.float64).reshape(shape)
