"""A potential: energies of structures from a network, and everything that derives from them."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn
from torch_geometric.data import Data

from dreibein.nn.derivatives import (
    forces_from_pull,
    gradients,
    hessian,
    strain_gradient_from_pull,
    strained,
    stress_from_strain_gradient,
)
from dreibein.nn.elements import NUM_ELEMENTS
from dreibein.nn.heads import TargetHead
from dreibein.nn.response import RESPONSES, applied_field, has_field, responses, responses_of
from dreibein.nn.terms.sums import term_energies, term_gradients
from dreibein.nn.terms.term import Term
from dreibein.nn.uncertainty import ENERGY_UNCERTAINTY, UNCERTAINTIES, LastLayerUncertainty
from dreibein.systems.graphs import batch_index, edge_vectors, make_graph, within

OUTPUTS = ("energy", "energies", "forces", "stress", "virial", "hessian")


class Potential(nn.Module):
    """E = sum_i (reference_{z_i} + shift + scale · network_i) + terms, summed in float64.

    Every room above knows this class and never the network inside. The network takes a
    `Graph` and returns one number per atom [N]; it has `cutoff`, `elements` and `config`, and
    `hops`, how many edges away an atom is heard, where that has an end.

    Args:
        network: The network.
        reference_energies: Energy of each element in eV; missing elements count as 0.
        scale: Unit of the network's output in eV.
        shift: Energy of every atom in eV, whatever its element: the mean binding energy, where
            the references are those of isolated atoms.
        card: What is known of the model's making, JSON-able.
        terms: Physical terms of the energy, in eV: neither scaled nor shifted.
        targets: Heads of what is predicted beside the energy, by name; the network has
            `irreps_features(graph)`. Its `config.energy` may be False: then there is no energy.
    """

    reference: Tensor
    scale: Tensor
    shift: Tensor
    terms: Any  # a ModuleList of `Term`
    targets: Any  # a ModuleDict of `TargetHead`
    uncertainty: LastLayerUncertainty | None

    def __init__(
        self,
        network: nn.Module,
        *,
        reference_energies: Mapping[int, float] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
        card: dict[str, Any] | None = None,
        terms: Iterable[Term] = (),
        targets: Mapping[str, TargetHead] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.terms = nn.ModuleList(terms)
        self.targets = nn.ModuleDict(dict(targets or {}))
        self.uncertainty = None  # made from training data, see `dreibein.recipes.calibrate`
        self.card: dict[str, Any] = dict(card or {})
        self.elements: tuple[int, ...] = tuple(network.elements)  # type: ignore[arg-type]
        # NaN for elements the network never saw: a wrong use gives no number, not a wrong one
        reference = torch.full((NUM_ELEMENTS + 1,), torch.nan, dtype=torch.float64)
        for z in self.elements:
            reference[z] = float((reference_energies or {}).get(z, 0.0))
        self.register_buffer("reference", reference)
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float64))
        self.register_buffer("shift", torch.tensor(float(shift), dtype=torch.float64))

    @property
    def config(self) -> Any:
        """Hyperparameters of the network."""
        return self.network.config

    @property
    def cutoff(self) -> float:
        """Range of the neighbor list that the network and the terms need, in Å."""
        own = float(self.network.cutoff)  # type: ignore[arg-type]
        return max((own, *(term.cutoff for term in self.terms)))

    @property
    def field_order(self) -> int:
        """Highest power of an applied electric field in the energy; 0 where it takes none."""
        return int(getattr(self.network, "field_order", 0))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names that can be computed: of the energy, responses to a field, targets."""
        derived: tuple[str, ...] = OUTPUTS if self.has_energy else ()
        derived += responses_of(self.field_order)
        sure = UNCERTAINTIES if self.uncertainty is not None else ()
        return tuple(dict.fromkeys((*derived, *self.targets, *sure)))

    @property
    def uncertainties(self) -> dict[str, str]:
        """What is given with its standard deviation at little cost: label -> output."""
        return {"energy": ENERGY_UNCERTAINTY} if self.uncertainty is not None else {}

    @property
    def has_energy(self) -> bool:
        """Whether there is an energy, or targets alone."""
        return bool(getattr(getattr(self.network, "config", None), "energy", True))

    @property
    def target_units(self) -> dict[str, str]:
        """Unit of each target."""
        return {name: head.target.unit or "" for name, head in self.targets.items()}

    @property
    def heads(self) -> tuple[str, ...]:
        """Outputs with weights of their own: every weight is in the graph of one of them."""
        return (*(("energy",) if self.has_energy else ()), *self.targets)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network; energies are summed in float64 whatever it is."""
        return next(self.network.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the potential lives."""
        return self.reference.device

    @property
    def reference_energies(self) -> dict[int, float]:
        """Reference energy of each element in eV."""
        return {z: float(self.reference[z]) for z in self.elements}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # `.float()` or `.to(dtype)` is meant for the network: references stay in float64
        kept = {"reference": self.reference, "scale": self.scale, "shift": self.shift}
        super()._apply(fn, recurse)
        for name, value in kept.items():
            setattr(self, name, value.to(getattr(self, name).device))
        return self

    def check(self, structures: Data) -> None:
        """Refuse structures with elements that the potential does not know.

        Raises:
            ValueError: Naming the unknown elements and the known ones.
        """
        unknown = sorted(set(structures.z.unique().tolist()) - set(self.elements))
        if unknown:
            raise ValueError(
                f"the potential does not know {_symbols(unknown)}; "
                f"it was trained on {_symbols(self.elements)}"
            )

    def forward(
        self, structures: Data, compute: Iterable[str] = ("energy", "forces")
    ) -> dict[str, Tensor]:
        """Evaluate structures.

        In training mode the results keep their graph (losses on forces and stress can be
        differentiated); in evaluation mode they are detached. Works under `torch.no_grad` and
        `torch.inference_mode`.

        Args:
            structures: `Data` or `Batch` with `edge_index` and `shift` within the cutoff.
            compute: Any of "energy" [B] eV, "energies" [N] eV, "forces" [N, 3] eV/Å,
                "stress" [B, 3, 3] eV/Å^3, "virial" [B, 3, 3] eV, "hessian" [N, 3, M, 3] eV/Å^2
                (see `dreibein.nn.hessian`). All float64. Where the network takes an electric field
                (`external_field` [B, 3] V/Å of the structures, zero where absent) also its
                derivatives "dipole" [B, 3] e·Å, "polarizability" [B, 3, 3] e·Å^2/V and
                "born_charges" [N, 3, 3] e: d dipole_a / dx_ib, see `dreibein.nn.response`.
                And the model's targets by name, which come before such derivatives; and, where it
                is calibrated, `dreibein.nn.uncertainty.UNCERTAINTIES`.

        Raises:
            ValueError: An unknown name in `compute`, a missing neighbor list.
        """
        wanted = frozenset(compute)
        if not wanted <= frozenset(self.outputs):
            raise ValueError(
                f"cannot compute {', '.join(sorted(wanted - frozenset(self.outputs)))}; "
                f"choose from {', '.join(self.outputs)}"
            )
        direct, sure = wanted & frozenset(self.targets), wanted & frozenset(UNCERTAINTIES)
        wanted = wanted - direct - sure
        differentiate = bool(wanted & {"forces", "stress", "virial", "hessian", *RESPONSES})
        if differentiate:
            gradient_mode: AbstractContextManager[None] = torch.enable_grad()
        else:
            gradient_mode = nullcontext() if self.training else torch.no_grad()
        with torch.inference_mode(False), gradient_mode:
            if any(isinstance(v, Tensor) and v.is_inference() for _, v in structures):
                structures = structures.clone()  # saved for backward, so made outside that mode
            none = not wanted and bool(direct or sure)
            results = {} if none else self._evaluate(structures, wanted)
            if direct:
                results |= self._evaluate_targets(structures, direct)
            if sure and self.uncertainty is not None:
                results |= self.uncertainty(self, structures, sure)
        if self.training:
            return results
        return {name: value.detach() for name, value in results.items()}

    def _evaluate(self, structures: Data, wanted: frozenset[str]) -> dict[str, Tensor]:
        direct = self._evaluate_directly(structures, wanted)
        if direct is not None:
            return direct
        batch, num_structures = batch_index(structures)
        pos, cell = structures.pos, structures.cell
        inputs: dict[str, Tensor] = {}
        respond = bool(wanted & frozenset(RESPONSES))
        field = None
        if self.field_order:
            field = applied_field(structures, num_structures, differentiate=respond)
        if wanted & {"forces", "born_charges"}:
            pos = inputs["forces"] = pos if pos.requires_grad else pos.detach().requires_grad_()
        if wanted & {"stress", "virial"}:
            pos, cell, inputs["strain"] = strained(pos, cell, batch)
        if respond and field is not None:
            inputs["field"] = field
        energies = self._energies(structures, pos, cell, field)
        energy = energies.new_zeros(num_structures).index_add(0, batch, energies)
        results = {"energy": energy, "energies": energies}
        if inputs:
            again = self.training or bool(wanted & {"polarizability", "born_charges"})
            found = gradients(energy, list(inputs.values()), create_graph=again)
            gradient = dict(zip(inputs, found, strict=True))
            if field is not None and "field" in gradient:
                results |= responses(
                    -gradient["field"], field, pos, wanted, create_graph=self.training
                )
            if "forces" in gradient:
                results["forces"] = -gradient["forces"]
            if "strain" in gradient:
                results["virial"] = -gradient["strain"]
                results["stress"] = stress_from_strain_gradient(
                    gradient["strain"], structures.cell, structures.pbc
                )
        if "hessian" in wanted:
            results["hessian"] = hessian(
                lambda x: self._energies(structures, x, structures.cell, field),
                structures.pos,
                torch.bincount(batch, minlength=num_structures).tolist(),
            )
        return {name: value for name, value in results.items() if name in wanted}

    def _evaluate_targets(self, structures: Data, names: frozenset[str]) -> dict[str, Tensor]:
        """Targets from one pass through the network; in training they keep their graph."""
        network: Any = self.network
        near = self.network_view(structures)
        with nullcontext() if self.training else torch.no_grad():
            graph = make_graph(near, structures.pos, structures.cell, self.dtype)
            features = network.irreps_features(graph)
            return {n: self.targets[n](features, structures, structures.pos) for n in names}

    def _evaluate_directly(
        self, structures: Data, wanted: frozenset[str]
    ) -> dict[str, Tensor] | None:
        """Results in training where the network gives its own gradient; else None.

        A network may have `energies_and_pull(graph)`: its output and the gradient of the sum of
        that by edge vectors, both differentiable by the parameters (or None: not for this graph).
        """
        method = getattr(self.network, "energies_and_pull", None)
        derived = wanted & {"forces", "stress", "virial"}
        if method is None or not self.training or not derived or "hessian" in wanted:
            return None
        asked = wanted & frozenset(RESPONSES)
        if "born_charges" in asked or (self.field_order and has_field(structures)):
            return None  # the gradient is that without a field
        if structures.pos.requires_grad or structures.cell.requires_grad:
            return None  # the gradient is not differentiable by positions
        if any(term.needs_charges for term in self.terms):
            return None  # the terms are trained as well
        near = self.network_view(structures)
        graph = make_graph(near, structures.pos, structures.cell, self.dtype)
        found = method(graph)
        if found is None:
            return None
        free = self.reference[structures.z] + self.shift
        energies, pull = free + self.scale * found[0].double(), self.scale * found[1].double()
        if self.terms:
            extra, extra_slope, extra_strain = term_gradients(self.terms, structures)
            energies = energies + extra
        energy = energies.new_zeros(graph.num_structures).index_add(0, graph.batch, energies)
        results = {"energy": energy, "energies": energies}
        if "forces" in wanted:
            results["forces"] = forces_from_pull(pull, graph.edge_index, graph.num_atoms)
            if self.terms:
                results["forces"] = results["forces"] - extra_slope
        if wanted & {"stress", "virial"}:
            vectors = edge_vectors(
                structures.pos, structures.cell, graph.edge_index, near.shift, graph.batch
            )
            structure = graph.batch.index_select(0, graph.receiver)
            gradient = strain_gradient_from_pull(pull, vectors, structure, graph.num_structures)
            if self.terms:
                gradient = gradient + extra_strain
            results["virial"] = -gradient
            results["stress"] = stress_from_strain_gradient(
                gradient, structures.cell, structures.pbc
            )
        if asked:
            results |= self._responses_without_forces(structures, asked)
        return {name: value for name, value in results.items() if name in wanted}

    def _responses_without_forces(
        self, structures: Data, wanted: frozenset[str]
    ) -> dict[str, Tensor]:
        """Dipole and polarizability where no field acts on the atoms; they keep their graph."""
        with torch.enable_grad():
            field = applied_field(structures, batch_index(structures)[1], differentiate=True)
            near = self.network_view(structures)
            graph = make_graph(near, structures.pos, structures.cell, self.dtype, field)
            energies = self.scale * self.network(graph).double()
            (slope,) = gradients(energies, [field], create_graph=True)
            return responses(-slope, field, structures.pos, wanted, create_graph=True)

    def atomic_energies(
        self, structures: Data, pos: Tensor, cell: Tensor, field: Tensor | None = None
    ) -> Tensor:
        """Energy of each atom [N] in eV, float64, differentiable in positions and cells.

        Args:
            structures: `Data` or `Batch` with `edge_index` and `shift` within the cutoff.
            pos: Positions [N, 3] in Å, in place of those of the structures.
            cell: Cells [B, 3, 3] in Å, likewise.
            field: Applied electric field [B, 3] in V/Å, where the network takes one.
        """
        return self._energies(structures, pos, cell, field)

    def _energies(
        self, structures: Data, pos: Tensor, cell: Tensor, field: Tensor | None
    ) -> Tensor:
        """Energy of each atom [N] in eV, float64."""
        graph = make_graph(self.network_view(structures), pos, cell, self.dtype, field)
        free, charges = self.reference[structures.z] + self.shift, None
        if any(term.needs_charges for term in self.terms):
            network, charges = self.network.energies_and_charges(graph)  # type: ignore[operator]
        else:
            network = self.network(graph)
        energies = free + self.scale * network.double()
        if self.terms:
            energies = energies + term_energies(self.terms, structures, pos, cell, charges)
        return energies

    def network_view(self, structures: Data) -> Data:
        """Structures with the neighbors that the network sees; fewer where a term looks farther."""
        if self.cutoff == self.network.cutoff:
            return structures
        return within(structures, float(self.network.cutoff))  # type: ignore[arg-type]


def _symbols(numbers: Iterable[int]) -> str:
    return ", ".join(chemical_symbols[z] for z in numbers)
