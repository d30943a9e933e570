"""torchmd-net 3.1 in all of its modes: Warp kernels or none, padded shapes, compiled, cell list."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torchmdnet.models.tensornet as implementation
from cases import Case, Size
from torch import Tensor
from torchmdnet.models.model import create_model
from torchmdnet.models.utils import OptimizedDistance

MAX_Z = 10
SEED = 0
# what the module binds at import when Warp is there, and what it would bind without
SWITCHED = ("compose_tensor", "decompose_tensor", "tensor_matmul_o3", "tensor_matmul_so3")
WITH_WARP = {name: getattr(implementation, name) for name in SWITCHED} | {"OPT": True}
WITHOUT = {name: getattr(implementation, f"_{name}") for name in SWITCHED} | {"OPT": False}
CELL_FROM = 1000  # atoms; below, the brute-force search is faster
COMPILE_UP_TO = 2000  # atoms; compiling takes minutes and the gain shrinks with the size


@dataclass(frozen=True)
class Mode:
    """One way to run it.

    Attributes:
        warp: Its Warp kernels (the module global OPT).
        static: Neighbor list padded to a fixed number of pairs.
        compiled: torch.compile (inductor, needs the padding).
        cell: Cell list instead of the default brute-force search.
    """

    warp: bool = True
    static: bool = False
    compiled: bool = False
    cell: bool = False


MODES = {
    "warp": Mode(),
    "plain": Mode(warp=False),
    "warp, padded": Mode(static=True),
    "plain, padded": Mode(warp=False, static=True),
    "warp, cell list": Mode(cell=True),
    "warp, compiled": Mode(static=True, compiled=True),
    "plain, compiled": Mode(warp=False, static=True, compiled=True),
}


def modes_for(case: Case, training: bool) -> list[str]:
    """Modes that make sense: cell lists for large boxes, compiling for small systems."""
    kept = []
    for name, mode in MODES.items():
        if mode.cell and (case.num_atoms < CELL_FROM or not case.cell):
            continue
        # torch.compile cannot differentiate twice, which a loss on forces asks for
        if mode.compiled and (training or case.num_atoms > COMPILE_UP_TO):
            continue
        kept.append(name)
    return kept


@contextmanager
def bound(mode: Mode) -> Iterator[None]:
    """Bind the functions of the module as the mode wants them."""
    vars(implementation).update(WITH_WARP if mode.warp else WITHOUT)
    try:
        yield
    finally:
        vars(implementation).update(WITH_WARP)


def make(size: Size, mode: Mode, *, derivative: bool, max_neighbors: int) -> torch.nn.Module:
    """TensorNet of `create_model` with seeded random weights."""
    torch.manual_seed(SEED)
    with bound(mode):
        return create_model(
            {
                "model": "tensornet",
                "embedding_dimension": size.channels,
                "num_layers": size.layers,
                "num_rbf": size.num_radial,
                "rbf_type": "expnorm",
                "trainable_rbf": False,
                "activation": "silu",
                "cutoff_lower": 0.0,
                "cutoff_upper": size.cutoff,
                "max_z": MAX_Z,
                "max_num_neighbors": max_neighbors,
                "equivariance_invariance_group": "O(3)",
                "static_shapes": mode.static,
                "prior_model": None,
                "output_model": "Scalar",
                "reduce_op": "sum",
                "precision": 32,
                "derivative": derivative,
                "atom_filter": -1,
            }
        )


class Inputs:
    """Numbers, batch and box of a case as the model's forward takes them."""

    def __init__(self, case: Case) -> None:
        self.z = torch.from_numpy(np.tile(case.numbers, case.copies)).long()
        self.batch = torch.arange(case.copies).repeat_interleave(len(case.numbers))
        self.box = torch.eye(3) * case.cell if case.cell else None


def positions(frame: np.ndarray) -> Tensor:
    """Positions of all atoms of a call in float32 [N, 3]."""
    return torch.from_numpy(frame.reshape(-1, 3)).float()


def evaluator(
    case: Case, size: Size, name: str, max_neighbors: int
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Energies and forces of a frame; weights frozen, element pairs precomputed.

    `setup_for_inference` (a table of element pairs) helps every mode and is always on.
    """
    mode = MODES[name]
    model = make(size, mode, derivative=not mode.compiled, max_neighbors=max_neighbors).eval()
    inputs = Inputs(case)
    for parameter in model.parameters():
        parameter.requires_grad = False
    representation = model.representation_model
    representation.setup_for_inference(inputs.z, inputs.batch)
    if mode.cell:
        representation.distance = OptimizedDistance(
            0.0,
            size.cutoff,
            max_num_pairs=-max_neighbors,
            return_vecs=True,
            loop=True,
            strategy="cell",
            box=inputs.box,
        )

    def call(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with bound(mode):
            energy, forces = model(inputs.z, positions(frame), inputs.batch, inputs.box)
        return energy.detach().numpy().ravel(), forces.detach().numpy()

    if not mode.compiled:
        return call
    first = positions(case.frames(1, seed=0)[0])
    with bound(mode), torch.no_grad():  # its calculator does so too: sizes are frozen here
        model(inputs.z, first, inputs.batch, inputs.box)
    warnings.filterwarnings("ignore")
    run = torch.compile(model, backend="inductor", dynamic=False)

    def compiled(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = positions(frame).requires_grad_()
        with bound(mode):
            energy = run(inputs.z, x, inputs.batch, inputs.box)[0]
            energy.sum().backward()
        return energy.detach().numpy().ravel(), -x.grad.numpy()

    return compiled


def trainer(
    case: Case, size: Size, name: str, max_neighbors: int
) -> Callable[[np.ndarray, Tensor, Tensor], float]:
    """One AdamW step on the mean squared errors of energies and forces; returns the loss."""
    mode = MODES[name]
    model = make(size, mode, derivative=True, max_neighbors=max_neighbors).train()
    inputs = Inputs(case)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)

    def step(frame: np.ndarray, energies: Tensor, forces: Tensor) -> float:
        optimizer.zero_grad()
        with bound(mode):
            energy, force = model(inputs.z, positions(frame), inputs.batch, inputs.box)
            loss = (energy.ravel() - energies.float()).square().mean()
            loss = loss + (force - forces.float()).square().mean()
            loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def weights(size: Size) -> dict[str, Tensor]:
    """Its parameters and buffers by its own names."""
    return make(size, MODES["plain"], derivative=True, max_neighbors=64).state_dict()
