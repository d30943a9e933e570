"""What a choice costs: counted for an edge, and measured on a batch of the study.

The same rows are the plan of a study: how wide each network is and how many steps it may take.
"""

import csv
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch

from dreibein.data import load_data
from dreibein.models import LoCaFormerConfig, build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.nn import Potential
from dreibein.o3 import Irrep, Reps, parse_reps
from dreibein.recipes.study.config import HEADS, Choice, StudyConfig
from dreibein.recipes.study.poses import posed_test
from dreibein.systems.files import atomic_path

COSTS_NAME = "costs.csv"
ITEM = 4  # bytes of float32
ROUNDS = 7
LANES = 16
"""TensorNet's compiled training step, of energies and forces, takes channels in sets of these."""
MIB = 2.0**20


@dataclass(frozen=True)
class Cost:
    """One row of costs.csv.

    Attributes:
        network: Architecture.
        representation: Name of the representation; empty for other networks.
        frames: Kind of frames.
        radial: Radial functions.
        angular: Functions of the direction.
        features: Features of an atom.
        width: What `StudyConfig.model` takes.
        dim: Numbers of an atom's features.
        multiply_adds: To carry one feature along an edge, frames and matrices given; None for
            networks that carry nothing.
        bytes: Read and written for it in float32.
        parameters: Of the whole network.
        forward_ms: Targets of a batch, derivatives included; processor time.
        step_ms: The same in training, gradients by all parameters, and AdamW.
        saved_mib: Numbers that a training step keeps for its gradients.
        steps: Of each training.
    """

    network: str
    representation: str
    frames: str
    radial: str
    angular: str
    features: str
    width: int
    dim: int
    multiply_adds: int | None
    bytes: int | None
    parameters: int
    forward_ms: float
    step_ms: float
    saved_mib: float
    steps: int

    @property
    def choice(self) -> Choice:
        """Whose cost it is."""
        return Choice(**{name: getattr(self, name) for name in Choice.model_fields})


def transport_cost(reps: Reps) -> tuple[int, int]:
    """Multiply-adds and bytes of carrying one feature along one edge into the receiver's frame.

    A channel of an irrep takes (2l+1)^2, of a Cartesian tensor of order n taken index by index
    n 3^(n+1), a learned part of width d takes d (d + 9) + d^2.

    >>> transport_cost(parse_reps("2x0n+3x1n")), transport_cost(parse_reps("4x2e"))
    ((27, 88), (100, 160))
    """
    total = 0
    for mul, kind, start, stop in reps.segments:
        if kind is None:
            width = stop - start
            total += width * (width + 9) + width**2
        elif isinstance(kind, Irrep):
            total += mul * (kind.dim**2 if kind.l else 0)
        else:
            total += mul * kind.rank * 3 ** (kind.rank + 1)
    return total, 2 * reps.dim * ITEM


def write_costs(study: StudyConfig, folder: Path) -> list[Cost]:
    """Plan, count and measure every choice of the study, in turns within this process; kept."""
    path = folder / COSTS_NAME
    choices = study.choices()
    if path.is_file():
        kept = read_costs(path)
        if [cost.choice for cost in kept] == choices:
            return kept
    tests = load_data(posed_test(folder))
    count = min(study.batch_size, len(tests))
    structures = [attach_neighbors(tests[k], study.cutoff) for k in range(count)]
    batch = Batch.from_data_list(structures)
    widths = {choice: _width(study, choice, tests.elements) for choice in choices}
    potentials = {
        choice: _potential(study, choice, width, tests.elements) for choice, width in widths.items()
    }
    times = _measure(potentials, batch, study)
    usual = times.get(study.reference, (0.0, 1.0))[1]
    costs = []
    for choice, potential in potentials.items():
        model = study.model(choice, widths[choice])
        forward, step = times[choice]
        features, dim = f"{widths[choice]}x(0e+1o+2e)", 9 * widths[choice]
        counted: tuple[int | None, int | None] = (None, None)
        if isinstance(model, LoCaFormerConfig):
            reps = parse_reps(model.reps)
            features, dim = str(reps), reps.dim
            counted = (0, 0) if choice.frames in ("random", "identity") else transport_cost(reps)
        costs.append(
            Cost(
                **choice.model_dump(),
                features=features,
                width=widths[choice],
                dim=dim,
                multiply_adds=counted[0],
                bytes=counted[1],
                parameters=_parameters(potential),
                forward_ms=round(forward, 3),
                step_ms=round(step, 3),
                saved_mib=round(_saved(_step(potential, batch, study), potential) / MIB, 3),
                steps=max(1, round(study.steps * usual / step))
                if study.budget == "time"
                else study.steps,
            )
        )
    write_rows(path, [asdict(cost) for cost in costs])
    return costs


def read_costs(path: Path) -> list[Cost]:
    """The rows of costs.csv."""
    texts = {field.name for field in fields(Cost) if field.type is str}
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found: list[dict[str, Any]] = [
        {name: text if name in texts else _value(text) for name, text in row.items()}
        for row in rows
    ]
    return [Cost(**values) for values in found]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """A CSV file with the keys of the first row as its header."""
    with atomic_path(path) as side, open(side, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _value(text: str) -> Any:
    """A number, None where there is none."""
    if not text:
        return None
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _width(study: StudyConfig, choice: Choice, elements: tuple[int, ...]) -> int:
    """`study.width`, or the width at which the network has the reference's parameters."""
    alike = choice.network == "locaformer"
    if alike and study.budget != "parameters":
        return study.width

    def count(width: int) -> int:
        return _parameters(_potential(study, choice, width, elements))

    wanted = _parameters(_potential(study, study.reference, study.width, elements))
    unit = HEADS if choice.network == "tensor_field" else 1
    if choice.network == "tensornet" and study.of_energy:
        unit = LANES
    low, high = 1 if unit > 1 else 2, max(8 * study.width, 64) // unit
    while high - low > 1:  # parameters grow with the width
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle * unit) <= wanted else (low, middle)
    return min((low * unit, high * unit), key=lambda width: abs(count(width) - wanted))


def _potential(
    study: StudyConfig, choice: Choice, width: int, elements: tuple[int, ...]
) -> Potential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_potential(study.model(choice, width), elements=elements)


def _parameters(potential: Potential) -> int:
    return sum(p.numel() for p in potential.parameters())


def _measure(
    potentials: dict[Choice, Potential], batch: Batch, study: StudyConfig
) -> dict[Choice, tuple[float, float]]:
    """Median processor time in ms of a forward pass and of a step, choices taking turns."""
    wanted = (*study.of_energy, *study.heads())
    calls: dict[Choice, tuple[Callable[[], Any], Callable[[], Any]]] = {}
    for choice, potential in potentials.items():
        calls[choice] = (_forward(potential, batch, wanted), _step(potential, batch, study))
    times: dict[Choice, tuple[list[float], list[float]]] = {c: ([], []) for c in calls}
    for turn in range(ROUNDS + 1):
        for choice, pair in calls.items():
            for kind, call in enumerate(pair):
                start = time.process_time()
                call()
                if turn:  # the first round compiles
                    times[choice][kind].append(1e3 * (time.process_time() - start))
    return {c: (statistics.median(a), statistics.median(b)) for c, (a, b) in times.items()}


def _forward(potential: Potential, batch: Batch, wanted: tuple[str, ...]) -> Callable[[], Any]:
    def call() -> None:
        potential.eval()
        potential(batch, compute=wanted)

    return call


def _step(potential: Potential, batch: Batch, study: StudyConfig) -> Callable[[], None]:
    wanted = (*study.of_energy, *study.heads())
    optimizer = torch.optim.AdamW(potential.parameters(), lr=0.0)

    def call() -> None:
        potential.train()
        results = potential(batch, compute=wanted)
        loss = torch.stack([results[name].square().mean() for name in wanted]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return call


def _saved(step: Callable[[], None], potential: Potential) -> int:
    """Bytes of all storages, but those of parameters, that autograd keeps in one step."""
    own = {p.untyped_storage().data_ptr() for p in potential.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(sizes.values())
