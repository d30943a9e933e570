"""Processes and devices of a run, through Lightning Fabric."""

import os
import warnings
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy
from torch import Tensor

from dreibein.train.checkpoints import AtomicCheckpointIO
from dreibein.train.config import TrainingConfig


def launch(config: TrainingConfig) -> Fabric:
    """Start (or join) the processes of a run; call once, before anything is loaded.

    Under torchrun the numbers of devices and nodes are those of torchrun. With several devices
    and no torchrun, Lightning starts the same command once more per further device.

    Raises:
        ValueError: The accelerator is not there, or a batch is smaller than the processes.
    """
    accelerator, devices, num_nodes = _hardware(config)
    world_size = devices * num_nodes
    if config.batch_size < world_size:
        raise ValueError(
            f"training.batch_size is {config.batch_size}, but {world_size} processes share each "
            f"batch: raise it to {world_size} or more"
        )
    strategy: Any = "auto"
    if world_size > 1:
        # nothing in a potential changes its buffers, and every weight takes part in the energy
        strategy = DDPStrategy(broadcast_buffers=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=strategy,
            plugins=[AtomicCheckpointIO()],
        )
        fabric.launch()
    return fabric


def add_up(fabric: Fabric, tensor: Tensor) -> Tensor:
    """Sum of a tensor over all processes, on each of them."""
    if fabric.world_size == 1:
        return tensor
    total = fabric.all_reduce(tensor, reduce_op="sum")
    assert isinstance(total, Tensor)
    return total


def _hardware(config: TrainingConfig) -> tuple[str, int, int]:
    """Accelerator, devices on each node, nodes."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    accelerator = config.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if gpus else "cpu"
    if accelerator == "cuda" and not gpus:
        raise ValueError("training.accelerator is 'cuda', but torch finds no GPU: use 'auto'")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return accelerator, local, int(os.environ["WORLD_SIZE"]) // local
    devices = config.devices
    if devices == "auto":
        devices = gpus if accelerator == "cuda" else 1
    if accelerator == "cuda" and devices > gpus:
        raise ValueError(f"training.devices is {devices}, but this machine has {gpus} GPU(s)")
    return accelerator, devices, config.num_nodes
