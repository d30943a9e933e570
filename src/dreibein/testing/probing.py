"""One way to ask a potential, and one way to say that a law is broken."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.neighbors import attach_neighbors
from dreibein.nn import Potential
from dreibein.systems import join, make_structure

ENERGY_FLOOR = 1e-2  # eV; a relative error is taken relative to no less than this
FORCE_FLOOR = 1e-2  # eV/Å
VIRIAL_FLOOR = 1e-2  # eV


def bare(
    structure: Data,
    *,
    pos: Tensor | None = None,
    cell: Tensor | None = None,
    z: Tensor | None = None,
) -> Data:
    """The structure without labels and neighbors, other places, cell or atoms put in.

    Args:
        structure: Where everything else comes from; it is not touched.
        pos: [N, 3] Å.
        cell: [3, 3] Å.
        z: [N].
    """
    pos = structure.pos if pos is None else pos
    return make_structure(
        structure.z if z is None else z,
        pos.detach(),
        cell=structure.cell[0] if cell is None else cell,
        pbc=structure.pbc[0],
        charge=float(structure.charge) if "charge" in structure else 0.0,
        spin=int(structure.spin) if "spin" in structure else 1,
    )


def connected(structure: Data, potential: Potential) -> Data:
    """The bare structure with the neighbors that the potential needs, on its device."""
    return attach_neighbors(bare(structure), potential.cutoff).to(potential.device)


@contextmanager
def mode(potential: Potential, *, training: bool) -> Iterator[None]:
    """Training or evaluation mode for a while; what was set before comes back."""
    before = potential.training
    potential.train(training)
    try:
        yield
    finally:
        potential.train(before)


def predict(
    potential: Potential, structures: Sequence[Data], compute: Sequence[str] = ("energy",)
) -> list[dict[str, Tensor]]:
    """Results of each structure on the CPU in float64, evaluated as one batch.

    Neighbors are found anew, so no stale list survives a change of geometry.

    Returns:
        For each structure: energy [], energies [N], forces [N, 3], stress and virial [3, 3].
    """
    with mode(potential, training=False):
        batch = join([connected(structure, potential) for structure in structures])
        found = potential(batch, compute=tuple(compute))
    sizes = [len(structure.z) for structure in structures]
    parts: dict[str, Sequence[Tensor]] = {}
    for name in compute:
        value = found[name].detach().cpu().double()
        parts[name] = value.split(sizes) if name in ("energies", "forces") else value.unbind()
    return [{name: parts[name][k] for name in compute} for k in range(len(sizes))]


def energies_of(potential: Potential, structures: Sequence[Data]) -> Tensor:
    """Energy of each structure [B] in eV."""
    return torch.stack([result["energy"] for result in predict(potential, structures)])


def available(structure: Data) -> tuple[str, ...]:
    """What can be compared: energy and forces, and the stress where there is a volume."""
    return ("energy", "forces", "stress") if bool(structure.pbc.all()) else ("energy", "forces")


def relative(value: Tensor, expected: Tensor, floor: float) -> float:
    """Largest |value − expected| relative to the largest |expected|, or to `floor` below it.

    >>> relative(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]), 0.1)
    0.25
    """
    if value.shape != expected.shape:
        raise AssertionError(f"shape {tuple(value.shape)} where {tuple(expected.shape)} belongs")
    if value.numel() == 0:
        return 0.0
    return float((value - expected).abs().max()) / max(float(expected.abs().max()), floor)


def energy_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """|E − E'| relative to |E'| or, where atomic energies cancel, to the largest force times 1 Å.

    Both need "energy" and "forces": a position is rounded too, and the force says what that does.
    """
    forces = expected["forces"]
    slope = float(forces.abs().max()) if forces.numel() else 0.0
    return relative(found["energy"], expected["energy"], max(ENERGY_FLOOR, slope))


def require(measured: float, tolerance: float, law: str) -> float:
    """Pass the measured number on, or raise with it.

    Raises:
        AssertionError: The number is above the tolerance, or not a number.

    >>> require(1e-3, 1e-6, "energy under rotation")
    Traceback (most recent call last):
    AssertionError: energy under rotation: 1.0e-03, allowed 1.0e-06
    """
    if not measured <= tolerance:  # NaN is a failure too
        raise AssertionError(f"{law}: {measured:.1e}, allowed {tolerance:.1e}")
    return measured
