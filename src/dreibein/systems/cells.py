"""Periodic cells: rows are the cell vectors, so a fractional s is the position ``s @ cell``.

Everything is plain torch in the dtype given (float64 in this package) and differentiable.
"""

import torch
from torch import Tensor

__all__ = [
    "complete_cell",
    "from_voigt",
    "heights",
    "nearest_dipole",
    "nearest_images",
    "strain",
    "to_voigt",
    "volume",
    "wrap",
]

# A cell vector shorter than this (Å) counts as absent.
_ABSENT = 1e-8
# Sine of the angle between a cell vector and the plane of the others below which a cell is flat.
_FLAT = 1e-6

_VOIGT_ROWS = (0, 1, 2, 1, 0, 0)
_VOIGT_COLUMNS = (0, 1, 2, 2, 2, 1)
_VOIGT_BACK = ((0, 5, 4), (5, 1, 3), (4, 3, 2))


def volume(cell: Tensor) -> Tensor:
    """``V = |a · (b × c)|``, positive for left-handed cells too.

    Args:
        cell: [..., 3, 3] Å.

    Returns:
        [...] Å³; zero where there is no cell.

    >>> float(volume(torch.diag(torch.tensor([2.0, 3.0, 4.0]))))
    24.0
    """
    a, b, c = cell.unbind(-2)
    return (a * torch.linalg.cross(b, c)).sum(-1).abs()


def heights(cell: Tensor) -> Tensor:
    """``h_k = V / |a_l × a_m|``: the cell's widths perpendicular to its faces.

    Args:
        cell: [..., 3, 3] Å, not singular.

    Returns:
        [..., 3] Å; height k is the distance between the two faces that vector k connects.
    """
    a, b, c = cell.unbind(-2)
    areas = torch.linalg.cross(torch.stack((b, c, a), -2), torch.stack((c, a, b), -2))
    return volume(cell).unsqueeze(-1) / torch.linalg.vector_norm(areas, dim=-1)


def to_voigt(tensor: Tensor) -> Tensor:
    """``[..., 3, 3] -> [..., 6]`` in ASE's order xx yy zz yz xz xy, off-diagonals averaged.

    >>> to_voigt(torch.tensor([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])).tolist()
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    """
    symmetric = 0.5 * (tensor + tensor.mT)
    return symmetric[..., _VOIGT_ROWS, _VOIGT_COLUMNS]


def from_voigt(vector: Tensor) -> Tensor:
    """``[..., 6] -> [..., 3, 3]``, the symmetric matrix of xx yy zz yz xz xy (no factors of two).

    >>> from_voigt(torch.arange(1.0, 7.0)).tolist()
    [[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]
    """
    index = torch.tensor(_VOIGT_BACK, device=vector.device)
    return vector[..., index]


def complete_cell(cell: Tensor, pbc: Tensor) -> Tensor:
    """Give every non-periodic direction a vector: kept when usable, else a unit normal.

    A missing (zero) or dependent vector of a non-periodic direction is replaced by a vector of
    length 1 Å orthogonal to the others; shifts along it are never used, so its length is arbitrary.

    Args:
        cell: [3, 3] or [1, 3, 3] Å, rows; zeros for no cell.
        pbc: [3] or [1, 3] bool.

    Returns:
        Invertible cell of the shape given.

    Raises:
        ValueError: a periodic direction whose vector is missing or depends on the other periodic
            ones.

    >>> complete_cell(torch.diag(torch.tensor([4.0, 0, 0])), torch.tensor([True, False, False]))
    tensor([[4., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    if not torch.isfinite(cell).all():
        raise ValueError(f"the cell {cell.tolist()} contains NaN or infinity")
    lengths = torch.linalg.vector_norm(cell, dim=-1)
    if bool((lengths > _ABSENT).all()) and bool((volume(cell) > 1e-3 * lengths.prod(-1)).all()):
        return cell  # nothing is missing
    periodic = [bool(flag) for flag in pbc.reshape(3)]
    rows = list(cell.reshape(3, 3).unbind(0))
    missing: list[int] = []
    basis: list[Tensor] = []
    # Periodic directions first: they stay as they are, or are refused.
    for k in sorted(range(3), key=lambda k: not periodic[k]):
        rest = _rest(rows[k].detach(), basis)
        if rest is not None:
            basis.append(rest)
        elif periodic[k]:
            raise ValueError(_refusal(k, cell))
        else:
            missing.append(k)
    for k in missing:
        rows[k] = _normal(basis, like=cell, prefer=k)
        basis.append(rows[k])
    return torch.stack(rows).reshape(cell.shape)


def strain(pos: Tensor, cell: Tensor, strain: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """``x -> x + x · ε`` for atoms and cell vectors alike, with ``ε`` symmetrized.

    Args:
        pos: [N, 3] Å.
        cell: [B, 3, 3] Å.
        strain: [B, 3, 3], dimensionless; only its symmetric part acts, and so its gradient is
            symmetric.
        batch: [N] structure of each atom.

    Returns:
        Strained positions and cells.
    """
    symmetric = 0.5 * (strain + strain.mT)
    moved = pos + (pos.unsqueeze(-2) @ symmetric[batch]).squeeze(-2)
    return moved, cell + cell @ symmetric


def wrap(pos: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    """Move atoms by whole periods to fractional coordinates in [0, 1) along periodic directions.

    Args:
        pos: [N, 3] Å.
        cell: [3, 3] or [1, 3, 3] Å.
        pbc: [3] or [1, 3] bool.

    Returns:
        [N, 3] Å; the gradient with respect to ``pos`` is the identity.
    """
    full = complete_cell(cell, pbc).reshape(3, 3)
    fractional = torch.linalg.solve(full.mT, pos.mT).mT.detach()
    periods = torch.floor(fractional) * pbc.reshape(3).to(fractional.dtype)
    # An atom at -1e-17 would land on 1.0 exactly: that is the next image.
    periods = periods + (fractional - periods >= 1.0) * pbc.reshape(3).to(fractional.dtype)
    return pos - periods @ full


@torch.no_grad()
def nearest_dipole(label: Tensor, prediction: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    """D + e n · cell with the whole numbers n for which it lies nearest to the prediction.

    The dipole of a cell that is periodic in three directions has no other meaning than this set of
    values: moving one electron by a cell vector changes nothing. Where a structure is periodic in
    fewer directions the label stays as it is.

    Args:
        label: [B, 3] e·Å.
        prediction: [B, 3] e·Å.
        cell: [B, 3, 3] Å.
        pbc: [B, 3] bool.

    Returns:
        [B, 3] e·Å, without a gradient.

    >>> cell, pbc = 6.0 * torch.eye(3)[None], torch.ones(1, 3, dtype=torch.bool)
    >>> label, prediction = torch.tensor([[-2.9, 1.0, 0.0]]), torch.tensor([[8.8, 1.5, 0.0]])
    >>> nearest_dipole(label, prediction, cell, pbc)
    tensor([[9.1000, 1.0000, 0.0000]])
    """
    everywhere = pbc.reshape(-1, 3).all(1)
    if not bool(everywhere.any()):
        return label
    moves = nearest_images(prediction.to(label) - label, cell, pbc)
    return torch.where(everywhere[:, None], label + moves, label)


@torch.no_grad()
def nearest_images(vectors: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    """Whole periods n · cell nearest to each vector, n being 0 along what is not periodic.

    Of the 27 around the rounded one the nearest is taken, which is right for cells whose vectors
    are about as short as they can be.

    Args:
        vectors: [M, 3] Å.
        cell: Of each vector [M, 3, 3] Å; without a vector along what is not periodic at will.
        pbc: Of each vector [M, 3] bool.

    Returns:
        [M, 3] Å.
    """
    pbc = pbc.reshape(-1, 3)
    if bool((pbc.any(1) & ~pbc.all(1)).any()):
        full = torch.stack([complete_cell(c, p) for c, p in zip(cell, pbc, strict=True)])
    else:
        full = torch.where(pbc[:, :1, None], cell, torch.eye(3).to(cell))
    rounded = torch.linalg.solve(full, vectors.unsqueeze(1), left=False).round()  # [M, 1, 3]
    steps = torch.arange(-1, 2).to(full)
    near = (rounded + torch.cartesian_prod(steps, steps, steps)) * pbc[:, None, :]
    moves = near @ full
    best = (vectors.unsqueeze(1) - moves).square().sum(2).argmin(1)
    return moves[torch.arange(len(moves), device=moves.device), best]


def _rest(vector: Tensor, basis: list[Tensor]) -> Tensor | None:
    """Return the direction of ``vector`` outside the span of ``basis``; None when there is none."""
    length = torch.linalg.vector_norm(vector)
    if not length > _ABSENT:
        return None
    rest = _reject(vector / length, basis)
    size = torch.linalg.vector_norm(rest)
    return _reject(rest / size, basis) if size > _FLAT else None


def _reject(vector: Tensor, basis: list[Tensor]) -> Tensor:
    for unit in basis:
        vector = vector - (vector @ unit) * unit
    return vector


def _normal(basis: list[Tensor], like: Tensor, prefer: int) -> Tensor:
    """Return a unit vector orthogonal to ``basis``, close to axis ``prefer`` if that fits."""
    axes = torch.eye(3, dtype=like.dtype, device=like.device).roll(-prefer, 0)
    # Some axis keeps at least 1/sqrt(3) of its length outside the span of two vectors.
    vectors = [_reject(_reject(axis, basis), basis) for axis in axes]
    sizes = [float(torch.linalg.vector_norm(vector)) for vector in vectors]
    best = next(k for k in range(3) if sizes[k] > 0.5)
    return vectors[best] / sizes[best]


def _refusal(k: int, cell: Tensor) -> str:
    """Say in one sentence why vector ``k`` cannot be a period."""
    values = [[round(float(x), 6) for x in row] for row in cell.detach().reshape(3, 3)]
    if torch.linalg.vector_norm(cell.reshape(3, 3)[k]) <= _ABSENT:
        return (
            f"the structure is periodic along {'abc'[k]} but its cell {values} has no such vector: "
            "give it or set pbc to False there"
        )
    return (
        f"the cell {values} is singular: vector {'abc'[k]} lies in the span of the other periodic "
        "vectors, so correct it or set pbc to False there"
    )
