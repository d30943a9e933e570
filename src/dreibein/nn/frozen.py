"""A potential at fixed weights, evaluated by the fastest way that its network has."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.nn.derivatives import stress_from_strain_gradient
from dreibein.nn.potential import Potential
from dreibein.nn.response import has_field
from dreibein.nn.terms.sums import term_gradients
from dreibein.nn.uncertainty import UNCERTAINTIES

Numbers = np.ndarray[Any, Any]
logger = logging.getLogger(__name__)

BACKENDS = ("reference", "fused", "cuda")
FUSED_OUTPUTS = frozenset(("energy", "energies", "forces", "stress", "virial"))


class Engine(Protocol):
    """A network's energies and gradients without autograd, at the weights it was made with."""

    def __call__(
        self, structures: Data, *, gradients: bool, scale: float
    ) -> tuple[Numbers, Numbers, Numbers]:
        """Energies [N], dE/dx [N, 3] and dE/d(strain) [B, 3, 3] of scale times the network.

        Arrays in float64 that the caller may change. Neighbors stand in both directions, sorted by
        receiver, and may include pairs beyond the cutoff.
        """

    def describe(self) -> str:
        """How it was made, in a few words."""


def backends_of(potential: Potential) -> tuple[str, ...]:
    """Names of the ways in which this potential can be evaluated; "reference" is always there.

    A network offers "fused" by a method `engine()` that returns an `Engine`, on the CPU, and "cuda"
    by a method `sums_backend(device, dtype)` that answers so.
    """
    network: Any = potential.network
    there = ["reference"]
    able = hasattr(network, "engine") and potential.has_energy
    if able and potential.device.type == "cpu":
        there.append("fused")
    if sums_on(potential, potential.device) == "cuda":
        there.append("cuda")
    return tuple(there)


def sums_on(potential: Potential, device: torch.device) -> str:
    """What would take the network's sums over edges on a device: "cuda" for Triton's operators.

    "fused" or "reference" otherwise.
    """
    network: Any = potential.network
    if not hasattr(network, "sums_backend"):
        return "reference"
    try:
        return str(network.sums_backend(device, potential.dtype))
    except ValueError:  # bound to a backend that is not there
        return "reference"


def _totals(energies: Numbers, structures: Data) -> Numbers:
    """Sums over the atoms of each structure [B]."""
    batch = structures.get("batch")
    if batch is None:
        return energies.sum(keepdims=True)
    return np.bincount(batch.numpy(), energies, minlength=structures.num_graphs)


class FrozenPotential:
    """Values of a potential at its present weights; later changes of them are not seen.

    "reference" is the potential itself, by autograd. "fused" is the engine that its network offers:
    the same numbers to the error of its radial tables and of float32. "auto" takes the engine where
    there is one and the potential is in float32, unless it cannot be made (the log says why); a
    potential in float64 was asked for exact numbers and keeps them unless "fused" is named.
    "cuda" is the potential by autograd with Triton's operators, exact to rounding: "auto" takes it
    on a GPU where there is one.

    Args:
        potential: Set to evaluation mode here.
        backend: "auto", "reference", "fused" or "cuda".

    Attributes:
        potential: As given.
        backend: What runs, "reference", "fused" or "cuda".

    Raises:
        ValueError: A backend that there is not, for this potential, or that cannot be made.
    """

    def __init__(self, potential: Potential, backend: str = "auto") -> None:
        there = backends_of(potential)
        if backend not in ("auto", *BACKENDS):
            raise ValueError(f"there is no backend '{backend}'; choose auto, {', '.join(BACKENDS)}")
        automatic = backend == "auto"
        if automatic:
            single = "fused" in there and potential.dtype == torch.float32
            backend = "cuda" if "cuda" in there else "fused" if single else "reference"
        if backend not in there:
            raise ValueError(
                f"{type(potential.network).__name__} on {potential.device} cannot be evaluated by "
                f"'{backend}'; choose from {', '.join(there)}"
            )
        self.potential = potential.eval()
        self._scale = float(potential.scale)
        self._offset = (potential.reference + potential.shift).detach().cpu().numpy()
        self._targets = frozenset((*potential.targets, *UNCERTAINTIES))
        self._in_state = getattr(potential.network, "in_state", None)
        self._engine: Engine | None = None
        if backend == "fused":
            network: Any = potential.network
            try:
                self._engine = network.engine()
            except ValueError as error:
                if not automatic:
                    raise
                logger.warning("evaluated by autograd, which is slower: %s", error)
                backend = "reference"
        self.backend = backend

    def describe(self) -> str:
        """What runs and why, in one line."""
        if self.backend == "cuda":
            return f"cuda (Triton operators, autograd, {self._precision})"
        if self._engine is None:
            return f"reference (autograd, {self._precision})"
        described = f"fused ({self._engine.describe()}, {self._precision})"
        terms = ", ".join(term.describe() for term in self.potential.terms)
        described = f"{described} + {terms} by autograd" if terms else described
        targets = ", ".join(self.potential.targets)
        return f"{described}; {targets} by the reference" if targets else described

    def __call__(
        self, structures: Data, compute: Iterable[str] = ("energy", "forces")
    ) -> dict[str, Tensor]:
        """What `Potential` returns in evaluation mode for the same arguments.

        Anything that the engine does not give (a Hessian, a structure in an electric field, or
        with a charge or spin that the network embeds) comes from the potential itself.
        """
        wanted = frozenset(compute)
        targets = wanted & self._targets
        if self._engine is not None and targets and wanted != targets:
            found = self.potential(structures, compute=tuple(targets))
            return found | self(structures, compute=tuple(wanted - targets))
        in_field = self.potential.field_order and has_field(structures)
        beyond = in_field or (self._in_state is not None and self._in_state(structures))
        if self._engine is None or beyond or not wanted <= FUSED_OUTPUTS:
            with self._sums():
                return self.potential(structures, compute=tuple(compute))
        gradients = bool(wanted - {"energy", "energies"})
        potential, z = self.potential, structures.z.numpy()
        near = potential.network_view(structures)
        network, gradient, strain = self._engine(near, gradients=gradients, scale=self._scale)
        energies = self._offset[z] + network
        if potential.terms:
            extra, *slopes = term_gradients(potential.terms, structures)
            energies += extra.numpy()
            for sum_, slope in zip((gradient, strain), slopes, strict=True):
                sum_ += slope.numpy()
        results = {"energies": energies}
        if "energy" in wanted:
            results["energy"] = _totals(energies, structures)
        if "forces" in wanted:
            results["forces"] = np.negative(gradient, out=gradient)
        if "virial" in wanted:
            results["virial"] = -strain
        found = {name: torch.from_numpy(v) for name, v in results.items() if name in wanted}
        if "stress" in wanted:
            found["stress"] = stress_from_strain_gradient(
                torch.from_numpy(strain), structures.cell, structures.pbc
            )
        return found

    @contextmanager
    def _sums(self) -> Iterator[None]:
        """Within: the network's sums on a GPU are by the backend that was named."""
        network: Any = self.potential.network
        if self.potential.device.type != "cuda" or not hasattr(network, "sums_backend"):
            yield
            return
        before, network.backend = network.backend, self.backend
        try:
            yield
        finally:
            network.backend = before

    @property
    def _precision(self) -> str:
        return str(self.potential.dtype).removeprefix("torch.")
