"""Do labels agree with each other? Energy with forces, energy with stress, from pairs of frames."""

import itertools

import numpy as np

from dreibein.data.config import VOIGT_ASE
from dreibein.data.examination import Finding
from dreibein.data.pairs import Pairs, force_work, like_frames, near_pairs, stress_work
from dreibein.data.table import Array, Table

# Pairs with a larger rms displacement (Å) than this say little about labels.
_MAX_RMS_A = 0.35
_MAX_RMS_STRAINED_A = 0.10
# Logarithmic strains (Frobenius norm) between which stress work is seen and still well integrated.
_MIN_STRAIN, _MAX_STRAIN = 1e-3, 0.2
_MIN_PAIRS = 10
_MIN_CORRELATION = 0.8
_AGREE = (0.75, 1.35)
# Slopes of energy over force work that give a unit away.
_FORCE_SLOPES = {
    "the forces are in kcal/mol/Å while the energy is in eV": 0.0433641,
    "the energy is in kcal/mol while the forces are in eV/Å": 23.060548,
    "the forces are in eV/Å while the energy is in Ha": 1 / 27.211386,
    "the energy is in eV while the forces are in Ha/Å": 27.211386,
    "the energy is in eV while the forces are in Ha/Bohr": 51.422067,
    "the forces are per Bohr while the positions are in Å": 1.8897261,
    "the positions are in Bohr while the forces are per Å": 0.5291772,
}
_STRESS_SLOPES = {
    "it is in GPa and not in eV/Å^3": 1 / 160.21766,
    "it is in kbar and not in eV/Å^3": 1 / 1602.1766,
}
_SLOPE_TOLERANCE = 0.15
_SHEARS = ((1, 2), (0, 2), (0, 1))
_SHEAR_NAMES = ("yz", "xz", "xy")
# How much better another order must fit than the one declared.
_ORDER_GAIN = 3.0
_MIN_SHEAR_SHARE = 1e-3


def check_forces(table: Table, numbers: Array | None = None) -> Finding | None:
    """Compare E_b - E_a with the work of the forces between near frames.

    Args:
        table: Frames.
        numbers: Their numbers in the data set, for the finding.
    """
    topic, label = "energy and forces", "forces"
    if not {"energy", "forces"} <= set(table.columns):
        return None
    numbers = np.arange(len(table)) if numbers is None else numbers
    table, kept = _complete(table, ("energy", "forces"))
    if len(table) < _MIN_PAIRS:
        return _cannot(topic, None, f"only {len(table)} frames have both")
    work, change, frames = _force_pairs(table)
    if len(work) < _MIN_PAIRS:
        return _cannot(topic, None, "no two frames of the same atoms are near enough")
    slope, correlation = _slope(work, change)
    figures = f"{len(work)} pairs of near frames, slope {slope:.3g}, correlation {correlation:.3f}"
    if abs(correlation) < _MIN_CORRELATION:
        return _cannot(topic, None, f"near frames are too far apart ({figures})")
    if _AGREE[0] < slope < _AGREE[1]:
        return Finding(
            severity="info",
            topic=topic,
            label=label,
            message=f"energy differences follow the work of the forces ({figures})",
        )
    if -_AGREE[1] < slope < -_AGREE[0]:
        message = (
            f"the forces have the wrong sign: energy rises along them ({figures}); they are "
            "gradients, so write their negative"
        )
        return Finding(severity="refusal", topic=topic, label=label, message=message)
    cause = _nearest_cause(slope, _FORCE_SLOPES)
    message = f"energy differences are {slope:.3g} times the work of the forces ({figures})"
    if cause is None:
        worst = [int(numbers[kept[f]]) for f in frames[:10]]
        message += "; energy and forces belong to different methods or units"
        return Finding(severity="warning", topic=topic, label=label, message=message, frames=worst)
    message += f", as if {cause}; declare the units: --unit energy=… --unit forces=…"
    return Finding(severity="refusal", topic=topic, label=label, message=message)


def check_stress(table: Table, order: str = VOIGT_ASE) -> Finding | None:
    """Compare E_b - E_a with the work of the stress between strained frames: sign and order.

    Args:
        table: Frames.
        order: The order of six-number stresses under which the files were read.
    """
    topic = "stress sign and order"
    if "stress" not in table.columns:
        return None
    if "energy" not in table.columns:
        return _cannot(topic, "stress", "there are no energies to compare with")
    table, _ = _complete(table, ("energy", "stress"))
    if len(table) < 2:
        return _cannot(topic, "stress", "fewer than two frames have both energy and stress")
    found = _strained_pairs(table)
    number = sum(len(pairs.first) for pairs, _ in found)
    if number < _MIN_PAIRS:
        return _cannot(
            topic,
            "stress",
            "no two frames of the same atoms differ mainly by a strain "
            f"({number} such pairs, {_MIN_PAIRS} needed)",
        )
    change = np.concatenate([rest for _, rest in found])
    works = {}
    for shears in itertools.permutations(range(3)):
        stress = _reordered(table.columns["stress"].values, shears)
        works[shears] = np.concatenate([stress_work(table, pairs, stress) for pairs, _ in found])
    strains = np.concatenate([pairs.strain for pairs, _ in found])
    return _judge_stress(change, works, strains, order)


def _judge_stress(
    change: Array, works: dict[tuple[int, ...], Array], strains: Array, declared: str
) -> Finding:
    topic = "stress sign and order"
    identity = (0, 1, 2)
    slopes = {order: _slope(work, change) for order, work in works.items()}
    error = {
        order: float(np.sqrt(np.mean((change - _scaled(work, change)) ** 2)))
        for order, work in works.items()
    }
    best = min(error, key=lambda order: (error[order], order != identity))
    known = _orders_seen(works, strains)
    if best != identity and error[identity] < _ORDER_GAIN * error[best]:
        best = identity
    slope, correlation = slopes[best]
    figures = (
        f"{len(change)} pairs of strained frames, slope {slope:.3g}, correlation {correlation:.4f}"
    )
    if abs(correlation) < _MIN_CORRELATION:
        return _cannot(topic, "stress", f"energies do not follow the stress ({figures})")
    wrong = []
    if slope < 0:
        wrong.append("its sign is compression positive: --stress-sign compression")
    cause = _nearest_cause(abs(slope), _STRESS_SLOPES)
    if cause is not None:
        unit = "GPa" if "GPa" in cause else "kbar"
        wrong.append(f"{cause}: --unit stress={unit}")
    elif not _AGREE[0] < abs(slope) < _AGREE[1]:
        wrong.append(f"it is {1 / abs(slope):.3g} times too large for the energies: check its unit")
    if best != identity:
        order = _order_of_file(best, declared)
        wrong.append(
            f"its shear components are exchanged (rms error {error[identity]:.3g} eV as given, "
            f"{error[best]:.3g} eV reordered): --stress-order '{order}'"
        )
    if wrong:
        return Finding(
            severity="refusal",
            topic=topic,
            label="stress",
            message=f"the stress contradicts the energies ({figures}): " + "; ".join(wrong),
        )
    told = f"order {declared} confirmed" if known == 3 else _order_unknown(known)
    return Finding(
        severity="info",
        topic=topic,
        label="stress",
        message=f"tension is positive, {told}: energy differences follow the stress ({figures})",
    )


def _force_pairs(table: Table) -> tuple[Array, Array, list[int]]:
    """Work, change in energy of near pairs (the nearest half of each kind), and worst frames."""
    energy = table.columns["energy"].values
    field = table.columns.get("external_field")
    stress = table.columns.get("stress")
    works, changes, frames = [np.zeros(0)], [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    for members in like_frames(table):
        pairs = near_pairs(table, members)
        if not len(pairs.first):
            continue
        work = force_work(table, pairs)
        strained = np.abs(pairs.strain).max((1, 2)) > 1e-6
        keep = (pairs.rms < _MAX_RMS_A) & (pairs.rms > 1e-4)
        if stress is not None:
            both = stress.mask[pairs.first] & stress.mask[pairs.second]
            work = work + np.where(both, stress_work(table, pairs, stress.values), 0.0)
            keep &= both | ~strained
            keep &= np.abs(pairs.strain).max((1, 2)) < _MAX_STRAIN
        else:
            keep &= ~strained
        if field is not None:  # a turned molecule feels another field
            same = np.abs(field.values[pairs.first] - field.values[pairs.second]).max(1) < 1e-8
            keep &= same | (np.abs(field.values).max() == 0.0)
        if keep.any():
            near = keep & (pairs.rms <= np.quantile(pairs.rms[keep], 0.5))
            works.append(work[near])
            changes.append((energy[pairs.second] - energy[pairs.first])[near])
            frames.append(pairs.second[near])
    work, change, where = np.concatenate(works), np.concatenate(changes), np.concatenate(frames)
    order = np.argsort(-np.abs(change - work), kind="stable")
    return work, change, where[order].tolist()


def _strained_pairs(table: Table) -> list[tuple[Pairs, Array]]:
    """Pairs that differ mainly by a strain, with E_b - E_a less the work of the forces."""
    energy = table.columns["energy"].values
    forces = table.columns.get("forces")
    found = []
    for members in like_frames(table):
        if not table.pbc[members[0]].all():
            continue
        pairs = near_pairs(table, members, strained=True)
        size = np.sqrt((pairs.strain**2).sum((1, 2)))
        keep = (pairs.rms < _MAX_RMS_STRAINED_A) & (size > _MIN_STRAIN) & (size < _MAX_STRAIN)
        if not keep.any():
            continue
        pairs = Pairs(
            pairs.first[keep],
            pairs.second[keep],
            pairs.turn[keep],
            pairs.displacement[keep],
            pairs.strain[keep],
        )
        rest = energy[pairs.second] - energy[pairs.first]
        if forces is not None and forces.mask.all():
            rest = rest - force_work(table, pairs)
        found.append((pairs, rest))
    return found


def _complete(table: Table, labels: tuple[str, ...]) -> tuple[Table, Array]:
    """Frames in which the labels have no gap, and their rows."""
    keep = np.ones(len(table), dtype=bool)
    for label in labels:
        column = table.columns[label]
        if column.per_atom:
            keep &= np.bincount(table.owner, weights=~column.mask, minlength=len(table)) == 0
        else:
            keep &= column.mask
    rows = np.flatnonzero(keep)
    return (table if keep.all() else table.select(rows)), rows


def _slope(work: Array, change: Array) -> tuple[float, float]:
    """Slope of the line through the origin (geometric mean of both regressions), correlation."""
    cross = float(work @ change)
    squares = float(work @ work) * float(change @ change)
    if squares == 0.0:
        return 0.0, 0.0
    correlation = cross / np.sqrt(squares)
    return float(np.sign(cross) * np.sqrt((change @ change) / (work @ work))), float(correlation)


def _scaled(work: Array, change: Array) -> Array:
    square = float(work @ work)
    return work * (float(work @ change) / square) if square else work


def _reordered(stress: Array, order: tuple[int, ...]) -> Array:
    """Stress whose shear component k is the given component `order[k]`."""
    out = stress.copy()
    for (i, j), source in zip(_SHEARS, order):
        a, b = _SHEARS[source]
        out[:, i, j] = out[:, j, i] = stress[:, a, b]
    return out


def _order_of_file(order: tuple[int, ...], declared: str) -> str:
    """The true order of the file, if shear k is what was read as shear `order[k]`.

    >>> _order_of_file((1, 0, 2), "xx yy zz yz xz xy")
    'xx yy zz xz yz xy'
    """
    truth = {_SHEAR_NAMES[place]: _SHEAR_NAMES[k] for k, place in enumerate(order)}
    return " ".join(truth.get(word, word) for word in declared.split())


def _orders_seen(works: dict[tuple[int, ...], Array], strains: Array) -> int:
    """How many shear components the pairs excite enough to tell them apart."""
    shear = np.array([np.abs(strains[:, i, j]) for i, j in _SHEARS])
    return int((shear.max(axis=1) > _MIN_SHEAR_SHARE).sum())


def _order_unknown(known: int) -> str:
    kinds = "no shear strain" if known == 0 else f"only {known} kinds of shear strain"
    return f"the order of the shear components cannot be checked because frames have {kinds}"


def _nearest_cause(slope: float, causes: dict[str, float]) -> str | None:
    for cause, factor in causes.items():
        if abs(np.log(abs(slope) / factor)) < _SLOPE_TOLERANCE:
            return cause
    return None


def _cannot(topic: str, label: str | None, because: str) -> Finding:
    return Finding(
        severity="info", topic=topic, label=label, message=f"cannot be checked because {because}"
    )
