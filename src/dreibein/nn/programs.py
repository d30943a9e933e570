"""A potential as one graph of torch operators, forward and back: to be exported or compiled."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, fx
from torch_geometric.data import Data

from dreibein.nn.constant_folding import fold_constants
from dreibein.nn.derivatives import gradients, strained
from dreibein.nn.potential import Potential

Frame = tuple[Tensor, ...]
"""z, pos, cell, edge_index, shift, charge, owned: see `evaluate_frame`."""


def evaluate_frame(
    potential: Potential,
    z: Tensor,
    pos: Tensor,
    cell: Tensor,
    edge_index: Tensor,
    shift: Tensor,
    charge: Tensor,
    owned: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Energy [1] of owned atoms, energies [N], forces [N, 3], virial [3, 3], by autograd.

    Args:
        potential: In evaluation mode.
        z: Atomic numbers [N].
        pos: [N, 3] float64 in Å.
        cell: [3, 3] float64 in Å, vectors as rows; zeros for none.
        edge_index: [2, E]; row 0 the sender j, row 1 the receiver i, both directions.
        shift: [E, 3] int64; the edge is pos[j] + shift · cell - pos[i].
        charge: Total charge [1] float64 in e.
        owned: Weight of each atom's energy [N] float64, usually 1.
    """
    batch = torch.zeros_like(z)
    structure = Data(
        z=z, pos=pos, cell=cell.unsqueeze(0), edge_index=edge_index, shift=shift, charge=charge,
        pbc=torch.ones(1, 3, dtype=torch.bool, device=z.device), batch=batch, num_graphs=1,
    )  # fmt: skip
    with torch.enable_grad():
        pos = pos.detach().requires_grad_()
        moved, cells, strain = strained(pos, structure.cell, batch)
        energies = potential.atomic_energies(structure, moved, cells)
        energy = (energies * owned).sum().unsqueeze(0)
        slopes = gradients(energy, [pos, strain], create_graph=False)
    return energy.detach(), energies.detach(), -slopes[0], -slopes[1][0]


def frozen_copy(potential: Potential) -> Potential:
    """A copy in evaluation mode whose weights are constants."""
    return copy.deepcopy(potential).eval().requires_grad_(False)


@contextmanager
def detached() -> Iterator[None]:
    """Outside inference mode, whose tensors cannot be differentiated."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def trace(frozen: Potential, example: Frame, sizes: Literal["symbolic", "fake"]) -> fx.GraphModule:
    """The graph of `evaluate_frame`; what depends on weights alone is computed here.

    Args:
        frozen: From `frozen_copy`.
        example: A frame of the shapes to trace.
        sizes: "symbolic" for any number of atoms and edges, "fake" for those of the example.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    def evaluate(
        z: Tensor, pos: Tensor, cell: Tensor, edges: Tensor, shift: Tensor, charge: Tensor,
        owned: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        return evaluate_frame(frozen, z, pos, cell, edges, shift, charge, owned)

    with detached():
        evaluate_frame(frozen, *example)  # constants that are cached are made of real numbers
        tracer: Any = make_fx(evaluate, tracing_mode=sizes, _allow_non_fake_inputs=True)
        graph: fx.GraphModule = tracer(*example)
        fold_constants(graph)
    return graph


def untraced(error: Exception) -> str:
    """Why there is no graph; torch raises many kinds of errors, from many places."""
    first = str(error).strip().split("\n")[0] or type(error).__name__
    return f"torch could not trace it: {first}"
