"""What the training loop costs per step beside the arithmetic.

Three loops over the same batches of nine-atom clusters, interleaved: a bare loop in plain PyTorch
(forward, loss, backward, AdamW) on batches made before, `dreibein.train.fit` (which also joins the
batches, clips the gradient, averages the weights, looks for NaN, and validates and saves once an
epoch), and Lightning's Trainer with everything optional turned off, on batches made before. The
potential is a toy of 24 parameter tensors, so that the loops show; times are processor time.
Run: OMP_NUM_THREADS=1 python benchmarks/loop_overhead.py
"""

import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch_geometric.data import Batch, Data

from dreibein.neighbors import attach_neighbors
from dreibein.systems import make_structure
from dreibein.train import EnergyTerm, Losses, LossTerm, TrainingConfig, fit

CHANNELS, LAYERS, ATOMS, BATCH, STEPS, EPOCHS, ROUNDS = 16, 12, 9, 8, 50, 6, 7
CONFIG = TrainingConfig(
    epochs=EPOCHS,
    batch_size=BATCH,
    lr=1e-4,
    losses=Losses(energy=EnergyTerm(), forces=LossTerm(), stress=None),
)


class Toy(torch.nn.Module):
    """Energies from positions through a few small layers, forces from energies."""

    cutoff = 4.5

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, CHANNELS)
        self.layers = torch.nn.ModuleList(
            torch.nn.Linear(CHANNELS, CHANNELS) for _ in range(LAYERS - 1)
        )

    def forward(self, batch: Batch, compute: tuple[str, ...]) -> dict[str, torch.Tensor]:
        """Energies and forces."""
        pos = batch.pos.float().requires_grad_()
        x = self.first(pos)
        for layer in self.layers:
            x = x + layer(x).tanh()
        energies = x.sum(1).double()
        energy = energies.new_zeros(batch.num_graphs).index_add(0, batch.batch, energies)
        (gradient,) = torch.autograd.grad(energy.sum(), pos, create_graph=True)
        return {"energy": energy, "forces": -gradient.double()}


class Clusters:
    """Random clusters with random labels: only the clock is read here."""

    label_names = ("energy", "forces")

    def __init__(self, size: int) -> None:
        rng = np.random.default_rng(0)
        grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), -1).reshape(-1, 3)[:ATOMS] * 1.3
        self.structures = [
            attach_neighbors(
                make_structure(
                    rng.choice([1, 6, 8], ATOMS),
                    grid + rng.normal(0, 0.1, grid.shape),
                    energy=rng.normal(),
                    forces=rng.normal(size=grid.shape),
                    frame=frame,
                ),
                4.5,
            )
            for frame in range(size)
        ]

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, index: int) -> Data:
        return self.structures[index]

    def describe(self, index: int) -> str:
        """Name of a frame."""
        return f"frame {index}"


class NoMeter:
    """Counts nothing."""

    def update(self, predictions: Any, structures: Any) -> None:
        """Nothing."""

    def state(self) -> torch.Tensor:
        """Nothing."""
        return torch.zeros(1)

    def load_state(self, state: torch.Tensor) -> None:
        """Nothing."""

    def compute(self) -> dict[str, float]:
        """Nothing."""
        return {}


def potential() -> Toy:
    torch.manual_seed(0)
    return Toy()


def loss_of(model: Toy, batch: Batch) -> torch.Tensor:
    found = model(batch, compute=("energy", "forces"))
    energy = torch.nn.functional.huber_loss(found["energy"], batch.energy)
    return energy + torch.nn.functional.huber_loss(found["forces"], batch.forces)


def bare(data: Clusters, batches: list[Batch]) -> float:
    model = potential()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    start = time.process_time()
    for _ in range(EPOCHS):
        for batch in batches:
            loss = loss_of(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return time.process_time() - start


def ours(data: Clusters, batches: list[Batch]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        model = potential()
        start = time.process_time()
        fit(CONFIG, model, data, None, Path(folder), meter=NoMeter)
        return time.process_time() - start


def trainer(data: Clusters, batches: list[Batch]) -> float:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.potential = potential()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-4, fused=True)

        def training_step(self, batch: Batch, index: int) -> torch.Tensor:
            return loss_of(self.potential, batch)

    run = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=EPOCHS,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        gradient_clip_val=10.0,
    )
    module = Module()
    start = time.process_time()
    run.fit(module, DataLoader(batches, batch_size=None))
    return time.process_time() - start


def main() -> None:
    """Print milliseconds of processor time a step, best of the rounds."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = Clusters(BATCH * STEPS)
    batches = [
        Batch.from_data_list(data.structures[k : k + BATCH]) for k in range(0, len(data), BATCH)
    ]
    loops: dict[str, Callable[[Clusters, list[Batch]], float]] = {
        "bare loop": bare,
        "dreibein.train.fit": ours,
        "Lightning Trainer": trainer,
    }
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(ROUNDS):
        for name, loop in loops.items():
            times[name].append(1e3 * loop(data, batches) / (STEPS * EPOCHS))
    base = min(times["bare loop"])
    for name, found in times.items():
        extra = min(found) - base
        print(f"{name:20s} {min(found):7.2f} ms a step   {extra:+6.2f} ms")


if __name__ == "__main__":
    main()
