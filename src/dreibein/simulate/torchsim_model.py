"""A potential as a model of torch-sim: many structures at once, in dynamics and relaxation.

torch-sim moves a batch of structures together and asks for all their energies, forces and stresses
in one call; the potential evaluates them as one batch, by its fused backend too.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dreibein.neighbors import find_neighbors
from dreibein.nn.committee import FORCES_SPREAD, FrozenCommittee
from dreibein.simulate.engines import import_engine, make_evaluator
from dreibein.simulate.evaluator import Evaluator
from dreibein.systems import join, make_structure

if TYPE_CHECKING:
    from torch_sim.models.interface import ModelInterface

    from dreibein.simulate.engines import PotentialOrPath


def torchsim_model(
    potential: "PotentialOrPath",
    *,
    compute_stress: bool = True,
    dtype: torch.dtype = torch.float64,
    backend: str = "auto",
) -> "ModelInterface":
    """The potential as a `torch_sim.models.interface.ModelInterface`.

    The total charge in e and the spin multiplicity of each system are `state.charge` and
    `state.spin` [systems], where the state has them. Stress of systems that are not periodic in
    all directions is zero.

    Args:
        potential: A potential, frozen or not, the path of a model file, or an `Evaluator` (with an
            alarm policy of its own).
        compute_stress: Whether to compute the stress too; relaxing cells and constant pressure
            need it.
        dtype: Of torch-sim's positions, energies and forces, whatever the potential computes in.
        backend: "auto" or one of `dreibein.nn.BACKENDS`.

    Raises:
        ImportError: torch-sim is missing; it needs Python 3.12.
    """
    interface = import_engine("torch_sim.models.interface", "torchsim")
    evaluator = make_evaluator(potential, backend=backend)

    class DreibeinModel(interface.ModelInterface):  # type: ignore[name-defined]
        """A potential in torch-sim."""

        def __init__(self) -> None:
            super().__init__()
            self._device, self._dtype = evaluator.potential.device, dtype
            self._compute_forces, self._compute_stress = True, compute_stress
            self.evaluator = evaluator

        @interface.ModelInterface.compute_stress.setter
        def compute_stress(self, wanted: bool) -> None:
            self._compute_stress = wanted

        @interface.ModelInterface.compute_forces.setter
        def compute_forces(self, wanted: bool) -> None:
            self._compute_forces = wanted

        def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
            wanted = ["energy"]
            wanted += ["forces"] * self._compute_forces + ["stress"] * self._compute_stress
            values = _evaluate(self.evaluator, state, wanted)
            return {name: value.to(self._dtype) for name, value in values.items()}

    return DreibeinModel()


def _evaluate(evaluator: Evaluator, state: Any, wanted: list[str]) -> dict[str, Tensor]:
    """Energies [B], forces [N, 3] and stresses [B, 3, 3] of torch-sim's batch."""
    frozen, alarms = evaluator.frozen, evaluator.alarms
    positions = state.positions.detach().double().cpu()
    cells = state.cell.detach().double().cpu().mT  # torch-sim has cell vectors as columns
    numbers = state.atomic_numbers.detach().cpu().long()
    pbc = torch.as_tensor(state.pbc).cpu().expand(3)
    charges, spins = (_per_system(state, name) for name in ("charge", "spin"))
    structures = []
    sizes = torch.bincount(state.system_idx.cpu(), minlength=len(cells)).tolist()
    for k, (z, x) in enumerate(zip(numbers.split(sizes), positions.split(sizes), strict=True)):
        structure = make_structure(
            z,
            x,
            cell=cells[k] * pbc[:, None],
            pbc=pbc,
            charge=0.0 if charges is None else float(charges[k]),
            spin=1 if spins is None else int(spins[k]),
        )
        frozen.potential.check(structure)
        box = structure.cell[0]
        pairs = find_neighbors(structure.pos, box, structure.pbc[0], frozen.potential.cutoff)
        alarms.look(z.numpy(), structure.pos.numpy(), box.numpy(), pairs)
        structure.edge_index, structure.shift = pairs.edge_index, pairs.shift
        structures.append(structure)
    periodic = bool(pbc.all())
    batch = join(structures).to(frozen.potential.device)
    names = [name for name in wanted if name != "stress" or periodic]
    if isinstance(frozen, FrozenCommittee) and "forces" in names:
        names.append(FORCES_SPREAD)
    values = frozen(batch, compute=names)
    if FORCES_SPREAD in values:
        alarms.disagree(values.pop(FORCES_SPREAD).cpu().numpy())
    if "stress" in wanted and not periodic:
        values["stress"] = torch.zeros(len(cells), 3, 3, dtype=torch.float64)
    return {name: value.detach().to(frozen.potential.device) for name, value in values.items()}


def _per_system(state: Any, name: str) -> Tensor | None:
    """A number for each system, where the state has it."""
    found = getattr(state, name, None)
    return None if found is None else torch.as_tensor(found).detach().cpu().reshape(-1)
