"""Train the part that answers to the field alone, all layers fixed: seconds, as features are kept.

    python benchmarks/response/settle.py MODEL turned/nma_a.extxyz settled.safetensors

Energies and forces without a field stay what they are; dipole and polarizability improve where the
whole model was stopped early.
"""

import argparse
import time
from pathlib import Path

import ase.io
import numpy as np
import torch
from errors import label, structure

from dreibein.models import load_model, save_model
from dreibein.models.tensornet.network import block_norms
from dreibein.nn.response import responses
from dreibein.systems.graphs import make_graph
from dreibein.systems.structures import join

WANTED = frozenset(("dipole", "polarizability"))


def main() -> None:
    """Cache features, train, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("frames", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    options = parser.parse_args()
    torch.manual_seed(0)
    potential = load_model(options.model)
    network, scale = potential.network, float(potential.scale)
    frames = ase.io.read(options.frames, ":")
    labels = {
        name: torch.tensor(np.array([label(a, name) for a in frames])).double()
        for name in ("external_field", *sorted(WANTED))
    }
    features = []
    with torch.no_grad():
        for start in range(0, len(frames), 64):
            batch = join([structure(a, potential) for a in frames[start : start + 64]])
            graph = make_graph(batch, batch.pos, batch.cell, potential.dtype)
            features.append(network.tensor_features(graph))
    count = len(frames[0])
    x = torch.cat(features).unflatten(0, (len(frames), count))
    norms = block_norms(x.flatten(0, 1)).flatten(1).unflatten(0, (len(frames), count))
    spread = {name: labels[name].std(0).square().mean().sqrt() for name in WANTED}
    head = network.field_energy
    optimizer = torch.optim.AdamW(head.parameters(), lr=options.lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.lr, options.steps, pct_start=0.05
    )
    began, told = time.process_time(), 0.0
    for step in range(options.steps):
        rows = torch.randint(len(frames), (options.batch,))
        field = labels["external_field"][rows].requires_grad_()
        inner = field.to(x.dtype).repeat_interleave(count, 0)
        energy = scale * head(x[rows].flatten(0, 1), norms[rows].flatten(0, 1), inner).double()
        (slope,) = torch.autograd.grad(energy.sum(), field, create_graph=True)
        found = responses(-slope, field, field, WANTED, create_graph=True)
        errors = {name: (found[name] - labels[name][rows]) / spread[name] for name in WANTED}
        loss = sum(torch.nn.functional.smooth_l1_loss(e, 0 * e, beta=0.02) for e in errors.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        told += float(loss.detach())
        if (step + 1) % 250 == 0:
            shares = {
                n: f"{100 * float(e.detach().square().mean().sqrt()):.2f}%"
                for n, e in errors.items()
            }
            print(
                step + 1,
                f"{told / 250:.4f}",
                shares,
                f"{time.process_time() - began:.0f} s",
                flush=True,
            )
            told = 0.0
    save_model(potential.eval(), options.output)


if __name__ == "__main__":
    main()
