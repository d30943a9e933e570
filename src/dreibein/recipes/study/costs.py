"""What a representation costs: counted for an edge, and measured on a batch of the study."""

import csv
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Batch

from dreibein.data import load_data
from dreibein.models import build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.nn import Potential
from dreibein.o3 import Irrep, Reps, parse_reps
from dreibein.recipes.study.config import Piece, StudyConfig
from dreibein.recipes.study.poses import posed_test
from dreibein.systems.files import atomic_path

COSTS_NAME = "costs.csv"
ITEM = 4  # bytes of float32
ROUNDS = 7


@dataclass(frozen=True)
class Cost:
    """One row of costs.csv.

    Attributes:
        representation: Its name.
        frames: Kind of frames.
        reps: Features of an atom.
        dim: Their numbers.
        multiply_adds: To carry one feature along an edge, frames and matrices given.
        bytes: Read and written for it in float32.
        parameters: Of the whole network.
        forward_ms: Energy of a batch, processor time.
        step_ms: Energy, forces in the target, and gradients of the loss by all parameters.
    """

    representation: str
    frames: str
    reps: str
    dim: int
    multiply_adds: int
    bytes: int
    parameters: int
    forward_ms: float
    step_ms: float


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
    """Count and measure every choice of the study, in turns within this process; kept."""
    path = folder / COSTS_NAME
    choices = [(name, "soft") for name in study.representations]
    choices += [(study.representation, frames) for frames in study.frames if frames != "soft"]
    if path.is_file():
        kept = read_costs(path)
        if [(cost.representation, cost.frames) for cost in kept] == choices:
            return kept
    tests = load_data(posed_test(folder))
    count = min(study.batch_size, len(tests))
    structures = [attach_neighbors(tests[k], study.cutoff) for k in range(count)]
    batch = Batch.from_data_list(structures)
    ways: dict[tuple[str, str], tuple[Potential, Callable[[], None], Callable[[], None]]] = {}
    for name, frames in choices:
        piece = Piece(representation=name, frames=frames, size=0, seed=0)
        torch.manual_seed(0)
        potential = build_potential(study.model(piece), elements=tests.elements)
        ways[name, frames] = (potential, *_calls(potential, batch, study))
    times: dict[Any, list[list[float]]] = {key: [[], []] for key in ways}
    for turn in range(ROUNDS + 1):
        for key, (_, *calls) in ways.items():
            for kind, call in enumerate(calls):
                start = time.process_time()
                call()
                if turn:  # the first round compiles
                    times[key][kind].append(1e3 * (time.process_time() - start))
    costs = []
    for (name, frames), (potential, *_) in ways.items():
        reps = parse_reps(study.reps_of(name))
        parameters = sum(p.numel() for p in potential.parameters())
        medians = [round(statistics.median(values), 3) for values in times[name, frames]]
        counted = transport_cost(reps) if frames not in ("random", "identity") else (0, 0)
        costs.append(Cost(name, frames, str(reps), reps.dim, *counted, parameters, *medians))
    write_rows(path, [asdict(cost) for cost in costs])
    return costs


def read_costs(path: Path) -> list[Cost]:
    """The rows of costs.csv."""
    kinds = {field.name: field.type for field in fields(Cost)}
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Cost(**{name: kinds[name](value) for name, value in row.items()})  # type: ignore
            for row in csv.DictReader(file)
        ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """A CSV file with the keys of the first row as its header."""
    with atomic_path(path) as side, open(side, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _calls(
    potential: Potential, batch: Batch, study: StudyConfig
) -> tuple[Callable[[], None], Callable[[], None]]:
    wanted = tuple(study.target)

    def forward() -> None:
        potential.eval()
        potential(batch, compute=("energy",))

    def step() -> None:
        potential.train()
        results = potential(batch, compute=wanted)
        loss = sum(results[name].square().mean() for name in wanted)
        torch.autograd.grad(loss, list(potential.parameters()), allow_unused=True)

    return forward, step
