"""Dreibein on the same structures with the same weights, in each of its named modes."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Case, Size
from torch import Tensor
from torch_geometric.data import Data

from dreibein.models import TensorNetConfig, build_potential
from dreibein.neighbors import SkinNeighbors, find_neighbors
from dreibein.nn import Potential
from dreibein.simulate import Evaluator
from dreibein.systems import join, make_structure

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "models"))
from published import to_dreibein

MAX_Z = 10
SKIN = 0.5  # Å, the evaluator's default


@dataclass(frozen=True)
class Mode:
    """One way to run it.

    Attributes:
        backend: Name that `Evaluator(potential, backend=…)` or a network in training takes.
        fresh: The neighbor list is searched in every call, nothing is kept between calls.
        knots: Intervals of the radial tables that the network is defined on; 0 for none.
    """

    backend: str = "reference"
    fresh: bool = False
    knots: int = 0


MODES = {
    "reference": Mode(),
    "fused": Mode("fused"),
    "reference, fresh list": Mode(fresh=True),
    "fused, fresh list": Mode("fused", fresh=True),
}
TRAINING_MODES = {
    "reference": Mode(),
    "reference, 128 knots": Mode(knots=128),
    "fused, 128 knots": Mode("fused", knots=128),
}
CHOOSES = "backend" in inspect.signature(Evaluator).parameters


def modes_for(training: bool) -> list[str]:
    """Modes that this version of the package has."""
    if training:
        return list(TRAINING_MODES)
    return [name for name, mode in MODES.items() if CHOOSES or mode.backend == "reference"]


def make(size: Size, weights: dict[str, Tensor], knots: int = 0) -> Potential:
    """The potential with published weights and radial constants, float32."""
    config = TensorNetConfig(
        channels=size.channels,
        layers=size.layers,
        cutoff=size.cutoff,
        num_radial=size.num_radial,
        envelope="cosine",
        knots=knots,
    )
    potential = build_potential(config, elements=tuple(range(MAX_Z)), dtype=torch.float32)
    radial = "representation_model.distance_expansion."
    state = to_dreibein(weights, size.layers) | {
        "radial.centers": weights[f"{radial}means"],
        "radial.beta": weights[f"{radial}betas"][0],
    }
    potential.network.load_state_dict(state)
    return potential


class Batches:
    """Several copies of a molecule as one batch with its neighbor list.

    The list of all copies is searched at once, the copies standing far apart in a row.

    Args:
        case: Structures without a cell, or one structure with a cell.
        cutoff: Å.
        skin: Å; 0 searches in every call.
        candidates: Whether pairs in the skin may stay in the list.
    """

    def __init__(self, case: Case, cutoff: float, skin: float, candidates: bool = False) -> None:
        self.cell = torch.eye(3, dtype=torch.float64) * case.cell
        self.pbc = torch.full((3,), case.cell > 0)
        neighbors = SkinNeighbors(cutoff, skin)
        self.find: Callable[..., Any] = neighbors.candidates if candidates else neighbors
        self.fresh = (
            (lambda x: find_neighbors(x, self.cell, self.pbc, cutoff)) if not skin else None
        )
        single = make_structure(
            case.numbers,
            torch.from_numpy(case.positions),
            cell=self.cell if case.cell else None,
        )
        self.structures: Data = join([single] * case.copies)
        extent = float(np.ptp(case.positions[:, 0])) + 10.0 * cutoff
        self.apart = torch.zeros(case.copies, 1, 3, dtype=torch.float64)
        self.apart[:, 0, 0] = extent * torch.arange(case.copies)

    def __call__(self, frame: np.ndarray) -> Data:
        """The batch at new positions [copies, n, 3], with its neighbor list."""
        pos = torch.from_numpy(frame)
        row = (pos + self.apart).reshape(-1, 3)
        pairs = self.find(row, self.cell, self.pbc)
        batch = self.structures
        batch.pos, batch.edge_index, batch.shift = pos.reshape(-1, 3), pairs.edge_index, pairs.shift
        return batch


def evaluator(
    case: Case, size: Size, name: str, weights: dict[str, Tensor]
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Energies and forces of a frame, as an engine would ask for them."""
    mode = MODES[name]
    potential = make(size, weights).eval().requires_grad_(False)
    options = {"backend": mode.backend} if CHOOSES else {}
    evaluate = Evaluator(potential, skin=0.0 if mode.fresh else SKIN, **options)
    if case.copies > 1:
        fused = mode.backend == "fused"
        batches = Batches(case, size.cutoff, 0.0 if mode.fresh else SKIN, candidates=fused)
        run = getattr(evaluate, "frozen", potential)

        def batched(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            results = run(batches(frame))
            return results["energy"].numpy(), results["forces"].numpy()

        return batched
    cell, pbc = np.eye(3) * case.cell, np.full(3, case.cell > 0)

    def call(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        results = evaluate(case.numbers, frame[0], cell, pbc)
        return results["energy"].numpy(), results["forces"].numpy()

    return call


def trainer(
    case: Case, size: Size, name: str, weights: dict[str, Tensor]
) -> Callable[[np.ndarray, Tensor, Tensor], float]:
    """One AdamW step on the mean squared errors of energies and forces; returns the loss.

    The lists are searched in every step, although training keeps those of a data set.
    """
    mode = TRAINING_MODES[name]
    potential = make(size, weights, mode.knots).train()
    potential.network.backend = mode.backend
    batches = Batches(case, size.cutoff, 0.0)
    optimizer = torch.optim.AdamW(potential.parameters(), lr=1e-4, weight_decay=0.0)

    def step(frame: np.ndarray, energies: Tensor, forces: Tensor) -> float:
        optimizer.zero_grad()
        results = potential(batches(frame))
        loss = (results["energy"] - energies).square().mean()
        loss = loss + (results["forces"] - forces).square().mean()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step
