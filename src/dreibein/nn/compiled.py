"""Structures of a fixed shape, evaluated by a program that torch compiles.

On a GPU a small system waits for the launch of its kernels, hundreds in a call. Here forward and
way back are one graph (`programs`), which `torch.compile` fuses and which a GPU replays as a CUDA
graph: one launch. Such a program has one shape, so that structures are filled up to the next of a
few sizes, with atoms that have no neighbors and whose energy does not count, and with pairs far
beyond the cutoff.
"""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.nn.derivatives import stress_from_strain_gradient
from dreibein.nn.potential import Potential
from dreibein.nn.programs import Frame, evaluate_frame, frozen_copy, trace, untraced

logger = logging.getLogger(__name__)

Program = Callable[..., tuple[Tensor, ...]]

_FEWEST_ATOMS, _FEWEST_EDGES = 8, 32
_FAR = 1024  # cells between the ends of a pair that shall not count
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


def filled_size(count: int, fewest: int) -> int:
    """The size that `count` things are filled up to: one of four in each doubling.

    >>> [filled_size(n, 8) for n in (0, 8, 21, 65, 192, 1000)]
    [0, 8, 24, 80, 192, 1024]
    """
    step = max(fewest, (1 << max(count - 1, 0).bit_length()) >> 3)
    return -(-count // step) * step


@dataclass(frozen=True)
class _Filled:
    """What of a filled structure stays from call to call, and what it was made of."""

    source: tuple[Tensor, ...]
    z: Tensor
    pos: Tensor
    edge_index: Tensor
    shift: Tensor
    owned: Tensor


class CompiledFrames:
    """Energies, forces and virial of single structures at a potential's present weights.

    A program is compiled, about a minute, when a structure has another size than those before; its
    first results are compared with the potential's.

    Args:
        potential: On the device and in the precision that programs are to have.

    Raises:
        ValueError: torch has no compiler to use here.
    """

    def __init__(self, potential: Potential) -> None:
        self._on_gpu = potential.device.type == "cuda"
        if not self._on_gpu and not (shutil.which("g++") or shutil.which("clang++")):
            raise ValueError(
                "the compiled backend needs g++ or clang++ on a CPU, and neither is installed"
            )
        self._potential = frozen_copy(potential)
        self._programs: dict[tuple[int, int], Program] = {}
        self._filled: _Filled | None = None
        self._cell: tuple[Tensor, Tensor] | None = None

    def describe(self) -> str:
        """How programs run, in a few words."""
        return "torch.compile, fixed shapes" + (", CUDA graphs" if self._on_gpu else "")

    def takes(self, structures: Data) -> bool:
        """Whether this is one structure, with atoms."""
        return len(structures.z) > 0 and ("batch" not in structures or structures.num_graphs == 1)

    def __call__(self, structure: Data, wanted: frozenset[str]) -> dict[str, Tensor]:
        """What is wanted of energy, energies, forces, virial, stress, as `Potential` gives it.

        Args:
            structure: One structure with neighbors; more pairs than those within the cutoff do not
                matter, and the same tensors again spare the filling.
            wanted: Names.

        Raises:
            ValueError: The potential cannot be traced or compiled, or it hears pairs beyond the
                cutoff.
        """
        with torch.inference_mode(False), torch.no_grad():  # its tensors cannot be traced
            results = self._evaluate(structure)
            if "stress" in wanted:
                results["stress"] = stress_from_strain_gradient(
                    -results["virial"], structure.cell, structure.pbc
                )
        return {name: value for name, value in results.items() if name in wanted}

    def _evaluate(self, structure: Data) -> dict[str, Tensor]:
        filled, count = self._fill(structure), len(structure.z)
        filled.pos[:count] = structure.pos.detach()
        charge = structure.get("charge")
        charge = filled.owned.new_zeros(1) if charge is None else charge.to(filled.owned.dtype)
        frame = (
            filled.z, filled.pos, self._box(structure.cell), filled.edge_index, filled.shift,
            charge, filled.owned,
        )  # fmt: skip
        size = (len(filled.z), filled.edge_index.shape[1])
        if size not in self._programs:
            self._programs[size] = self._compile(frame)
        energy, energies, forces, virial = self._run(self._programs[size], frame)
        return {
            "energy": energy,
            "energies": energies[:count],
            "forces": forces[:count],
            "virial": virial.unsqueeze(0),
        }

    def _run(self, program: Program, frame: Frame) -> tuple[Tensor, ...]:
        """Results that the next call leaves as they are."""
        if self._on_gpu:
            torch.compiler.cudagraph_mark_step_begin()
        results = program(*frame)
        return tuple(x.clone() for x in results) if self._on_gpu else results

    def _fill(self, structure: Data) -> _Filled:
        source = (structure.z, structure.edge_index, structure.shift)
        last = self._filled
        if last is not None and all(a is b for a, b in zip(last.source, source, strict=True)):
            return last
        z, edges, shift = source
        count, pairs = len(z), edges.shape[1]
        atoms = filled_size(count, _FEWEST_ATOMS)
        more = filled_size(pairs, _FEWEST_EDGES) - pairs
        # shared among all atoms: one with many would be waited for
        ends = torch.arange(more, device=z.device) * atoms // max(more, 1)
        edges = torch.cat((edges, ends.expand(2, -1)), dim=1)
        shift = torch.cat((shift, shift.new_full((more, 3), _FAR)))
        order = edges[1].argsort(stable=True)
        owned = structure.pos.new_zeros(atoms)
        owned[:count] = 1.0
        self._filled = _Filled(
            source,
            torch.cat((z, z[:1].expand(atoms - count))),
            structure.pos.new_zeros(atoms, 3),
            edges.index_select(1, order),
            shift.index_select(0, order),
            owned,
        )
        return self._filled

    def _box(self, cells: Tensor) -> Tensor:
        """The cell [3, 3]; that of a structure without one is given some: added pairs need it."""
        if self._cell is None or self._cell[0] is not cells:
            unit = torch.eye(3, dtype=cells.dtype, device=cells.device)
            self._cell = cells, torch.where(cells[0].abs().sum() == 0.0, unit, cells[0])
        return self._cell[1]

    def _compile(self, frame: Frame) -> Program:
        name = type(self._potential.network).__name__
        logger.info(
            "compiling %s for %d atoms and %d pairs", name, len(frame[0]), frame[3].shape[1]
        )
        try:
            graph = trace(self._potential, frame, "fake")
        except Exception as error:
            raise ValueError(f"{name} cannot be compiled, {untraced(error)}") from error
        mode = "reduce-overhead" if self._on_gpu else "default"
        program: Program = torch.compile(graph, fullgraph=True, dynamic=False, mode=mode)
        try:
            found = self._run(program, frame)
        except Exception as error:
            first = str(error).strip().split("\n")[0] or type(error).__name__
            raise ValueError(f"compiling {name} failed: {first}") from error
        self._compare(found, frame)
        return program

    def _compare(self, found: tuple[Tensor, ...], frame: Frame) -> None:
        """Results of a program beside those of the potential for the pairs that count alone.

        Raises:
            ValueError: They differ.
        """
        near = frame[4].abs().amax(1) < _FAR
        frame = (*frame[:3], frame[3][:, near], frame[4][near], *frame[5:])
        right = evaluate_frame(self._potential, *frame)
        bound = _TOLERANCE.get(self._potential.dtype, 1e-2)
        for a, b in zip(found[1:], right[1:], strict=True):
            error, size = float((a - b).abs().max()), 1.0 + float(b.abs().max())
            if not error <= bound * size:
                raise ValueError(
                    f"the compiled {type(self._potential.network).__name__} differs from the "
                    f"potential by {error:.1e}: pairs beyond the cutoff change its results, "
                    "or torch compiled it wrongly; choose another backend"
                )
