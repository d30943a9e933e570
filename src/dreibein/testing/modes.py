"""Training keeps the graph, evaluation detaches, and the input stays as it was."""

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.nn import Potential
from dreibein.testing.probing import available, connected, mode


def assert_training_keeps_graph(potential: Potential, structure: Data) -> None:
    """In training mode a loss on energy, forces and stress reaches the parameters.

    Args:
        potential: With parameters.
        structure: With at least two atoms within the cutoff.
    """
    graph = connected(structure, potential)
    with mode(potential, training=True):
        found = potential(graph, compute=available(structure))
        for name, value in found.items():
            _require(value.requires_grad, f"{name} has lost its graph in training mode")
        parameters = [p for p in potential.parameters() if p.requires_grad]
        loss = torch.stack([(value**2).sum() for value in found.values()]).sum()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    reached = [g for g in gradients if g is not None and bool(torch.isfinite(g).all())]
    _require(bool(reached), "no parameter gets a finite gradient in training mode")


def assert_evaluation_detaches(potential: Potential, structure: Data) -> None:
    """In evaluation mode nothing keeps a graph, so that a simulation does not fill the memory.

    Args:
        potential: Any.
        structure: Any.
    """
    graph = connected(structure, potential)
    with mode(potential, training=False):
        found = potential(graph, compute=available(structure))
    for name, value in found.items():
        _require(not value.requires_grad, f"{name} keeps its graph in evaluation mode")


def assert_works_without_grad(potential: Potential, structure: Data) -> None:
    """Forces come out right under `torch.no_grad` and `torch.inference_mode` too.

    Args:
        potential: Any.
        structure: Any; made outside and inside of inference mode.
    """
    compute = available(structure)
    graph = connected(structure, potential)
    with mode(potential, training=False):
        expected = potential(graph, compute=compute)
        with torch.no_grad():
            _equal(potential(graph, compute=compute), expected, "under no_grad")
        with torch.inference_mode():
            _equal(potential(graph, compute=compute), expected, "under inference_mode")
            inside = connected(structure, potential)
            _equal(potential(inside, compute=compute), expected, "made under inference_mode")


def assert_input_is_unchanged(potential: Potential, structure: Data) -> None:
    """A call changes no tensor of the structure, adds none, and does not touch requires_grad.

    Args:
        potential: Any.
        structure: Any.
    """
    for training in (False, True):
        graph = connected(structure, potential)
        before = dict(graph)
        copies = {n: v.clone() if isinstance(v, Tensor) else v for n, v in before.items()}
        with mode(potential, training=training):
            potential(graph, compute=("energy", "energies", "forces", "virial"))
        after = dict(graph)
        _require(after.keys() == before.keys(), "the call added or removed fields")
        for name, value in after.items():
            _require(value is before[name], f"the call replaced {name}")
            if isinstance(value, Tensor):
                _require(torch.equal(value, copies[name]), f"the call changed {name}")
                _require(not value.requires_grad, f"the call set {name}.requires_grad")


def _equal(found: dict[str, Tensor], expected: dict[str, Tensor], where: str) -> None:
    for name, value in expected.items():
        _require(bool(torch.allclose(found[name], value, rtol=1e-12)), f"{name} differs {where}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
