"""Checks of single frames: distances, net force and torque, outliers, duplicates, cells."""

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from ase.data import chemical_symbols, covalent_radii

from dreibein.data.examination import Finding
from dreibein.data.table import Array, Table
from dreibein.neighbors import find_neighbors

# Volume over product of lengths below which a periodic cell counts as flat.
_FLAT = 1e-3
# Distance over the sum of covalent radii below which two atoms are too near, or on one spot.
_TOO_NEAR = 0.65
_COINCIDENT_A = 0.05
# Neighbors are looked for up to this multiple of the largest radii's sum.
_SEARCH = 1.3
# Net force (eV/Å) and torque (eV) of a whole structure, per sqrt(atoms) and force rms.
_NET_SHARE = 0.02
_NET_FLOOR_EV_A = 2e-3
_ROBUST_LIMIT = 12.0
_MAX_OUTLIERS = 0.1
_LARGE_FORCE_EV_A = 50.0
_MIN_GROUP = 20
# Energies (eV) and forces (eV/Å) that differ more than this contradict each other.
_SAME_ENERGY_EV = 1e-3
_SAME_FORCE_EV_A = 1e-2
_SHOWN = 100


def listed(frames: Array | list[int]) -> str:
    """'frame 3' or 'frames 3, 5, 8, … (12 in all)'."""
    numbers = [int(f) for f in frames]
    if len(numbers) == 1:
        return f"frame {numbers[0]}"
    shown = ", ".join(map(str, numbers[:5]))
    return f"frames {shown}" + (f", … ({len(numbers)} in all)" if len(numbers) > 5 else "")


def shortest_distances(table: Table) -> tuple[Array, Array, Array, list[str]]:
    """Shortest distance of each frame, and its tightest pair.

    Returns:
        Shortest distance in Å; of the pair nearest for its covalent radii the ratio to their sum,
        the distance in Å, and the symbols.
        Frames of one atom, and atoms without neighbors nearby, give infinity.
    """
    shortest, ratio, distance = np.full((3, len(table)), np.inf)
    names: list[str] = []
    for f in range(len(table)):
        atoms = slice(table.offsets[f], table.offsets[f + 1])
        z, pos = table.z[atoms], table.pos[atoms]
        i, j, d = _near_pairs(z, pos, table.cell[f], table.pbc[f])
        if not len(d):
            names.append("")
            continue
        scaled = d / (covalent_radii[z[i]] + covalent_radii[z[j]])
        k = int(np.argmin(scaled))
        shortest[f], ratio[f], distance[f] = d.min(), scaled[k], d[k]
        a, b = sorted((chemical_symbols[z[i[k]]], chemical_symbols[z[j[k]]]))
        names.append(f"{a}-{b}")
    return shortest, ratio, distance, names


def check_distances(
    ratio: Array, distance: Array, names: list[str], numbers: Array
) -> Iterator[Finding]:
    """Atoms on one spot, and atoms too near; `numbers` are the frames' numbers for messages."""
    same = np.flatnonzero(distance < _COINCIDENT_A)
    if len(same):
        yield Finding(
            severity="refusal",
            topic="short distances",
            message=f"two atoms lie on one spot in {listed(numbers[same])}; remove the frames or "
            "atoms",
            frames=numbers[same[:_SHOWN]].tolist(),
        )
    near = np.flatnonzero((ratio < _TOO_NEAR) & (distance >= _COINCIDENT_A))
    if len(near):
        worst = int(near[np.argmin(ratio[near])])
        yield Finding(
            severity="warning",
            topic="short distances",
            message=f"atoms nearer than {_TOO_NEAR} of their covalent radii's sum in "
            f"{listed(numbers[near])}; shortest {names[worst]} {distance[worst]:.3f} Å in frame "
            f"{numbers[worst]}",
            frames=numbers[near[:_SHOWN]].tolist(),
        )


def unusable_cells(table: Table) -> tuple[Array, Array]:
    """Frames with a periodic direction but no vector for it, and frames with a flat cell."""
    length = np.linalg.norm(table.cell, axis=2)
    missing = (table.pbc & (length < 1e-8)).any(1)
    volume = np.abs(np.linalg.det(table.cell))
    flat = table.pbc.all(1) & ~missing & (volume < _FLAT * length.prod(1))
    return np.flatnonzero(missing), np.flatnonzero(flat)


def check_cells(table: Table, numbers: Array) -> Iterator[Finding]:
    """Periodic directions without a cell vector, flat cells, and cells that are not used."""
    missing, flat = unusable_cells(table)
    if len(missing):
        yield Finding(
            severity="refusal",
            topic="cells",
            message=f"periodic without a cell vector in {listed(numbers[missing])}; give a cell or "
            "set pbc to F there",
            frames=numbers[missing[:_SHOWN]].tolist(),
        )
    if len(flat):
        yield Finding(
            severity="refusal",
            topic="cells",
            message=f"the cell is flat (no volume) in {listed(numbers[flat])}; correct its vectors",
            frames=numbers[flat[:_SHOWN]].tolist(),
        )
    unused = ~table.pbc.any(1) & table.cell.any((1, 2))
    if unused.any():
        yield Finding(
            severity="info",
            topic="cells",
            message=f"{int(unused.sum())} frames have a cell but pbc F: they count as isolated",
        )


def check_net_force(table: Table, numbers: Array) -> Iterator[Finding]:
    """Sum of forces, and torque on isolated structures, against zero."""
    column = table.columns.get("forces")
    if column is None or not column.mask.any():
        return
    frames = len(table)
    whole = np.bincount(table.owner, weights=~column.mask, minlength=frames) == 0
    whole &= table.sizes > 1
    if not whole.any():
        return
    rms = float(np.sqrt(np.mean(column.values[column.mask] ** 2)))
    net = np.stack([_sums(table, column.values[:, k]) for k in range(3)], axis=1)
    field = table.columns.get("external_field")
    free = np.ones(frames, dtype=bool) if field is None else ~field.values.any(1)
    balanced = free | (table.charge == 0.0)  # a field pulls at a net charge
    net_size = np.linalg.norm(net, axis=1)
    said = ("net force", "forces do not sum to zero", "eV/Å")
    yield from _judge_net(said, table, net_size, whole & balanced, rms, numbers)
    isolated = whole & free & ~table.pbc.any(1)
    if isolated.any():
        center = np.stack([_sums(table, table.pos[:, k]) for k in range(3)], axis=1)
        arms = table.pos - (center / table.sizes[:, None])[table.owner]
        turning = np.cross(arms, column.values)
        torque = np.stack([_sums(table, turning[:, k]) for k in range(3)], axis=1)
        radius = float(np.sqrt(np.mean((arms**2).sum(1))))
        said = ("torque", "forces turn isolated structures", "eV")
        size = np.linalg.norm(torque, axis=1)
        yield from _judge_net(said, table, size, isolated, rms * max(radius, 1.0), numbers)


def check_outliers(table: Table, residual: Array, numbers: Array) -> Iterator[Finding]:
    """Frames far from the rest: energy per atom after references, and largest force.

    Args:
        table: Frames.
        residual: [F] eV per atom; NaN where missing.
        numbers: Their numbers, for messages.
    """
    odd = _robust_outliers(table, residual)
    if len(odd):
        worst = int(odd[np.argmax(np.abs(residual[odd] - np.nanmedian(residual)))])
        yield Finding(
            severity="warning",
            topic="energy outliers",
            label="energy",
            message=f"the energy is far from that of like frames (robust z above "
            f"{_ROBUST_LIMIT:g}) in {listed(numbers[odd])}; most in frame {numbers[worst]}, "
            f"{residual[worst]:+.3f} eV/atom after references",
            frames=numbers[odd[:_SHOWN]].tolist(),
        )
    column = table.columns.get("forces")
    if column is None:
        return
    largest = largest_forces(table)
    with np.errstate(divide="ignore"):
        odd = _robust_outliers(table, np.where(largest > 0, np.log(largest), np.nan), above=True)
    odd = np.union1d(odd, np.flatnonzero(largest > _LARGE_FORCE_EV_A))
    if len(odd):
        worst = int(odd[np.argmax(largest[odd])])
        yield Finding(
            severity="warning",
            topic="force outliers",
            label="forces",
            message=f"unusually large forces in {listed(numbers[odd])}; most in frame "
            f"{numbers[worst]}, {largest[worst]:.3g} eV/Å",
            frames=numbers[odd[:_SHOWN]].tolist(),
        )


def check_duplicates(table: Table, numbers: Array) -> Iterator[Finding]:
    """Frames of equal geometry, with equal and with contradicting labels."""
    hashes = table.geometry_hashes()
    counts = Counter(hashes.tolist())
    repeated = {h for h, n in counts.items() if n > 1}
    if not repeated:
        return
    members: dict[int, list[int]] = {}
    for f, h in enumerate(hashes.tolist()):
        if h in repeated:
            members.setdefault(h, []).append(f)
    clashes = [g for g in members.values() if _contradict(table, g)]
    extra = sum(len(g) - 1 for g in members.values())
    first = next(iter(members.values()))
    yield Finding(
        severity="warning",
        topic="duplicates",
        message=f"{extra} frames repeat the geometry of another (first: {listed(numbers[first])}); "
        "splits keep them on one side",
        frames=[int(numbers[f]) for g in members.values() for f in g][:_SHOWN],
    )
    if clashes:
        yield Finding(
            severity="warning",
            topic="contradicting duplicates",
            message=f"{len(clashes)} geometries have several different labels (first: "
            f"{listed(numbers[clashes[0]])}); keep one of each",
            frames=[int(numbers[f]) for g in clashes for f in g][:_SHOWN],
        )


def largest_forces(table: Table) -> Array:
    """Largest force on an atom of each frame [F] in eV/Å; 0 without forces."""
    column = table.columns.get("forces")
    if column is None:
        return np.zeros(len(table))
    norm = np.linalg.norm(column.values, axis=1) * column.mask
    return np.maximum.reduceat(norm, table.offsets[:-1])


def _near_pairs(z: Array, pos: Array, cell: Array, pbc: Array) -> tuple[Array, Array, Array]:
    """Index i, index j and distance of near pairs."""
    if not pbc.any() and len(z) <= 64:
        i, j = _all_pairs(len(z))
        return i, j, np.linalg.norm(pos[j] - pos[i], axis=1)
    cutoff = _SEARCH * 2.0 * float(covalent_radii[z].max())
    found = find_neighbors(
        torch.from_numpy(pos), torch.from_numpy(cell), torch.from_numpy(pbc), cutoff
    )
    i, j = found.receiver.numpy(), found.sender.numpy()
    vectors = pos[j] + found.shift.numpy() @ cell - pos[i]
    return i, j, np.linalg.norm(vectors, axis=1)


@lru_cache(maxsize=64)
def _all_pairs(number: int) -> tuple[Array, Array]:
    i, j = np.triu_indices(number, 1)
    return i, j


def _sums(table: Table, values: Array) -> Array:
    return np.bincount(table.owner, weights=values, minlength=len(table))


def _judge_net(
    said: tuple[str, str, str],
    table: Table,
    sizes: Array,
    chosen: Array,
    scale: float,
    numbers: Array,
) -> Iterator[Finding]:
    """Compare sizes with a share of `scale`; `said` is topic, complaint and unit."""
    topic, what, unit = said
    if not chosen.any():
        return
    limit = np.maximum(_NET_FLOOR_EV_A, _NET_SHARE * scale) * np.sqrt(table.sizes)
    odd = np.flatnonzero(chosen & (sizes > limit))
    median, largest = float(np.median(sizes[chosen])), float(sizes[chosen].max())
    figures = f"median {median:.2g}, largest {largest:.2g} {unit}"
    if not len(odd):
        yield Finding(
            severity="info", topic=topic, label="forces", message=f"zero within noise ({figures})"
        )
        return
    yield Finding(
        severity="warning",
        topic=topic,
        label="forces",
        message=f"{what} in {listed(numbers[odd])} of {int(chosen.sum())} checked ({figures}); a "
        "potential cannot learn that part",
        frames=numbers[odd[:_SHOWN]].tolist(),
    )


def _robust_outliers(table: Table, values: Array, above: bool = False) -> Array:
    """Frames with a robust z-score beyond the limit among frames of their kind."""
    odd: list[int] = []
    counts, _ = table.compositions()
    kinds = np.concatenate([counts, table.config[:, None]], axis=1)
    _, group = np.unique(kinds, axis=0, return_inverse=True)
    group = group.reshape(-1)
    small = np.bincount(group)[group] < _MIN_GROUP
    group = np.where(small, -1, group)
    for kind in np.unique(group):
        frames = np.flatnonzero((group == kind) & np.isfinite(values))
        if len(frames) < _MIN_GROUP:
            continue
        step = values[frames] - np.median(values[frames])
        width = np.median(np.abs(step)) / 0.6745
        if width > 1e-9:
            far = step > _ROBUST_LIMIT * width if above else abs(step) > _ROBUST_LIMIT * width
            if far.mean() < _MAX_OUTLIERS:  # more of them are a population of their own
                odd.extend(frames[far].tolist())
    return np.array(sorted(odd), dtype=np.int64)


def _contradict(table: Table, frames: list[int]) -> bool:
    """Whether frames of one geometry differ in energy or forces."""
    energy, forces = table.columns.get("energy"), table.columns.get("forces")
    if energy is not None:
        values = energy.values[frames][energy.mask[frames]]
        if len(values) > 1 and np.ptp(values) > _SAME_ENERGY_EV:
            return True
    if forces is not None:
        rows = [slice(table.offsets[f], table.offsets[f + 1]) for f in frames]
        full = [forces.values[r] for r in rows if forces.mask[r].all()]
        return any(np.abs(v - full[0]).max() > _SAME_FORCE_EV_A for v in full[1:])
    return False
