"""A potential as a program of torch alone: for C++, or Python without this package.

    energy, energies, forces, virial = f(z, pos, cell, edge_index, shift, charge, owned)

The numbers are those of the reference path, weights included as constants, for any number of
atoms and edges. `owned` weighs atoms in the energy that is differentiated: 1 for those of a
process, 0 for its copies of others' atoms, whose forces are then sent back (docs/export.md).
"""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor
from torch_geometric.data import Data

from dreibein import __version__
from dreibein.nn.potential import Potential
from dreibein.nn.programs import detached, evaluate_frame, frozen_copy, trace, untraced
from dreibein.systems.files import atomic_path

FORMAT = "1"
INPUTS = ("z", "pos", "cell", "edge_index", "shift", "charge", "owned")
OUTPUTS = ("energy", "energies", "forces", "virial")
HEADER = "dreibein.json"
"""Name of the header inside a file of `torch.export.save`; in a package it is the metadata."""

_ATOMS, _EDGES = 7, 19  # of the traced example: unlike each other and every fixed size
_TRIALS = ((1, 0), (2, 1), (1, 3), (11, 60))  # atoms, edges: sizes that were not traced
_EXACT = {torch.float64: 1e-10, torch.float32: 1e-4}


def export_potential(potential: Potential, path: str | Path, *, aot: bool = False) -> Path:
    """Write a potential as a program for torch: see the module for what it computes.

    Args:
        potential: On the device and in the precision that the program is to have.
        path: Its name; must end in `.pt2`.
        aot: Compile it now for this kind of machine (AOTInductor): loads in C++, and is faster;
            needs a C++ compiler. Else `torch.export.load` reads it, in Python, on any machine.

    Raises:
        ValueError: The name has another suffix, the network cannot be traced, there is no
            compiler, or the program gives other numbers than the potential.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise ValueError(f"'{path}': the name of an exported model ends in .pt2")
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"there is no folder '{path.parent}' to write into")
    if aot and shutil.which("g++") is None and shutil.which("clang++") is None:
        raise ValueError("compiling ahead of time needs g++ or clang++, and neither is installed")
    program = trace_potential(potential)
    header = describe(potential, program)
    with atomic_path(path) as side:
        if aot:
            _compile(program, side, header)
        else:
            torch.export.save(program, side, extra_files={HEADER: json.dumps(header)})
    return path


def trace_potential(potential: Potential) -> torch.export.ExportedProgram:
    """The program, checked against the potential at sizes that were not traced.

    Raises:
        ValueError: The network cannot be traced, or the program gives other numbers.
    """
    frozen = frozen_copy(potential)
    network: Any = frozen.network
    if hasattr(network, "backend"):
        network.backend = "reference"  # operators of this package stay out of the file
    example = _example(frozen, _ATOMS, _EDGES)
    atoms, edges = torch.export.Dim("atoms"), torch.export.Dim("edges")
    sizes = ({0: atoms}, {0: atoms}, None, {1: edges}, {0: edges}, None, {0: atoms})
    name = type(potential.network).__name__
    try:
        with detached():
            graph = trace(frozen, example, "symbolic")
            program = torch.export.export(graph, example, dynamic_shapes=sizes)
    except Exception as error:
        raise ValueError(f"{name} cannot be exported, {untraced(error)}") from error
    foreign = {str(n.target) for n in program.graph.nodes if str(n.target).startswith("dreibein")}
    if foreign:
        raise ValueError(f"{name} cannot be exported: it uses {', '.join(sorted(foreign))}")
    _check(frozen, program)
    return program


def describe(potential: Potential, program: torch.export.ExportedProgram) -> dict[str, str]:
    """What a reader must know, as strings: the header of the file.

    Args:
        potential: What was exported.
        program: Asked whether pairs beyond the cutoff change its results.
    """
    skin = _indifferent_beyond_cutoff(potential, program)
    return {
        "format": FORMAT,
        "architecture": type(potential.network).__name__,
        "cutoff": repr(potential.cutoff),
        "elements": " ".join(str(z) for z in potential.elements),
        "symbols": " ".join(chemical_symbols[z] for z in potential.elements),
        "precision": str(potential.dtype).removeprefix("torch."),
        "device": potential.device.type,
        "units": "Å eV eV/Å e",
        "inputs": " ".join(INPUTS),
        "outputs": " ".join(OUTPUTS),
        "edges": "row 0 the sender j, row 1 the receiver i, every pair in both directions, "
        "r = pos[j] + shift cell - pos[i]",
        "virial": "-dE/d(strain), x -> x (1 + strain)",
        "pairs beyond the cutoff": "contribute nothing" if skin else "must be left out",
        "hops": str(_hops(potential, program)),
        "dreibein": __version__,
        "torch": torch.__version__,
    }


def read_export(path: str | Path) -> dict[str, str]:
    """The header of an exported model, of either kind; no code of the file is run.

    Raises:
        ValueError: Not a file that `export_potential` wrote.
    """
    import zipfile

    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith((f"extra/{HEADER}", "_metadata.json")):
                    header = json.loads(archive.read(name))
                    if "pairs beyond the cutoff" in header:
                        return {str(k): str(v) for k, v in header.items()}
    except (zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not an exported model: {error}") from error
    raise ValueError(f"{path} is not an exported model of this package: it has no header")


def _compile(program: torch.export.ExportedProgram, path: Path, header: dict[str, str]) -> None:
    from torch._inductor import aoti_compile_and_package

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's, of its own functions
            aoti_compile_and_package(
                program, package_path=str(path), inductor_configs={"aot_inductor.metadata": header}
            )
    except Exception as error:  # of the compiler, of torch, in many kinds
        lines = [line for line in str(error).split("\n") if line.strip()]
        raise ValueError(
            f"compiling ahead of time failed: {lines[0] if lines else type(error).__name__}"
        ) from error


def _example(potential: Potential, atoms: int, edges: int) -> tuple[Tensor, ...]:
    """A frame [atoms, edges] of known elements with edges shorter than the cutoff; seeded."""
    g = torch.Generator().manual_seed(1000 * atoms + edges)
    known = torch.tensor(potential.elements)
    z = known[torch.randint(0, len(known), (atoms,), generator=g)]
    reach = 0.4 * potential.cutoff
    pos = reach * torch.rand(atoms, 3, dtype=torch.float64, generator=g)
    cell = potential.cutoff * torch.eye(3, dtype=torch.float64)
    receiver = torch.arange(edges) % atoms
    step = torch.randint(1, max(2, atoms), (edges,), generator=g)
    sender = (receiver + step) % atoms
    shift = torch.zeros(edges, 3, dtype=torch.int64)
    # an atom and its image are one cell apart, at the cutoff
    shift[:, 0] = (sender == receiver).long()
    order = receiver.argsort(stable=True)
    owned = torch.linspace(1.0, 0.5, atoms, dtype=torch.float64)
    charge = torch.full((1,), 0.5, dtype=torch.float64)
    index = torch.stack((sender, receiver))[:, order].contiguous()
    frame = (z, pos, 0.9 * cell, index, shift[order], charge, owned)
    return tuple(x.to(potential.device) for x in frame)


def _check(potential: Potential, program: torch.export.ExportedProgram) -> None:
    """Compare with the potential at other sizes.

    Raises:
        ValueError: The numbers differ.
    """
    run, bound = program.module(), _EXACT.get(potential.dtype, 1e-2)
    for atoms, edges in ((_ATOMS, _EDGES), *_TRIALS):
        frame = _example(potential, atoms, edges)
        found, right = run(*frame), evaluate_frame(potential, *frame)
        for name, a, b in zip(OUTPUTS, found, right, strict=True):
            size = 1.0 + float(b.abs().max())
            error = float((a - b).abs().max())
            if a.shape != b.shape or not error <= bound * size:
                raise ValueError(
                    f"the exported {type(potential.network).__name__} is wrong: at {atoms} atoms "
                    f"and {edges} edges its {name} differs from the potential's by {error:.1e}"
                )


def _indifferent_beyond_cutoff(potential: Potential, program: torch.export.ExportedProgram) -> bool:
    """Whether pairs beyond the cutoff leave every result as it is."""
    run, frame = program.module(), _example(potential, 5, 20)
    longer = list(frame)
    here = torch.arange(5, device=frame[0].device)
    longer[3] = torch.cat((frame[3], torch.stack((here, here.flip(0)))), dim=1)
    far = frame[4].new_tensor([2, 2, 2]).expand(5, 3)  # at least two cells away
    longer[4] = torch.cat((frame[4], far))
    return all(
        bool(torch.allclose(a, b, rtol=1e-6, atol=1e-9))
        for a, b in zip(run(*frame), run(*longer), strict=True)
    )


def _hops(potential: Potential, program: torch.export.ExportedProgram) -> int:
    """How many edges away an atom is heard (up to 11): the halo is that many cutoffs."""
    atoms, device = 12, potential.device
    generator = torch.Generator().manual_seed(0)
    pos = 0.1 * potential.cutoff * torch.rand(atoms, 3, dtype=torch.float64, generator=generator)
    steps = torch.arange(atoms)
    pos[:, 0] += 0.6 * potential.cutoff * steps
    pairs = torch.stack((steps[:-1], steps[1:]))
    index = torch.cat((pairs, pairs.flip(0)), dim=1)
    owned = (steps == 0).double()
    frame = (
        torch.full((atoms,), potential.elements[0]), pos, torch.zeros(3, 3, dtype=torch.float64),
        index, torch.zeros(index.shape[1], 3, dtype=torch.int64), owned[:1], owned,
    )  # fmt: skip
    forces = program.module()(*(x.to(device) for x in frame))[2]
    return int(forces.abs().sum(1).nonzero().max()) if bool(forces.any()) else 0


def frame_arguments(structure: Data) -> tuple[Tensor, ...]:
    """The program's inputs from one structure with `edge_index` and `shift`; all atoms owned."""
    return (
        structure.z, structure.pos, structure.cell[0], structure.edge_index, structure.shift,
        structure.charge, torch.ones_like(structure.pos[:, 0]),
    )  # fmt: skip
