"""Mean absolute and root mean square errors: one code for validation and test."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Batch

from dreibein.evaluate.hessians import FREQUENCIES, HESSIAN, paired_blocks, paired_frequencies
from dreibein.evaluate.hessians import UNITS as HESSIAN_UNITS
from dreibein.systems import FIELDS, mask_name
from dreibein.systems.cells import nearest_dipole, to_voigt
from dreibein.systems.fields import of_atoms, of_bonds
from dreibein.systems.structures import bond_slots
from dreibein.systems.units import conversion_factor

QUANTITIES = ("energy", "energy_per_atom", "forces", "stress")
UNIT_SUFFIX = {
    "energy": "mev",
    "energy_per_atom": "mev",
    "forces": "mev_per_a",
    "stress": "mev_per_a3",
}
UNIT_TEXT = {
    "energy": "meV",
    "energy_per_atom": "meV/atom",
    "forces": "meV/Å",
    "stress": "meV/Å³",
}
MEV = 1000.0  # meV per eV
GPA_PER_MEV_A3 = conversion_factor("eV/Å^3", "GPa") / MEV
NUM_ELEMENTS = 119  # rows for atomic numbers 0 to 118
FIRST_GROUP_ROW = 1 + NUM_ELEMENTS  # after the total and the elements


def metric_name(quantity: str, statistic: str, unit: str | None = None) -> str:
    """The key of one error; the unit is that of the field unless given.

    >>> metric_name("forces", "rmse"), metric_name("polarizability", "mae")
    ('forces_rmse_mev_per_a', 'polarizability_mae_e_a2_per_v')
    """
    if quantity in UNIT_SUFFIX:
        return f"{quantity}_{statistic}_{UNIT_SUFFIX[quantity]}"
    if unit is None:
        unit = FIELDS[quantity].unit if quantity in FIELDS else ""
    text = unit.lower().replace("å", "a").replace("*", "_").replace("/", "_per_")
    slug = re.sub(r"[^a-z0-9_]", "", text)
    return f"{quantity}_{statistic}_{slug}" if slug else f"{quantity}_{statistic}"


def relative_name(quantity: str) -> str:
    """The key of RMSE over the scatter of the labels.

    >>> relative_name("dipole")
    'dipole_rmse_relative'
    """
    return f"{quantity}_rmse_relative"


@dataclass(frozen=True)
class _Errors:
    """Errors of one quantity: rows are frames or atoms, columns the independent components."""

    quantity: str
    error: Tensor  # [rows, components]
    present: Tensor  # [rows] bool
    frame: Tensor  # [rows] int64: the structure each row belongs to
    z: Tensor | None = None  # [rows]: the element, where rows are atoms
    label: Tensor | None = None  # [rows, components], where the scatter of labels is wanted


class ErrorMeter:
    """MAE = mean |prediction − label| and RMSE = sqrt(mean (prediction − label)²).

    The mean runs over frames for energies, over atoms and x, y, z for forces, over frames and the
    six independent components for stress; for any other label over its frames or atoms and all
    components, in the label's unit, and its RMSE is also given over the scatter of the labels
    (see `scatter`). The dipole of a cell that is periodic in three directions is compared with the
    nearest value that the label stands for, up to e times cell vectors. Labels whose mask is False
    do not count. Nothing but sums is kept, in float64 on the device of the predictions, so that
    several processes can add their `state()` and `load_state` the total.

    Args:
        config_types: Names of groups of frames (`config_type`) to keep apart as well; a name not
            given is added when it is first seen. None for no groups. Processes whose states are
            to be added must be given the same names.
        units: Units of labels that are no field of this package, for their keys.

    >>> from dreibein.systems import make_structure
    >>> label = make_structure([1, 1], [[0, 0, 0], [0, 0, 1.0]], energy=-3.0)
    >>> meter = ErrorMeter()
    >>> meter.update({"energy": torch.tensor([-3.002])}, Batch.from_data_list([label]))
    >>> {name: round(error, 3) for name, error in meter.compute().items()}
    {'energy_mae_mev': 2.0, 'energy_rmse_mev': 2.0,
     'energy_per_atom_mae_mev': 1.0, 'energy_per_atom_rmse_mev': 1.0}
    """

    def __init__(
        self,
        config_types: Sequence[str] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> None:
        self._grouped = config_types is not None
        self._groups: dict[str, int] = {}
        self._units = dict(units or {})
        # per quantity: total, elements, groups, each Σ|e|, Σe², count
        self._sums = {name: _zeros(FIRST_GROUP_ROW) for name in QUANTITIES}
        # per label: Σy, Σy², count of each component, or of each element for scalars of atoms
        self._moments: dict[str, Tensor] = {}
        self._add_groups(config_types or ())

    def reset(self) -> None:
        """Forget everything seen."""
        self._sums = {name: torch.zeros_like(sums) for name, sums in self._sums.items()}
        self._moments = {name: torch.zeros_like(m) for name, m in self._moments.items()}

    @property
    def config_types(self) -> tuple[str, ...]:
        """Groups of frames that are kept apart."""
        return tuple(self._groups)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was seen: energy, energy_per_atom, forces, stress, then other labels."""
        return tuple(self.counts())

    def _add_groups(self, names: Iterable[str]) -> None:
        new = [name for name in dict.fromkeys(names) if name not in self._groups]
        if new:
            self._groups.update({name: len(self._groups) + k for k, name in enumerate(new)})
            for quantity, sums in self._sums.items():
                self._sums[quantity] = torch.cat([sums, sums.new_zeros(len(new), 3)])

    @torch.no_grad()
    def update(self, predictions: Mapping[str, Tensor], structures: Batch) -> None:
        """Add the errors of one batch.

        Args:
            predictions: energy [B], forces [N, 3], stress [B, 3, 3] in eV and Å, and any other
                label in its own shape and unit; any subset.
            structures: The batch with the labels and their masks.
        """
        for errors in _compare(predictions, structures):
            self._add(errors, structures)

    def _add(self, errors: _Errors, structures: Batch) -> None:
        quantity, device = errors.quantity, errors.error.device
        if quantity not in self._sums:
            self._sums[quantity] = _zeros(FIRST_GROUP_ROW + len(self._groups))
        target = self._sums[quantity] = self._sums[quantity].to(device)
        masked = torch.where(errors.present[:, None], errors.error, 0.0)
        count = errors.present.to(torch.float64) * errors.error.shape[1]
        sums = torch.stack([masked.abs().sum(1), masked.square().sum(1), count], dim=1)
        target[0] += sums.sum(0)
        if errors.z is not None:
            target.index_add_(0, 1 + errors.z, sums)
        if self._grouped:
            names = _config_types(structures)
            self._add_groups(names)
            groups = torch.tensor([self._groups[name] for name in names], device=device)
            self._sums[quantity].index_add_(0, FIRST_GROUP_ROW + groups[errors.frame], sums)
        if errors.label is not None:
            self._add_moments(errors, errors.label)

    def _add_moments(self, errors: _Errors, label: Tensor) -> None:
        by_element = errors.z is not None and label.shape[1] == 1
        rows = NUM_ELEMENTS if by_element else label.shape[1]
        moments = self._moments.get(errors.quantity, _zeros(rows)).to(label.device)
        label = torch.where(errors.present[:, None], label, 0.0)
        count = errors.present.to(torch.float64)[:, None].expand_as(label)
        powers = torch.stack([label, label.square(), count], dim=2)  # [rows, components, 3]
        if by_element and errors.z is not None:
            moments = moments.index_add(0, errors.z, powers[:, 0])
        else:
            moments = moments + powers.sum(0)
        self._moments[errors.quantity] = moments

    def state(self) -> Tensor:
        """The sums [rows, 3] float64; states of several processes add up."""
        return torch.cat([*self._sums.values(), *self._moments.values()])

    def load_state(self, state: Tensor) -> None:
        """Replace the sums, e.g. by the total over all processes."""
        parts = [*self._sums.values(), *self._moments.values()]
        rows = [len(part) for part in parts]
        if state.shape != (sum(rows), 3):
            raise ValueError(
                f"state has shape {tuple(state.shape)}, this meter needs "
                f"{(sum(rows), 3)}: build both with the same config_types, of the same labels"
            )
        pieces = [piece.clone() for piece in state.to(torch.float64).split(rows)]
        self._sums = dict(zip(self._sums, pieces))
        self._moments = dict(zip(self._moments, pieces[len(self._sums) :]))

    def compute(self) -> dict[str, float]:
        """Errors over everything seen, by `metric_name`; only labels that were seen."""
        found: dict[str, float] = {}
        for quantity, sums in self._sums.items():
            found |= self._read(quantity, sums[0])
            scatter = self.scatter(quantity)
            if scatter:
                rmse = found[self.metric_name(quantity, "rmse")]
                found[relative_name(quantity)] = rmse / scatter
        return found

    def metric_name(self, quantity: str, statistic: str) -> str:
        """The key of one error in `compute`."""
        return metric_name(quantity, statistic, self.unit(quantity))

    def unit(self, quantity: str) -> str:
        """Unit of a quantity's errors."""
        if quantity in UNIT_TEXT:
            return UNIT_TEXT[quantity]
        if quantity in HESSIAN_UNITS:
            return HESSIAN_UNITS[quantity]
        return self._units.get(quantity) or (FIELDS[quantity].unit if quantity in FIELDS else "")

    def scatter(self, quantity: str) -> float | None:
        """Scatter of the labels seen: the RMSE of predicting their means; None where unknown.

        sqrt of the mean over components of the variance of each; for scalars of atoms the
        variance about the mean of the atom's element.
        """
        if quantity not in self._moments:
            return None
        total, square, count = self._moments[quantity].cpu().unbind(1)
        variances = square - total.square() / count.clamp(min=1.0)
        size = float(count.sum())
        return max(float(variances.sum()) / size, 0.0) ** 0.5 if size else None

    def by_element(self, quantity: str = "forces") -> dict[int, dict[str, float]]:
        """Errors of forces, or of another label of atoms, by atomic number."""
        if quantity not in self._sums:
            return {}
        rows = self._sums[quantity][1:FIRST_GROUP_ROW]
        seen = rows[:, 2].nonzero().flatten().tolist()
        return {z: self._read(quantity, rows[z]) for z in seen}

    def by_config_type(self) -> dict[str, dict[str, float]]:
        """All errors by `config_type`, in the order given or seen."""
        found = {}
        for name, k in self._groups.items():
            errors: dict[str, float] = {}
            for quantity, sums in self._sums.items():
                errors |= self._read(quantity, sums[FIRST_GROUP_ROW + k])
            if errors:
                found[name] = errors
        return found

    def counts(self) -> dict[str, int]:
        """How many labels of each kind were seen (force: components; stress: components)."""
        counts = {name: int(sums[0, 2]) for name, sums in self._sums.items()}
        return {name: count for name, count in counts.items() if count}

    def _read(self, quantity: str, sums: Tensor) -> dict[str, float]:
        absolute, square, count = sums.tolist()
        if not count:
            return {}
        factor = MEV if quantity in UNIT_SUFFIX else 1.0
        return {
            self.metric_name(quantity, "mae"): factor * absolute / count,
            self.metric_name(quantity, "rmse"): factor * (square / count) ** 0.5,
        }


def _zeros(rows: int) -> Tensor:
    return torch.zeros(rows, 3, dtype=torch.float64)


def _compare(predictions: Mapping[str, Tensor], structures: Batch) -> Iterator[_Errors]:
    """Prediction minus label for every quantity that has both."""
    frames = torch.arange(structures.num_graphs, device=structures.z.device)
    if "energy" in predictions and "energy" in structures:
        error = (predictions["energy"].double() - structures.energy.double())[:, None]
        present = _present(structures, "energy", len(frames))
        atoms = torch.bincount(structures.batch, minlength=len(frames))
        yield _Errors("energy", error, present, frames)
        yield _Errors("energy_per_atom", error / atoms[:, None], present, frames)
    if "forces" in predictions and "forces" in structures:
        error = predictions["forces"].double() - structures.forces.double()
        present = _present(structures, "forces", len(structures.z))
        yield _Errors("forces", error, present, structures.batch, structures.z)
    if "stress" in predictions and "stress" in structures:
        error = to_voigt(predictions["stress"].double() - structures.stress.double())
        yield _Errors("stress", error, _present(structures, "stress", len(frames)), frames)
    for name, predicted in predictions.items():
        if name == HESSIAN and name in structures:
            yield from _compare_hessians(predicted, structures)
        elif name not in QUANTITIES and name in structures:
            yield _compare_label(name, predicted.double(), structures, frames)


def _compare_label(name: str, predicted: Tensor, structures: Batch, frames: Tensor) -> _Errors:
    """Prediction minus label of any other quantity, component by component."""
    if of_bonds(name):
        return _compare_bonds(name, predicted, structures)
    rows = predicted.shape[0]
    predicted = predicted.reshape(rows, -1)
    label = structures[name].double().reshape(predicted.shape)
    if name == "dipole":
        label = nearest_dipole(label, predicted, structures.cell, structures.pbc)
    atoms = of_atoms(name, rows, len(structures.z))
    return _Errors(
        name,
        predicted - label,
        _present(structures, name, rows),
        structures.batch if atoms else frames,
        structures.z if atoms else None,
        label,
    )


def _compare_hessians(predicted: Tensor, structures: Batch) -> Iterator[_Errors]:
    """Entries of second derivatives, and the frequencies of both matrices."""
    ours, theirs, atom, frame = paired_blocks(predicted, structures)
    present = _present(structures, HESSIAN, len(structures.z))
    yield _Errors(HESSIAN, ours - theirs, present[atom], frame, None, theirs)
    error, owner = paired_frequencies(predicted, structures, present)
    error, owner = error.to(ours.device), owner.to(ours.device)
    yield _Errors(FREQUENCIES, error, torch.ones_like(owner, dtype=torch.bool), owner)


def _compare_bonds(name: str, predicted: Tensor, structures: Batch) -> _Errors:
    """The same of bonds: rows are slots of atoms, those without a partner do not count."""
    slots = bond_slots(structures)
    present = _present(structures, name, len(slots))[:, None] & slots
    predicted = predicted.reshape(slots.numel(), -1)
    label = structures[name].double().reshape(predicted.shape)
    frame = structures.batch[:, None].expand_as(slots).flatten()
    return _Errors(name, predicted - label, present.flatten(), frame, None, label)


def _present(structures: Batch, label: str, rows: int) -> Tensor:
    """Which rows carry the label; no mask means all of them."""
    mask = structures.get(mask_name(label))
    if mask is None:
        return torch.ones(rows, dtype=torch.bool, device=structures.z.device)
    return mask.reshape(rows)


def _config_types(structures: Batch) -> list[str]:
    names = structures.get("config_type")
    if names is None:
        return [""] * structures.num_graphs
    return [names] * structures.num_graphs if isinstance(names, str) else list(names)
