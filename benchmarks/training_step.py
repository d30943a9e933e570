"""One training step of TensorNet on forces: filters per edge, tabulated, and the fused pass.

Batches of aspirin (from its SMILES string, atoms displaced at random), 5 Å, float32, AdamW; the
three take turns, so their ratios hold on a busy machine. Times are of the clock, or with
`--processor` of the processor (one thread). Beside them the floor of the fused step: its matrix
products (forward, back, and the derivatives of both with those of the weights: six for each
matrix) at the rate measured in the same run. Last, where a whole step of `dreibein.train` spends
its time. Needs `dreibein[label]` (RDKit).
Run: OMP_NUM_THREADS=1 python benchmarks/training_step.py --threads 1 --processor
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch_geometric.data import Data

from dreibein.data import read_structure
from dreibein.models import TensorNetConfig, build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.nn import Potential
from dreibein.ops.matmul import matmul, pack
from dreibein.systems import make_structure
from dreibein.train import EnergyTerm, Losses, LossTerm, TrainingConfig
from dreibein.train.frames import Frames, collate
from dreibein.train.losses import loss_sums
from dreibein.train.schedule import LearningRate
from dreibein.train.steps import Stepper

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
CUTOFF = 5.0
WAYS = {
    "per edge, reference": (0, "reference"),
    "128 knots, reference": (128, "reference"),
    "128 knots, fused": (128, "fused"),
}
PRODUCTS = 6  # forward, back, their derivatives (2), the weights' gradients (2)


class Molecules:
    """Displaced aspirins with random labels."""

    label_names = ("energy", "forces")

    def __init__(self, count: int) -> None:
        atoms = read_structure(ASPIRIN)
        generator = torch.Generator().manual_seed(0)
        pos = torch.from_numpy(atoms.positions)
        self.structures: list[Data] = []
        for frame in range(count):
            shift = 0.05 * torch.randn(pos.shape, generator=generator, dtype=torch.float64)
            forces = torch.randn(pos.shape, generator=generator, dtype=torch.float64)
            made = make_structure(
                atoms.numbers, pos + shift, energy=0.0, forces=forces, frame=frame
            )
            self.structures.append(attach_neighbors(made, CUTOFF))

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, index: int) -> Data:
        return self.structures[index]

    def describe(self, index: int) -> str:
        """Name of a frame."""
        return f"frame {index}"


def make(options: argparse.Namespace, knots: int, backend: str) -> Potential:
    """A potential in training mode, always with the same weights."""
    torch.manual_seed(0)
    config = TensorNetConfig(
        channels=options.channels, layers=options.layers, cutoff=CUTOFF, knots=knots
    )
    potential = build_potential(config, elements=(1, 6, 8)).train()
    potential.network.backend = backend
    return potential


def stepper_of(potential: Potential) -> Stepper:
    """A step of `dreibein.train`, on the CPU."""
    terms: dict[str, LossTerm] = {"energy": EnergyTerm(), "forces": LossTerm()}
    config = TrainingConfig(lr=1e-4, losses=Losses(stress=None))
    fabric = Fabric(accelerator="cpu", devices=1)
    rate = LearningRate(config, 1000)
    return Stepper(config, fabric, potential, terms, rate, lambda batch, k: str(k))


def product_floor(options: argparse.Namespace, atoms: int, clock: Callable[[], float]) -> float:
    """Seconds of the matrix products of a fused step at the measured rate of one such product.

    The rate is the better of PyTorch's and that of the kernel that the step uses.
    """
    f = options.channels
    per_atom = 27 * f * f + 18 * options.layers * f * f - 18 * f * f + int(11.5 * f * f)
    rows, weight = torch.randn(9 * min(atoms, 256), f), torch.randn(f, f)
    out, packed = torch.empty_like(rows), pack(weight.numpy())
    ways: tuple[Callable[[], object], ...] = (
        lambda: torch.mm(rows, weight, out=out),
        lambda: matmul(rows.numpy(), packed, out.numpy(), 0, len(rows)),
    )
    times = []
    for turn in range(40):
        for way in ways:
            start = clock()
            way()
            times += [clock() - start] * (turn > 0)  # the first call compiles
    rate = rows.shape[0] * f * f / min(times)
    return PRODUCTS * per_atom * atoms / rate


def compare(options: argparse.Namespace, count: int, clock: Callable[[], float]) -> None:
    """Milliseconds of a step in each way, and the floor."""
    molecules = Molecules(count)
    batch = Frames(molecules, CUTOFF, ("energy", "forces"))[list(range(count))]
    steppers = {name: stepper_of(make(options, *way)) for name, way in WAYS.items()}
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(3):  # compiles, and fills workspaces
        for stepper in steppers.values():
            stepper.step(batch, 0, [0.0] * 3)
    for _ in range(options.rounds):
        for name, stepper in steppers.items():
            for _ in range(3):
                start = clock()
                stepper.step(batch, 1, [0.0] * 3)
                times[name].append(1e3 * (clock() - start))
    atoms, edges = len(batch.z), batch.edge_index.shape[1]
    print(f"{count} aspirins: {atoms} atoms, {edges} edges")
    base = statistics.median(times["per edge, reference"])
    for name, found in times.items():
        middle = statistics.median(found)
        print(f"  {name:22s} {middle:8.1f} ms (best {min(found):7.1f})   {base / middle:5.2f}x")
    floor = 1e3 * product_floor(options, atoms, clock)
    print(f"  floor: matrix products of the fused step {floor:.1f} ms")


def shares(options: argparse.Namespace, count: int, clock: Callable[[], float]) -> None:
    """Where a step of the fused way goes."""
    molecules = Molecules(count)
    frames = Frames(molecules, CUTOFF, ("energy", "forces"))
    found = [frames._frame(k) for k in range(count)]
    stepper = stepper_of(make(options, 128, "fused"))
    batch = frames[list(range(count))]
    totals: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], Tensor | None]) -> None:
        start = clock()
        state[name] = work()
        totals.setdefault(name, []).append(1e3 * (clock() - start))

    state: dict[str, Tensor | None] = {}
    for _ in range(3 + 3 * options.rounds):
        timed("join structures", lambda: collate(found) and None)
        start = clock()
        predictions = stepper.module(batch, compute=stepper.compute)
        totals.setdefault("energies and forces", []).append(1e3 * (clock() - start))
        start = clock()
        loss = torch.dot(stepper.weights, loss_sums(predictions, batch, stepper.terms).sums)
        totals.setdefault("loss", []).append(1e3 * (clock() - start))
        stepper.optimizer.zero_grad()
        timed("gradient", lambda loss=loss: stepper.fabric.backward(loss))
        timed("clip the gradient", stepper._clip_gradient)
        timed("AdamW", lambda: stepper.optimizer.step() and None)
        timed("average weights", lambda: stepper.average.update(1000))
    middle = {name: statistics.median(values[3:]) for name, values in totals.items()}
    total = sum(middle.values())
    print(f"a step with {count} aspirins, {total:.1f} ms")
    for name, value in middle.items():
        print(f"  {name:22s} {value:8.2f} ms {100 * value / total:6.1f}%")
    model = middle["energies and forces"] + middle["gradient"]
    print(f"  {'beside the model':22s} {total - model:8.2f} ms {100 * (1 - model / total):6.1f}%")


def main() -> None:
    """Read options, print tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--aspirins", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processor", action="store_true", help="processor time")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.processor else time.perf_counter
    for count in options.aspirins:
        compare(options, count, clock)
    for count in options.aspirins:
        shares(options, count, clock)


if __name__ == "__main__":
    main()
