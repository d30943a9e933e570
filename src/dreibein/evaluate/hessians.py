"""Predicted against labeled second derivatives: entries, and the frequencies that follow."""

import numpy as np
import torch
from ase.data import atomic_masses
from ase.units import _amu, _c, _e
from torch import Tensor
from torch_geometric.data import Batch

HESSIAN, FREQUENCIES = "hessian", "frequencies"
UNITS = {HESSIAN: "eV/Å^2", FREQUENCIES: "1/cm"}
_PER_CM = np.sqrt(_e * 1e20 / _amu) / (2.0 * np.pi * _c * 100.0)  # of sqrt(eV/Å²/u)


def paired_blocks(predicted: Tensor, structures: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Entries of both Hessians by pairs of atoms of a structure, without the filling.

    Args:
        predicted: [N, 3, M, 3] in eV/Å^2, as a potential gives it.
        structures: With the label, whose M may be larger.

    Returns:
        Predictions and labels [P, 9], the first atom [P], and the structure [P] of each pair.
    """
    sizes = structures.ptr.diff()
    most = torch.arange(predicted.shape[2], device=predicted.device)
    inside = most < sizes.index_select(0, structures.batch)[:, None]  # [N, M]
    atom, _ = inside.nonzero(as_tuple=True)
    label = structures[HESSIAN][:, :, : predicted.shape[2]].double()
    pairs = [x.transpose(1, 2)[inside].reshape(-1, 9) for x in (predicted.double(), label)]
    return pairs[0], pairs[1], atom, structures.batch[atom]


def paired_frequencies(
    predicted: Tensor, structures: Batch, present: Tensor
) -> tuple[Tensor, Tensor]:
    """Differences of the 3N frequencies [K, 1] in 1/cm, sorted, and their structures [K].

    Frequencies are roots of the eigenvalues of M^(-1/2) H M^(-1/2), imaginary ones negative.

    Args:
        predicted: [N, 3, M, 3].
        structures: With the label.
        present: Whether each atom's rows are labeled [N].
    """
    differences, owners = [torch.zeros(0, 1).double()], [torch.zeros(0, dtype=torch.int64)]
    for k, (first, last) in enumerate(
        zip(structures.ptr[:-1].tolist(), structures.ptr[1:].tolist(), strict=True)
    ):
        if last == first or not bool(present[first:last].all()):
            continue
        z = structures.z[first:last].cpu().numpy()
        both = [x[first:last, :, : last - first] for x in (predicted, structures[HESSIAN])]
        ours, theirs = (frequencies(h.detach().cpu().numpy(), z) for h in both)
        differences.append(torch.from_numpy(ours - theirs)[:, None])
        owners.append(torch.full((3 * (last - first),), k))
    return torch.cat(differences), torch.cat(owners)


def frequencies(hessian: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Sorted frequencies [3N] in 1/cm of a Hessian [N, 3, N, 3] in eV/Å^2."""
    root = np.repeat(np.sqrt(atomic_masses[z]), 3)
    matrix = hessian.reshape(len(root), len(root)) / np.outer(root, root)
    values = np.linalg.eigvalsh(0.5 * (matrix + matrix.T))
    found: np.ndarray = np.sign(values) * np.sqrt(np.abs(values)) * _PER_CM
    return found
