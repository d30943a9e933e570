"""A potential at fixed weights, evaluated by the fastest way that its network has."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.neighbors.parts import Part, Parts
from dreibein.nn.compiled import CompiledFrames
from dreibein.nn.derivatives import gradients, strained, stress_from_strain_gradient
from dreibein.nn.memory import (
    Cost,
    cost_of,
    groups,
    parts_within,
    reaches,
    size_text,
    structure_costs,
)
from dreibein.nn.potential import Potential
from dreibein.nn.response import applied_field, has_field
from dreibein.nn.terms.sums import term_gradients
from dreibein.nn.uncertainty import UNCERTAINTIES
from dreibein.systems.graphs import batch_index, within

Numbers = np.ndarray[Any, Any]
Gradients = tuple[Numbers, Numbers, Numbers]
"""Energies [N], dE/dx [N, 3] and dE/d(strain) [B, 3, 3]."""
logger = logging.getLogger(__name__)

BACKENDS = ("reference", "fused", "cuda", "compiled")
FUSED_OUTPUTS = frozenset(("energy", "energies", "forces", "stress", "virial"))


class Engine(Protocol):
    """A network's energies and gradients without autograd, at the weights it was made with."""

    def __call__(
        self, structures: Data, *, gradients: bool, scale: float, levels: Sequence[int] | None
    ) -> tuple[Numbers, Numbers, Numbers]:
        """Energies [N], dE/dx [N, 3] and dE/d(strain) [B, 3, 3] of scale times the network.

        Arrays in float64 that the caller may change. Neighbors stand in both directions, sorted by
        receiver, and may include pairs beyond the cutoff. With levels (how many atoms count, how
        many are within 1, 2, ... edges of them; they stand in this order, and only the last ones'
        own neighbors are missing) the energies of those that count and the gradients of their sum.
        """

    def cost(self) -> tuple[float, float, float]:
        """Bytes that a call takes for each atom, each that is only heard by others, each pair."""

    def describe(self) -> str:
        """How it was made, in a few words."""


def backends_of(potential: Potential) -> tuple[str, ...]:
    """Names of the ways that need no preparation; "reference" is always there.

    "compiled" is not among them: whether torch can trace a network shows when it tries.

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


def _gradients(
    potential: Potential, structures: Data, count: int, differentiate: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Energies of the first atoms, and the gradients of their sum, by autograd."""
    batch, structure_count = batch_index(structures)
    with torch.inference_mode(False), torch.set_grad_enabled(differentiate):
        places = structures.pos.detach().requires_grad_(differentiate)
        pos, cell, strain = strained(places, structures.cell, batch)
        field = None
        if potential.field_order:
            field = applied_field(structures, structure_count, differentiate=False)
        energies = potential.atomic_energies(structures, pos, cell, field)[:count]
        found = gradients(energies, [places, strain], create_graph=False)
    return energies.detach(), found[0], found[1]


def _differentiate(wanted: frozenset[str]) -> bool:
    return bool(wanted - {"energy", "energies"})


def _results(
    structures: Data, wanted: frozenset[str], energies: Numbers, gradient: Numbers, strain: Numbers
) -> dict[str, Tensor]:
    """What is wanted, of energies [N], dE/dx [N, 3] and dE/d(strain) [B, 3, 3]."""
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


class FrozenPotential:
    """Values of a potential at its present weights; later changes of them are not seen.

    "reference" is the potential itself, by autograd. "fused" is the engine that its network offers:
    the same numbers to the error of its radial tables and of float32. "auto" takes the engine where
    there is one and the potential is in float32, unless it cannot be made (the log says why); a
    potential in float64 was asked for exact numbers and keeps them unless "fused" is named.
    "cuda" is the potential by autograd with Triton's operators, exact to rounding: "auto" takes it
    on a GPU where there is one. "compiled" is the potential, forward and back, by programs of fixed
    shape that `torch.compile` makes when a structure of another size comes (about a minute each):
    CUDA graphs on a GPU, for dynamics of one small system. Structures come one at a time, others
    are evaluated by autograd.

    With a limit of memory, structures that need more are evaluated some at a time, and one that
    alone needs more in parts: some atoms with all that their energies hear. The numbers are the
    same to rounding.

    Args:
        potential: Set to evaluation mode here.
        backend: "auto", "reference", "fused", "cuda" or "compiled".
        memory: Bytes that an evaluation may take beyond structures and neighbor lists, counted
            (an engine) or measured on a small sample (autograd); None for no limit.

    Attributes:
        potential: As given.
        backend: What runs, one of `BACKENDS`.
        memory: As given.

    Raises:
        ValueError: A backend that there is not, for this potential, or that cannot be made; a limit
            that is not positive.
    """

    def __init__(
        self, potential: Potential, backend: str = "auto", *, memory: float | None = None
    ) -> None:
        if memory is not None and not memory > 0.0:
            raise ValueError(
                f"the memory limit is {memory} bytes: give more than 0, or None for no limit"
            )
        self.memory, self._told = memory, (0, 0)
        self._costs: dict[bool, Cost] = {}
        there = backends_of(potential)
        there = (*there, "compiled") if potential.has_energy else there
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
        self._compiled: CompiledFrames | None = None
        if backend == "compiled":
            self._compiled = CompiledFrames(self.potential)
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
        if self.memory is None:
            return self._described()
        cost = self._cost(self._engine is not None)
        return f"{self._described()}; {size_text(self.memory)} at most, {cost.describe()}"

    def _described(self) -> str:
        if self.backend == "cuda":
            return f"cuda (Triton operators, autograd, {self._precision})"
        if self._compiled is not None:
            return f"compiled ({self._compiled.describe()}, {self._precision})"
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

        Raises:
            ValueError: The limit of memory cannot be kept: a single atom with all that it hears
                needs more, or one structure does and what is computed (or the potential) permits
                no parts.
        """
        names = tuple(compute)
        wanted = frozenset(names)
        if self.memory is None:
            return self._at_once(structures, names)
        cost = self._cost(self._engine_serves(structures) and wanted <= FUSED_OUTPUTS)
        pairs = structures.edge_index.shape[1]
        if cost.of(len(structures.z), pairs, pairs) <= self.memory:
            return self._at_once(structures, names)
        return self._within(self.memory, cost, structures, names)

    def _within(
        self, limit: float, cost: Cost, structures: Data, names: tuple[str, ...]
    ) -> dict[str, Tensor]:
        """The same in groups of structures, and in parts of one, that fit a limit in bytes."""
        parts, wanted = Parts(structures), frozenset(names)
        cutoff = float(self.potential.network.cutoff)  # type: ignore[arg-type]
        costs = structure_costs(parts, cutoff, cutoff == self.potential.cutoff, cost)
        bounds = groups(costs, limit)
        if len(bounds) > 1 and "hessian" in wanted:
            raise ValueError(
                "Hessians of several structures come together, and these do not fit the memory "
                "limit: evaluate them one by one, or raise the limit"
            )
        found, count, atoms = [], 0, 0
        for first, last in bounds:
            whole = parts.together(first, last)
            if sum(costs[first:last]) <= limit:
                found.append(self._at_once(parts.take(whole), names))
                count, atoms = count + 1, atoms + len(whole.atoms)
                continue
            if not wanted <= FUSED_OUTPUTS:
                raise ValueError(
                    f"one structure of {len(whole.atoms)} atoms is too large for the memory limit, "
                    f"and {', '.join(sorted(wanted - FUSED_OUTPUTS))} cannot be computed in parts: "
                    "raise the limit"
                )
            chosen = parts_within(parts, first, reaches(self.potential), cost, limit)
            results, *more = self._summed(parts, whole, chosen, wanted)
            found.append(results)
            count, atoms = count + more[0], atoms + more[1]
        if (count, atoms) != self._told:
            self._told = count, atoms
            logger.info(
                "%d atoms in %d parts of at most %s, %d atoms with those that they hear",
                len(structures.z), count, size_text(limit), atoms,
            )  # fmt: skip
        return {name: torch.cat([one[name] for one in found]) for name in found[0]}

    def _summed(
        self, parts: Parts, whole: Part, chosen: Iterable[Part], wanted: frozenset[str]
    ) -> tuple[dict[str, Tensor], int, int]:
        """One structure by parts that own each atom once; how many they are, and their atoms."""
        structure = parts.take(replace(whole, pairs=whole.pairs[:0])).cpu()
        energies, gradient = np.zeros(len(whole.atoms)), np.zeros((len(whole.atoms), 3))
        strain, count, atoms = np.zeros((1, 3, 3)), 0, 0
        for part in chosen:
            of_atoms, slope, stretch = self._owned(parts.take(part), part.levels, wanted)
            energies[part.owned - whole.atoms[0]] = of_atoms
            gradient[part.atoms - whole.atoms[0]] += slope
            strain += stretch
            count, atoms = count + 1, atoms + len(part.atoms)
        results = _results(structure, wanted, energies, gradient, strain)
        device = self.potential.device
        return {name: value.to(device) for name, value in results.items()}, count, atoms

    def _engine_serves(self, structures: Data) -> bool:
        """Whether there is an engine, and it hears all that the network hears of structures."""
        return self._engine is not None and not self._beyond(structures)

    def _beyond(self, structures: Data) -> bool:
        """Whether the network hears a field, a charge or a spin that nothing but itself does."""
        if self.potential.field_order and has_field(structures):
            return True
        return self._in_state is not None and bool(self._in_state(structures))

    def _cost(self, engine: bool) -> Cost:
        """Bytes of an atom and of a pair, by the engine or by autograd."""
        if engine not in self._costs:
            of_engine = self._engine.cost() if engine and self._engine is not None else None
            self._costs[engine] = cost_of(self.potential, of_engine)
        return self._costs[engine]

    def _at_once(self, structures: Data, names: tuple[str, ...]) -> dict[str, Tensor]:
        wanted = frozenset(names)
        targets = tuple(name for name in names if name in self._targets)
        faster = self._engine is not None or self._compiled is not None
        if faster and targets and wanted != frozenset(targets):
            rest = tuple(name for name in names if name not in self._targets)
            return self._at_once(structures, targets) | self._at_once(structures, rest)
        plain = wanted <= FUSED_OUTPUTS and not self._beyond(structures)
        if plain and self._compiled is not None and self._compiled.takes(structures):
            return self._compiled(structures, wanted)
        if self._compiled is not None:  # the list may be one with a skin
            structures = within(structures, self.potential.cutoff)
        if not (plain and self._engine is not None):
            with self._sums():
                return self.potential(structures, compute=names)
        return _results(structures, wanted, *self._fused(structures, _differentiate(wanted)))

    def _owned(self, structures: Data, levels: Sequence[int], wanted: frozenset[str]) -> Gradients:
        """Energies of the first atoms of a part, which count, and the gradients of their sum."""
        if self._engine_serves(structures):
            return self._fused(structures, _differentiate(wanted), levels)
        with self._sums():
            found = _gradients(self.potential, structures, levels[0], _differentiate(wanted))
        energies, gradient, strain = (x.cpu().numpy() for x in found)
        return energies, gradient, strain

    def _fused(
        self, structures: Data, differentiate: bool, levels: Sequence[int] | None = None
    ) -> Gradients:
        """Energies of all atoms, or of the first ones which count, and gradients of their sum."""
        assert self._engine is not None
        network, gradient, strain = self._engine(
            self.potential.network_view(structures),
            gradients=differentiate,
            scale=self._scale,
            # those at the end of the reach hear none
            levels=None if levels is None else levels[:-1],
        )
        energies = self._offset[structures.z.numpy()[: len(network)]] + network
        if self.potential.terms:
            count = None if levels is None else levels[0]
            extra, *slopes = term_gradients(self.potential.terms, structures, count)
            energies += extra.numpy()
            for sum_, slope in zip((gradient, strain), slopes, strict=True):
                sum_ += slope.numpy()
        return energies, gradient, strain

    @contextmanager
    def _sums(self) -> Iterator[None]:
        """Within: the network's sums on a GPU are by the backend that was named."""
        network: Any = self.potential.network
        if self.potential.device.type != "cuda" or not hasattr(network, "sums_backend"):
            yield
            return
        before = network.backend
        network.backend = "auto" if self.backend == "compiled" else self.backend
        try:
            yield
        finally:
            network.backend = before

    @property
    def _precision(self) -> str:
        return str(self.potential.dtype).removeprefix("torch.")
