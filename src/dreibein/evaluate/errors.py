"""Mean absolute and root mean square errors: one code for validation and test."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Batch

from dreibein.systems import mask_name
from dreibein.systems.cells import to_voigt
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
FIRST_GROUP_ROW = len(QUANTITIES) + NUM_ELEMENTS


def metric_name(quantity: str, statistic: str) -> str:
    """The key of one error, e.g. `forces_mae_mev_per_a`.

    >>> metric_name("forces", "rmse")
    'forces_rmse_mev_per_a'
    """
    return f"{quantity}_{statistic}_{UNIT_SUFFIX[quantity]}"


@dataclass(frozen=True)
class _Errors:
    """Errors of one quantity: rows are frames or atoms, columns the independent components."""

    quantity: str
    error: Tensor  # [rows, components], eV based
    present: Tensor  # [rows] bool
    frame: Tensor  # [rows] int64: the structure each row belongs to


class ErrorMeter:
    """MAE = mean |prediction − label| and RMSE = sqrt(mean (prediction − label)²).

    The mean runs over frames for energies, over atoms and x, y, z for forces, over frames and the
    six independent components for stress; labels whose mask is False do not count. Nothing but
    sums is kept, in float64 on the device of the predictions, so that several processes can add
    their `state()` and `load_state` the total.

    Args:
        config_types: Names of groups of frames (`config_type`) to keep apart as well; a name not
            given is added when it is first seen. None for no groups. Processes whose states are
            to be added must be given the same names.

    >>> from dreibein.systems import make_structure
    >>> label = make_structure([1, 1], [[0, 0, 0], [0, 0, 1.0]], energy=-3.0)
    >>> meter = ErrorMeter()
    >>> meter.update({"energy": torch.tensor([-3.002])}, Batch.from_data_list([label]))
    >>> {name: round(error, 3) for name, error in meter.compute().items()}
    {'energy_mae_mev': 2.0, 'energy_rmse_mev': 2.0,
     'energy_per_atom_mae_mev': 1.0, 'energy_per_atom_rmse_mev': 1.0}
    """

    def __init__(self, config_types: Sequence[str] | None = None) -> None:
        self._grouped = config_types is not None
        self._groups: dict[str, int] = {}
        self._sums = torch.zeros(FIRST_GROUP_ROW, 3, dtype=torch.float64)  # Σ|e|, Σe², count
        self._add_groups(config_types or ())

    def reset(self) -> None:
        """Forget everything seen."""
        self._sums = torch.zeros_like(self._sums)

    @property
    def config_types(self) -> tuple[str, ...]:
        """Groups of frames that are kept apart."""
        return tuple(self._groups)

    def _add_groups(self, names: Iterable[str]) -> None:
        new = [name for name in dict.fromkeys(names) if name not in self._groups]
        if new:
            self._groups.update({name: len(self._groups) + k for k, name in enumerate(new)})
            rows = self._sums.new_zeros(len(QUANTITIES) * len(new), 3)
            self._sums = torch.cat([self._sums, rows])

    @torch.no_grad()
    def update(self, predictions: Mapping[str, Tensor], structures: Batch) -> None:
        """Add the errors of one batch.

        Args:
            predictions: energy [B], forces [N, 3], stress [B, 3, 3] in eV and Å; any subset.
            structures: The batch with the labels and their masks.
        """
        for errors in _compare(predictions, structures):
            self._add(errors, structures)

    def _add(self, errors: _Errors, structures: Batch) -> None:
        self._sums = self._sums.to(errors.error.device)
        masked = torch.where(errors.present[:, None], errors.error, 0.0)
        count = errors.present.to(torch.float64) * errors.error.shape[1]
        sums = torch.stack([masked.abs().sum(1), masked.square().sum(1), count], dim=1)
        quantity = QUANTITIES.index(errors.quantity)
        self._sums[quantity] += sums.sum(0)
        if errors.quantity == "forces":
            self._sums.index_add_(0, len(QUANTITIES) + structures.z, sums)
        if self._grouped:
            names = _config_types(structures)
            self._add_groups(names)
            groups = torch.tensor([self._groups[name] for name in names], device=sums.device)
            rows = FIRST_GROUP_ROW + len(QUANTITIES) * groups[errors.frame] + quantity
            self._sums.index_add_(0, rows, sums)

    def state(self) -> Tensor:
        """The sums [rows, 3] float64; states of several processes add up."""
        return self._sums.clone()

    def load_state(self, state: Tensor) -> None:
        """Replace the sums, e.g. by the total over all processes."""
        if state.shape != self._sums.shape:
            raise ValueError(
                f"state has shape {tuple(state.shape)}, this meter needs "
                f"{tuple(self._sums.shape)}: build both with the same config_types"
            )
        self._sums = state.to(torch.float64).clone()

    def compute(self) -> dict[str, float]:
        """Errors over everything seen, by `metric_name`; only labels that were seen."""
        return self._read(enumerate(QUANTITIES))

    def by_element(self) -> dict[int, dict[str, float]]:
        """Force errors by atomic number."""
        first = len(QUANTITIES)
        seen = self._sums[first : first + NUM_ELEMENTS, 2].nonzero().flatten().tolist()
        return {z: self._read([(first + z, "forces")]) for z in seen}

    def by_config_type(self) -> dict[str, dict[str, float]]:
        """All errors by `config_type`, in the order given or seen."""
        found = {}
        for name, k in self._groups.items():
            first = FIRST_GROUP_ROW + len(QUANTITIES) * k
            errors = self._read((first + q, quantity) for q, quantity in enumerate(QUANTITIES))
            if errors:
                found[name] = errors
        return found

    def counts(self) -> dict[str, int]:
        """How many labels of each kind were seen (force: components; stress: components)."""
        counts = {q: int(self._sums[k, 2]) for k, q in enumerate(QUANTITIES)}
        return {name: count for name, count in counts.items() if count}

    def _read(self, rows: Iterable[tuple[int, str]]) -> dict[str, float]:
        sums = self._sums.cpu()
        result = {}
        for row, quantity in rows:
            absolute, square, count = sums[row].tolist()
            if count:
                result[metric_name(quantity, "mae")] = MEV * absolute / count
                result[metric_name(quantity, "rmse")] = MEV * (square / count) ** 0.5
        return result


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
        yield _Errors("forces", error, present, structures.batch)
    if "stress" in predictions and "stress" in structures:
        error = to_voigt(predictions["stress"].double() - structures.stress.double())
        yield _Errors("stress", error, _present(structures, "stress", len(frames)), frames)


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
