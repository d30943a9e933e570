"""Response of the energy to an applied electric field: dipole, polarizability, Born charges.

With E(R, F) in eV and the field F in V/Å (it acts on a charge +e with F eV/Å along F),

    dipole_a = -dE/dF_a,    polarizability_ab = d dipole_a / dF_b = -d2E / dF_a dF_b,
    born_charges[i, a, b] = d dipole_a / dx_ib = d force_ib / dF_a.

The dipole has nothing to do with an origin where E depends on differences of positions, so the
Born charges of all atoms add up to zero: such an energy is one of neutral structures.
"""

import torch
from torch import Tensor
from torch_geometric.data import Data

RESPONSES = ("dipole", "polarizability", "born_charges")


def responses_of(order: int) -> tuple[str, ...]:
    """Responses of an energy with powers of the field up to `order`.

    >>> responses_of(1)
    ('dipole', 'born_charges')
    """
    return tuple(name for name in RESPONSES if order > 1 or (order and name != "polarizability"))


def applied_field(structures: Data, num_structures: int, *, differentiate: bool) -> Tensor:
    """The field on each structure [B, 3] in V/Å, zero where none is given.

    Args:
        structures: With or without `external_field`.
        num_structures: B.
        differentiate: Whether energies will be differentiated by it.

    Raises:
        ValueError: A charged structure: its dipole needs an origin, which the energy lacks.
    """
    if "charge" in structures and bool(structures.charge.any()):
        raise ValueError(
            "this network's energy in an electric field is one of neutral structures, and a "
            f"structure has the charge {float(structures.charge.abs().max()):g} e; use a model "
            "without a field for ions"
        )
    field = structures.get("external_field")
    if field is None:
        field = structures.pos.new_zeros(num_structures, 3)
    if differentiate and not field.requires_grad:
        field = field.detach().clone().requires_grad_()
    return field


def has_field(structures: Data) -> bool:
    """Whether any structure is in a field that is not zero."""
    field = structures.get("external_field")
    return field is not None and bool(field.any())


def responses(
    dipole: Tensor,
    field: Tensor,
    pos: Tensor,
    wanted: frozenset[str],
    *,
    create_graph: bool,
) -> dict[str, Tensor]:
    """What is wanted of dipole [B, 3], polarizability [B, 3, 3] and Born charges [N, 3, 3].

    Args:
        dipole: -dE/dF [B, 3], with a graph where more than itself is wanted.
        field: F [B, 3], requires grad.
        pos: Positions [N, 3]; require grad for Born charges.
        wanted: Names of `RESPONSES`.
        create_graph: Whether the results can be differentiated again.
    """
    found = {"dipole": dipole} if "dipole" in wanted else {}
    inputs = {"polarizability": field, "born_charges": pos}
    asked = [name for name in inputs if name in wanted]
    if not asked:
        return found
    rows: dict[str, list[Tensor]] = {name: [] for name in asked}
    for axis in range(3):
        by = [inputs[name] for name in asked]
        gradients: tuple[Tensor | None, ...] = (None,) * len(by)
        if dipole.requires_grad:
            gradients = torch.autograd.grad(
                dipole[:, axis].sum(),
                by,
                create_graph=create_graph,
                retain_graph=True,
                allow_unused=True,
            )
        for name, x, gradient in zip(asked, by, gradients, strict=True):
            rows[name].append(torch.zeros_like(x) if gradient is None else gradient)
    return found | {name: torch.stack(rows[name], dim=1) for name in asked}
